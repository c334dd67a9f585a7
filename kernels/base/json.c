#include "json.h"

#include "mem.h"
#include "status.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local bool lost;

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    lost |= !p;
    return p;
}

void json_own_process(void)
{
    json_set_alloc_funcs(allocate, free);
}

bool json_lost(void)
{
    const bool was = lost;
    lost = false;
    return was;
}

char *json_text(json_t *object, size_t flags)
{
    char *text = object ? json_dumps(object, flags) : NULL;
    json_decref(object);
    if (json_lost()) {
        free(text);
        text = NULL;
        status_memory("out of memory");
    } else if (!text) {
        status_fail("cannot be written as JSON: a text in it is not UTF-8");
    }
    return text;
}

/* A failure stays known: what is made of the object that is not there gets no text either. */
json_t *json_read(const char *text, size_t size, size_t flags, json_error_t *error)
{
    json_error_t unused;
    error = error ? error : &unused;
    const bool before = json_lost();
    json_t *object = json_loadb(text, size, flags, error);
    if (lost) {
        json_decref(object);
        object = NULL;
        snprintf(error->text, sizeof error->text, "out of memory");
    }
    lost |= before;
    return object;
}

json_t *json_parse(const char *text, size_t flags, json_error_t *error)
{
    return text ? json_read(text, strlen(text), flags, error) : NULL;
}

json_t *json_name(const char *name)
{
    char *text = text_as_utf8(name);
    json_t *object = text ? json_string(text) : NULL;
    lost |= !text;
    mem_free(text);
    return object;
}
