/* A value's three forms. Numbers are in C's notation whatever the locale; a number is checked against the
 * key's range as it was written, then rounded to the field's type. */
#include "config_value.h"

#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From a node ------------------------------------------------------------------------------------------ */

/* A node as a message quotes it: "a list", or the text, cut where it is long. */
static const char *shown(const YamlNode *n, char *buf, size_t size)
{
    const size_t most = 40;
    if (yaml_is_empty(n))
        snprintf(buf, size, "nothing");
    else if (n->kind != YAML_IS_TEXT)
        snprintf(buf, size, "%s", n->kind == YAML_IS_LIST ? "a list" : "keys below it");
    else if (strlen(n->text) <= most)
        snprintf(buf, size, "\"%s\"", n->text);
    else {
        size_t cut = most;
        while (cut && ((unsigned char)n->text[cut] & 0xC0) == 0x80)
            cut--;
        snprintf(buf, size, "\"%.*s…\"", (int)cut, n->text);
    }
    return buf;
}

static Status refuse_value(const SchemaKey *k, const YamlNode *n, const char *advice)
{
    char wants[320], value[128];
    return yaml_refuse(n, "%s wants %s, not %s%s", k->path, schema_wants(k, wants, sizeof wants),
                       shown(n, value, sizeof value), advice);
}

#define BEYOND "; it is beyond the numbers that can be held, about 1e-38 to 1e38"

static bool is_out_of_range(const char *text)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    return end != text && !*end && errno == ERANGE && (value == 0 || isinf(value));
}

/* What may be wrong with a number that is none, or is none of the kind that is wanted. */
static const char *number_advice(const char *text)
{
    static const struct {
        const char *part, *advice;
    } SIGNS[] = {{",", "; numbers are written without commas, with a point for decimals"},
                 {"%", "; a share is written as 0.1, not 10%"},
                 {"_", "; digits are written without _ between them"},
                 {"^", "; powers of ten are written as 1e-4"},
                 {"/", "; a fraction is written as a decimal, 0.25"},
                 {"\u2212", "; the minus is another character, write the - of the keyboard"},
                 {"\u2013", "; the minus is another character, write the - of the keyboard"}};
    double value;
    if (is_out_of_range(text))
        return BEYOND;
    for (size_t i = 0; i < sizeof SIGNS / sizeof *SIGNS; i++)
        if (strstr(text, SIGNS[i].part))
            return SIGNS[i].advice;
    return text_to_float(text, &value) && strpbrk(text, ".eE") ? "; write it out in digits, as 1000" : "";
}

static Status read_integer(const SchemaKey *k, const YamlNode *n, void *field)
{
    int64_t value;
    uint64_t positive;
    if (k->type == KEY_UINT64) {
        if (!text_to_uint(n->text, &positive))
            return refuse_value(k, n, number_advice(n->text));
        *(uint64_t *)field = positive;
        return STATUS_OK;
    }
    if (!text_to_int(n->text, &value))
        return refuse_value(k, n, number_advice(n->text));
    if ((double)value < k->min || (double)value > k->max)
        return refuse_value(k, n, "");
    if (k->multiple && value % k->multiple)
        return refuse_value(k, n, "");
    if (k->type == KEY_INT)
        *(int *)field = (int)value;
    else
        *(int64_t *)field = value;
    return STATUS_OK;
}

static Status read_real(const SchemaKey *k, const YamlNode *n, void *field)
{
    double value;
    if (!text_to_float(n->text, &value))
        return refuse_value(k, n, number_advice(n->text));
    if (value < k->min || value > k->max)
        return refuse_value(k, n, "");
    if (k->type != KEY_DOUBLE && value != 0 && (float)value == 0)
        return refuse_value(k, n, BEYOND);
    if (k->type == KEY_DOUBLE)
        *(double *)field = value;
    else
        *(float *)field = (float)value;
    return STATUS_OK;
}

static Status read_switch(const SchemaKey *k, const YamlNode *n, bool *field)
{
    return schema_yes_or_no(n->text, field) ? STATUS_OK : refuse_value(k, n, "");
}

