#include "given.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

bool given_is_file(const char *option)
{
    static const char *const FILES[] = {"init", "mask", "vae", "embedding"};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        if (!strcmp(option, FILES[i]))
            return true;
    return false;
}

/* The last time counts, but of lists each. */
static void drop_earlier(json_t *list, const char *name)
{
    for (size_t i = json_array_size(list); i-- > 0;)
        if (!strcmp(json_string_value(json_array_get(json_array_get(list, i), 0)), name))
            json_array_remove(list, i);
}

static void add(json_t *list, const Option *o, const char *value)
{
    if (o->use != OPTION_KEPT)
        return;
    if (o->kind != OPTION_LIST)
        drop_earlier(list, o->name);
    json_array_append_new(
        list, value
                  ? json_pack("[s, o]", o->name, json_name(given_is_file(o->name) ? path_base(value) : value))
                  : json_pack("[s]", o->name));
}

Status given_options(const Command *command, int argc, char **argv, char **out)
{
    json_t *list = json_array();
    *out = NULL;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2))
            continue;
        const char *name = argv[i] + 2, *equals = strchr(name, '=');
        const Option *o = options_find(command, name, equals ? (size_t)(equals - name) : strlen(name));
        if (!o) /* "--" itself */
            continue;
        const bool apart = o->kind != OPTION_FLAG && !equals;
        add(list, o, o->kind == OPTION_FLAG ? NULL : apart ? argv[i + 1] : equals + 1);
        i += apart;
    }
    if (json_array_size(list) == 0 && !json_lost()) {
        json_decref(list);
        return STATUS_OK;
    }
    char *text = json_text(list, JSON_COMPACT);
    *out = text ? mem_strdup(text) : NULL;
    free(text);
    return *out ? STATUS_OK : STATUS_FAILED;
}
