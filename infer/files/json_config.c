/* Values of a config.json; what is wrong is refused with the file, the key and the value. */
#include "json_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_config_fail(JsonConfig *c, const char *format, ...)
{
    if (c->status != STATUS_OK)
        return;
    c->status = STATUS_REFUSED;
    va_list args;
    va_start(args, format);
    vsnprintf(c->message, sizeof c->message, format, args);
    va_end(args);
}

void json_config_open(JsonConfig *c, const char *json, const char *origin)
{
    *c = (JsonConfig){.origin = origin};
    json_error_t error;
    c->root = json_parse(json, JSON_REJECT_DUPLICATES, &error);
    if (!c->root)
        json_config_fail(c, "not valid JSON: %s at line %d, column %d", error.text, error.line, error.column);
    else if (!json_is_object(c->root))
        json_config_fail(c, "is not a JSON object");
}

Status json_config_close(JsonConfig *c)
{
    json_decref(c->root);
    c->root = NULL;
    return c->status == STATUS_OK ? STATUS_OK : status_refuse("%s: %s", c->origin, c->message);
}

const json_t *json_config_get(const JsonConfig *c, const char *key)
{
    const json_t *v = json_object_get(c->root, key);
    return json_is_null(v) ? NULL : v;
}

static int check_int(JsonConfig *c, const char *key, const json_t *v, int min, int max)
{
    if (!json_is_integer(v)) {
        json_config_fail(c, "%s is not an integer", key);
        return min;
    }
    const json_int_t n = json_integer_value(v);
    if (n < min || n > max) {
        json_config_fail(c, "%s is %lld, not in %d to %d", key, (long long)n, min, max);
        return min;
    }
    return (int)n;
}

int json_config_int(JsonConfig *c, const char *key, int absent, int min, int max)
{
    const json_t *v = json_config_get(c, key);
    return v ? check_int(c, key, v, min, max) : absent;
}

double json_config_float(JsonConfig *c, const char *key, double absent, double min, double max)
{
    const json_t *v = json_config_get(c, key);
    if (!v)
        return absent;
    const double number = json_number_value(v);
    if (!json_is_number(v))
        json_config_fail(c, "%s is not a number", key);
    else if (!(number >= min && number <= max))
        json_config_fail(c, "%s is %g, not in %g to %g", key, number, min, max);
    return number;
}

bool json_config_bool(JsonConfig *c, const char *key, bool absent)
{
    const json_t *v = json_config_get(c, key);
    if (!v)
        return absent;
    if (!json_is_boolean(v))
        json_config_fail(c, "%s is not true or false", key);
    return json_is_true(v);
}

const char *json_config_text(JsonConfig *c, const char *key, const char *absent)
{
    const json_t *v = json_config_get(c, key);
    if (!v)
        return absent;
    if (!json_is_string(v)) {
        json_config_fail(c, "%s is not text", key);
        return absent;
    }
    return json_string_value(v);
}

void json_config_ints(JsonConfig *c, const char *key, int absent, int max, int n, int *out)
{
    const json_t *v = json_config_get(c, key);
    if (json_is_array(v) && json_array_size(v) != (size_t)n)
        json_config_fail(c, "%s has %zu values where %d are needed", key, json_array_size(v), n);
    for (int i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, (size_t)i) : v;
        out[i] = item ? check_int(c, key, item, 1, max) : absent;
    }
}

int json_config_length(const JsonConfig *c, const char *key)
{
    return (int)json_array_size(json_config_get(c, key));
}

const char *json_config_item(JsonConfig *c, const char *key, int i)
{
    const char *text = json_string_value(json_array_get(json_config_get(c, key), (size_t)i));
    if (!text)
        json_config_fail(c, "%s is not a list of words", key);
    return text ? text : "";
}

/* Equal as numbers (1 and 1.0), else as JSON. */
static bool same_value(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal((json_t *)a, (json_t *)b);
}

bool json_config_one_of(JsonConfig *c, const char *key, const char *values)
{
    const json_t *v = json_config_get(c, key);
    if (!v)
        return true;
    json_t *list = json_parse(values, 0, NULL);
    bool found = false;
    if (!list)
        json_config_fail(c, "out of memory");
    for (size_t i = 0; i < json_array_size(list); i++)
        found |= same_value(v, json_array_get(list, i));
    json_decref(list);
    return found;
}

void json_config_accept(JsonConfig *c, const JsonAccepted *table)
{
    for (; table->key && c->status == STATUS_OK; table++) {
        const json_t *v = json_config_get(c, table->key);
        if (!v)
            continue;
        json_t *accepted = json_parse(table->value, JSON_DECODE_ANY, NULL);
        if (!accepted) {
            json_config_fail(c, "out of memory");
        } else if (!same_value(v, accepted)) {
            char *text = json_text(json_incref((json_t *)v), JSON_ENCODE_ANY | JSON_COMPACT);
            json_config_fail(c, "%s is %s: this kind of model is not supported (%s is)", table->key,
                             text ? text : "?", table->value);
            free(text);
        }
        json_decref(accepted);
    }
}