#define MAX_CHOICES 16
/* The place of n's word among the key's choices. */
static Status read_choice(const SchemaKey *k, const YamlNode *n, int *out)
{
    char words[MAX_CHOICES][SCHEMA_NAME], advice[SCHEMA_NAME + 32] = "";
    const char *pointers[MAX_CHOICES];
    int count = 0;
    for (; count < MAX_CHOICES && schema_choice(k->choices, count, words[count]); count++) {
        pointers[count] = words[count];
        if (n->kind == YAML_IS_TEXT && strcmp(n->text, words[count]) == 0) {
            *out = count;
            return STATUS_OK;
        }
    }
    const char *nearest =
        n->kind == YAML_IS_TEXT && n->text[0] ? text_nearest(n->text, pointers, count) : NULL;
    if (nearest)
        snprintf(advice, sizeof advice, "; did you mean %s?", nearest);
    return refuse_value(k, n, advice);
}

/* Yes, no, or the key's third word. */
static Status read_switch_or(const SchemaKey *k, const YamlNode *n, int *out)
{
    bool yes;
    if (!schema_yes_or_no(n->text, &yes))
        return read_choice(k, n, out);
    *out = yes ? SWITCH_ON : SWITCH_OFF;
    return STATUS_OK;
}

/* No, yes, or a further word. */
static Status read_switch_and(const SchemaKey *k, const YamlNode *n, int *out)
{
    bool yes;
    if (!schema_yes_or_no(n->text, &yes))
        return read_choice(k, n, out);
    *out = yes;
    return STATUS_OK;
}

static Status replace_text(char **field, const char *text)
{
    char *copy = mem_strdup(text);
    if (!copy)
        return STATUS_FAILED;
    mem_free(*field);
    *field = copy;
    return STATUS_OK;
}

static Status read_text(const SchemaKey *k, const YamlNode *n, char **field)
{
    int place;
    if (k->choices)
        TRY(read_choice(k, n, &place));
    if (yaml_is_empty(n))
        return refuse_value(k, n, k->type == KEY_PATH ? "" : " (an empty text is written \"\")");
    if (k->type == KEY_PATH && n->text[0] == 0)
        return refuse_value(k, n, "");
    return replace_text(field, n->text);
}

static Status read_texts(const SchemaKey *k, const YamlNode *n, char **items, int *count)
{
    const bool one = n->kind == YAML_IS_TEXT; /* stands for a list of one */
    const int size = one ? 1 : n->count;
    if (n->kind == YAML_IS_MAP || yaml_is_empty(n))
        return refuse_value(k, n, "");
    if (size > CONFIG_MAX_LIST)
        return yaml_refuse(n, "%s has %d items; %d are allowed", k->path, size, CONFIG_MAX_LIST);
    while (*count > 0)
        mem_free(items[--*count]);
    for (int i = 0; i < size; i++) {
        const YamlNode *item = one ? n : n->items[i];
        if (item->kind != YAML_IS_TEXT)
            return yaml_refuse(item,
                               "%s wants a list of texts, and this is %s (text that contains \": \" goes in "
                               "quotes)",
                               k->path, item->kind == YAML_IS_MAP ? "a key with a value" : "a list");
        if (yaml_is_empty(item))
            return yaml_refuse(item, "%s: an item without text (an empty text is written \"\")", k->path);
        items[i] = NULL;
        TRY(replace_text(&items[i], item->text));
        *count = i + 1;
    }
    return STATUS_OK;
}

static Status read_flags(const SchemaKey *k, const YamlNode *n, bool *flags)
{
    const bool one = n->kind == YAML_IS_TEXT;
    char word[SCHEMA_NAME];
    int place;
    if (n->kind == YAML_IS_MAP || yaml_is_empty(n) || (!one && n->count == 0))
        return refuse_value(k, n, n->kind == YAML_IS_LIST ? " without items" : "");
    for (int i = 0; schema_choice(k->choices, i, word); i++)
        flags[i] = false;
    for (int i = 0; i < (one ? 1 : n->count); i++) {
        TRY(read_choice(k, one ? n : n->items[i], &place));
        flags[place] = true;
    }
    return STATUS_OK;
}

