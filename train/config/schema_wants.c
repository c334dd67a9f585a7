/* What a key wants, in words: for messages, help and pages. */
#include "schema.h"

#include <stdio.h>
#include <string.h>

static void wants_number(const SchemaKey *k, const char *what, char *buf, size_t size)
{
    int used = snprintf(buf, size, "%s from %.10g to %.10g", what, k->min, k->max);
    if (k->multiple && used > 0 && (size_t)used < size)
        snprintf(buf + used, size - (size_t)used, ", a multiple of %d", k->multiple);
}

static void wants_choice(const SchemaKey *k, char *buf, size_t size)
{
    char name[SCHEMA_NAME];
    if (k->type == KEY_SWITCH_OR) {
        schema_choice(k->choices, 0, name);
        snprintf(buf, size, "true, false or %s", name);
        return;
    }
    snprintf(buf, size, "%s",
             k->type == KEY_FLAGS      ? "a list of: "
             : strchr(k->choices, '|') ? "one of "
                                       : "");
    for (int i = 0; schema_choice(k->choices, i, name); i++) {
        const size_t used = strlen(buf);
        snprintf(buf + used, size - used, "%s%s", i ? ", " : "", name);
    }
}

const char *schema_wants(const SchemaKey *k, char *buf, size_t size)
{
    buf[0] = 0;
    if (k->choices)
        wants_choice(k, buf, size);
    else if (k->type == KEY_INT || k->type == KEY_INT64)
        wants_number(k, "a whole number", buf, size);
    else if (k->type == KEY_INTS)
        wants_number(k, "a whole number (or a list of them)", buf, size);
    else if (k->type == KEY_FLOAT || k->type == KEY_DOUBLE)
        wants_number(k, "a number", buf, size);
    else
        snprintf(buf, size, "%s",
                 k->type == KEY_UINT64   ? "a whole number from 0 to 18446744073709551615"
                 : k->type == KEY_SWITCH ? "true or false"
                 : k->type == KEY_TEXTS  ? "a list of texts"
                 : k->type == KEY_PATH   ? "a path"
                                         : "a text");
    return buf;
}
