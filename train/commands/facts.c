/* Facts as text or as JSON (facts.h). */
#include "facts.h"

#include "kernels/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX 512 /* a file's own names may be long */
#define WIDTH 79
#define TEXT_MAX 400

/* The name of a member as people read it: "peak_bytes" is "peak". */
static void label_of(const char *key, bool verbatim, char label[LABEL_MAX])
{
    snprintf(label, LABEL_MAX, "%s", key);
    if (verbatim)
        return;
    char *unit = strstr(label, "_bytes");
    if (unit && unit[strlen("_bytes")] == 0)
        *unit = 0;
    for (char *s = label; *s; s++)
        if (*s == '_')
            *s = ' ';
}

static bool is_bytes(const char *key)
{
    const size_t n = strlen(key), unit = strlen("bytes");
    return n >= unit && strcmp(key + n - unit, "bytes") == 0;
}

static void print_integer(json_int_t value)
{
    char digits[32];
    const int n = snprintf(digits, sizeof digits, "%lld", (long long)value);
    for (int i = 0; i < n; i++) {
        putchar(digits[i]);
        if (n - i > 1 && (n - i - 1) % 3 == 0 && digits[i] != '-')
            putchar(',');
    }
}

static void print_bytes(double bytes)
{
    if (bytes >= 1e9)
        printf("%.2f GB", bytes / 1e9);
    else if (bytes >= 1e6)
        printf("%.1f MB", bytes / 1e6);
    else if (bytes >= 1e3)
        printf("%.1f kB", bytes / 1e3);
    else
        printf("%.0f bytes", bytes);
}

/* A text as it is, but for control characters (what files carry must not steer the terminal) and for what is
 * beyond its first TEXT_MAX bytes. */
static void clean_text(const char *text, char out[TEXT_MAX + 64])
{
    const char *end = text + strnlen(text, TEXT_MAX);
    while (*end && ((unsigned char)*end & 0xC0) == 0x80)
        end--;
    for (; text < end; text++)
        *out++ = (unsigned char)*text < 0x20 || *text == 0x7F ? ' ' : *text;
    *out = 0;
    if (*end)
        snprintf(out, 64, "… (%zu bytes more)", strlen(end));
}

static void print_scalar(const char *key, const json_t *v)
{
    char text[TEXT_MAX + 64];
    if (json_is_integer(v) && is_bytes(key))
        print_bytes((double)json_integer_value(v));
    else if (json_is_integer(v))
        print_integer(json_integer_value(v));
    else if (json_is_real(v))
        printf("%.4g", json_real_value(v));
    else if (json_is_boolean(v))
        fputs(json_is_true(v) ? "yes" : "no", stdout);
    else if (json_is_string(v)) {
        clean_text(json_string_value(v), text);
        fputs(text, stdout);
    }
}

/* Items on one line, going on below the first where the line is full. */
static void print_list(const char *key, const json_t *list, int column)
{
    int at = column;
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)list, i, item)
    {
        const int width = json_is_string(item) ? (int)strlen(json_string_value(item)) : 12;
        if (i && at + 1 + width > WIDTH) {
            printf("\n%*s", column, "");
            at = column;
        } else if (i) {
            putchar(' ');
            at++;
        }
        print_scalar(key, item);
        at += width;
    }
}

/* A line "label  value"; labels are so wide. */
static void print_member(const char *key, const char *label, const json_t *v, int indent, int width)
{
    char text[TEXT_MAX + 64];
    if (json_is_string(v)) {
        clean_text(json_string_value(v), text);
        log_row(stdout, indent + width + 2, "%*s%-*s  %s", indent, "", width, label, text);
        return;
    }
    printf("%*s%-*s  ", indent, "", width, label);
    if (json_is_array(v))
        print_list(key, v, indent + width + 2);
    else
        print_scalar(key, v);
    putchar('\n');
}

static void print_object(const json_t *o, int indent, bool verbatim);

/* An object, or a list of objects with a line between them. */
static void print_below(const json_t *v, int indent, bool verbatim)
{
    if (json_is_object(v))
        print_object(v, indent, verbatim);
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (i)
            putchar('\n');
        print_object(json_array_get(v, i), indent, verbatim);
    }
}

/* verbatim: names are a file's own, not ours. */
static void print_object(const json_t *o, int indent, bool verbatim)
{
    char label[LABEL_MAX];
    const char *key;
    json_t *v;
    int width = 0;
    json_object_foreach((json_t *)o, key, v)
    {
        label_of(key, verbatim, label);
        const bool below = json_is_object(v) || json_is_object(json_array_get(v, 0));
        if (!below && !json_is_null(v) && (int)strlen(label) > width)
            width = (int)strlen(label);
    }
    json_object_foreach((json_t *)o, key, v)
    {
        label_of(key, verbatim, label);
        if (json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0))
            continue;
        if (json_is_object(v) || json_is_object(json_array_get(v, 0))) {
            if (json_is_object(v) && json_object_size(v) == 0)
                continue;
            printf("%*s%s\n", indent, "", label);
            print_below(v, indent + 2,
                        verbatim || strcmp(key, "metadata") == 0 || strcmp(key, "folders") == 0);
            continue;
        }
        print_member(key, label, v, indent, width);
    }
}

Status facts_print(json_t *facts, bool as_json)
{
    char *text = json_text(json_incref(facts), JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    if (text && as_json)
        printf("%s\n", text);
    else if (text)
        print_object(facts, 0, false);
    json_decref(facts);
    free(text);
    return text ? STATUS_OK : STATUS_FAILED;
}
#include "kernels/base/log.h"