static Status read_ints(const SchemaKey *k, const YamlNode *n, Resolutions *out)
{
    const bool one = n->kind == YAML_IS_TEXT; /* stands for a list of one */
    const int size = one ? 1 : n->count;
    if (n->kind == YAML_IS_MAP || yaml_is_empty(n) || size == 0)
        return refuse_value(k, n, n->kind == YAML_IS_LIST ? " without items" : "");
    if (size > CONFIG_MAX_SIZES)
        return yaml_refuse(n, "%s has %d items; %d are allowed", k->path, size, CONFIG_MAX_SIZES);
    const SchemaKey single = {
        .path = k->path, .type = KEY_INT, .min = k->min, .max = k->max, .multiple = k->multiple};
    out->count = 0;
    for (int i = 0; i < size; i++) {
        const YamlNode *item = one ? n : n->items[i];
        int value;
        if (item->kind != YAML_IS_TEXT)
            return refuse_value(k, item, "");
        TRY(read_integer(&single, item, &value));
        for (int j = 0; j < i; j++)
            if (out->sides[j] == value)
                return yaml_refuse(item, "%s has %d twice", k->path, value);
        if (value == 0 && size > 1)
            return yaml_refuse(item, "%s: 0 stands alone, not in a list", k->path);
        out->sides[out->count++] = value;
    }
    return STATUS_OK;
}

Status value_read(const SchemaKey *k, const YamlNode *n, Config *c, int dataset)
{
    void *field = schema_field(k, c, dataset);
    if (k->type == KEY_TEXTS)
        return read_texts(k, n, field, (int *)((char *)c + k->count_offset));
    if (k->type == KEY_FLAGS)
        return read_flags(k, n, field);
    if (k->type == KEY_INTS)
        return read_ints(k, n, field);
    if (n->kind != YAML_IS_TEXT)
        return refuse_value(k, n, "");
    switch (k->type) {
    case KEY_TEXT:
    case KEY_PATH:
        return read_text(k, n, field);
    case KEY_FLOAT:
    case KEY_DOUBLE:
        return read_real(k, n, field);
    case KEY_SWITCH:
        return read_switch(k, n, field);
    case KEY_SWITCH_OR:
        return read_switch_or(k, n, field);
    case KEY_SWITCH_AND:
        return read_switch_and(k, n, field);
    case KEY_CHOICE:
        return read_choice(k, n, field);
    default:
        return read_integer(k, n, field);
    }
}

Status value_preset(const SchemaKey *k, Config *c, int dataset)
{
    const char *preset = schema_preset(k, c, dataset);
    if (!preset || (k->type == KEY_FLAGS && !*preset)) /* none */
        return STATUS_OK;
    const YamlNode n = {.kind = YAML_IS_TEXT, .origin = "the default", .text = preset, .quoted = true};
    return value_read(k, &n, c, dataset);
}

/* To text ---------------------------------------------------------------------------------------------- */

/* The shortest decimal that gives the same float or double again; with a point before an exponent, which
 * readers of YAML 1.1 want. */
static void write_real(double value, bool single, Buffer *out)
{
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value)
            break;
    }
    const char *exponent = strchr(text, 'e');
    if (exponent && !strchr(text, '.'))
        buffer_add(out, "%.*s.0%s", (int)(exponent - text), text, exponent);
    else
        buffer_add(out, "%s", text);
}

/* True if every reader of YAML takes the word for a text as it stands, inside brackets too. */
static bool plain(const char *text)
{
    static const char *const WORDS[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const size_t length = strlen(text);
    if (length == 0 || length > 200 || (!strchr(LETTERS, text[0]) && text[0] != '/') ||
        text[length - 1] == ' ')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!strchr(LETTERS, text[i]) && !strchr("0123456789 _./-+", text[i]) &&
            !(text[i] == ':' && text[i + 1] && text[i + 1] != ' '))
            return false;
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (text_distance(text, WORDS[i]) == 0) /* upper and lower case alike */
            return false;
    return true;
}

/* The code point at *s, which is valid UTF-8; moves *s behind it. */
static uint32_t next_code_point(const char **s)
{
    const unsigned char *p = (const unsigned char *)*s;
    const int more = p[0] < 0xC0 ? 0 : p[0] < 0xE0 ? 1 : p[0] < 0xF0 ? 2 : 3;
    uint32_t code = more ? p[0] & (0x3Fu >> more) : p[0];
    for (int i = 1; i <= more; i++)
        code = code << 6 | (p[i] & 0x3Fu);
    *s += 1 + more;
    return code;
}

