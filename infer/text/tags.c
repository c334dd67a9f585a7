#include "tags.h"

#include "kernels/base/buffer.h"
#include "kernels/base/mem.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* "<lora:NAME…>" at p: where the name begins and the tag's last sign; false: there is none. */
static bool find_tag(const char *p, const char **name, const char **end)
{
    *name = begins_with(p, "<lora:") || begins_with(p, "<lyco:") ? p + 6 : NULL;
    *end = *name ? strchr(*name, '>') : NULL;
    return *end && *end > *name;
}

static Status add_tag(PromptTags *t, const char *name, const char *end)
{
    if (!mem_grow(&t->items, t->count, &t->capacity, sizeof *t->items))
        return STATUS_FAILED;
    const char *colon = memchr(name, ':', (size_t)(end - name));
    const char *strength = colon ? colon + 1 : end;
    PromptTag tag = {.name = mem_printf("%.*s", (int)((colon ? colon : end) - name), name),
                     .strength = mem_printf("%.*s", (int)(end - strength), strength)};
    if (!tag.name || !tag.strength) {
        mem_free(tag.name);
        mem_free(tag.strength);
        return STATUS_FAILED;
    }
    t->items[t->count++] = tag;
    return STATUS_OK;
}

static Status take_all(const char *prompt, Buffer *text, PromptTags *out)
{
    const char *name, *end;
    for (const char *p = prompt; *p; p++) {
        if (begins_with(p, "<hypernet:") && strchr(p, '>'))
            return status_refuse("the prompt has `%.*s`: hypernetworks are not supported",
                                 (int)(strchr(p, '>') + 1 - p), p);
        if (find_tag(p, &name, &end)) {
            TRY(add_tag(out, name, end));
            p = end;
        } else {
            buffer_add(text, "%c", *p);
        }
    }
    return STATUS_OK;
}

Status prompt_tags(const char *prompt, char **text, PromptTags *out)
{
    Buffer b = {0};
    *text = NULL;
    *out = (PromptTags){0};
    buffer_add(&b, "%s", "");
    Status s = take_all(prompt, &b, out);
    const Status taken = buffer_take(&b, text);
    s = s == STATUS_OK ? taken : s;
    if (s != STATUS_OK) {
        mem_free(*text);
        *text = NULL;
        prompt_tags_free(out);
        return s;
    }
    for (size_t n = strlen(*text); out->count && n && isspace((unsigned char)(*text)[n - 1]); n--)
        (*text)[n - 1] = 0; /* what stood between the words and the tags */
    return STATUS_OK;
}

void prompt_tags_free(PromptTags *t)
{
    for (int i = 0; i < t->count; i++) {
        mem_free(t->items[i].name);
        mem_free(t->items[i].strength);
    }
    mem_free(t->items);
    *t = (PromptTags){0};
}