static bool printable(uint32_t code)
{
    return (code >= 0x20 && code <= 0x7E) || (code >= 0xA0 && code < 0x2028) ||
           (code > 0x2029 && code < 0xFEFF) || (code > 0xFEFF && code < 0xFFFE) || code >= 0x10000;
}

static void write_text(const char *text, Buffer *out)
{
    if (plain(text)) {
        buffer_add(out, "%s", text);
        return;
    }
    buffer_add(out, "\"");
    while (*text) {
        const char *begin = text;
        const uint32_t code = next_code_point(&text);
        if (code == '"' || code == '\\')
            buffer_add(out, "\\%c", (int)code);
        else if (code == '\n')
            buffer_add(out, "\\n");
        else if (code == '\t')
            buffer_add(out, "\\t");
        else if (printable(code))
            buffer_add(out, "%.*s", (int)(text - begin), begin);
        else
            buffer_add(out, "\\u%04X", (unsigned)code); /* what is not printable lies below U+10000 */
    }
    buffer_add(out, "\"");
}

/* false: there are none, which is written by leaving the key out. */
static bool write_flags(const SchemaKey *k, const bool *flags, Buffer *out)
{
    char word[SCHEMA_NAME];
    const char *before = "[";
    for (int i = 0; schema_choice(k->choices, i, word); i++)
        if (flags[i]) {
            buffer_add(out, "%s%s", before, word);
            before = ", ";
        }
    if (*before == '[')
        return false;
    buffer_add(out, "]");
    return true;
}

static void write_ints(const Resolutions *r, Buffer *out)
{
    if (r->count == 1) {
        buffer_add(out, "%d", r->sides[0]);
        return;
    }
    for (int i = 0; i < r->count; i++)
        buffer_add(out, "%s%d", i ? ", " : "[", r->sides[i]);
    buffer_add(out, "]");
}

static void write_texts(char *const *items, int count, Buffer *out)
{
    buffer_add(out, "[");
    for (int i = 0; i < count; i++) {
        buffer_add(out, "%s", i ? ", " : "");
        write_text(items[i], out);
    }
    buffer_add(out, "]");
}

bool value_write(const SchemaKey *k, const Config *c, int dataset, Buffer *out)
{
    const void *field = schema_field_const(k, c, dataset);
    char word[SCHEMA_NAME] = "";
    switch (k->type) {
    case KEY_TEXT:
    case KEY_PATH:
        if (!*(char *const *)field)
            return false;
        write_text(*(char *const *)field, out);
        break;
    case KEY_INT:
        buffer_add(out, "%d", *(const int *)field);
        break;
    case KEY_INTS:
        if (((const Resolutions *)field)->count == 0)
            return false;
        write_ints(field, out);
        break;
    case KEY_INT64:
        buffer_add(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case KEY_UINT64:
        buffer_add(out, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case KEY_FLOAT:
        write_real(*(const float *)field, true, out);
        break;
    case KEY_DOUBLE:
        write_real(*(const double *)field, false, out);
        break;
    case KEY_SWITCH:
        buffer_add(out, "%s", *(const bool *)field ? "true" : "false");
        break;
    case KEY_CHOICE:
    case KEY_SWITCH_OR:
    case KEY_SWITCH_AND:
        schema_choice(k->choices, *(const int *)field, word);
        buffer_add(out, "%s", word);
        break;
    case KEY_TEXTS:
        write_texts(field, *(const int *)((const char *)c + k->count_offset), out);
        break;
    case KEY_FLAGS:
        return write_flags(k, field, out);
    }
    return true;
}

void value_free(const SchemaKey *k, Config *c, int dataset)
{
    char **field = schema_field(k, c, dataset);
    if (k->type == KEY_TEXT || k->type == KEY_PATH) {
        mem_free(*field);
        *field = NULL;
    } else if (k->type == KEY_TEXTS) {
        int *count = (int *)((char *)c + k->count_offset);
        while (*count > 0)
            mem_free(field[--*count]);
    }
}
