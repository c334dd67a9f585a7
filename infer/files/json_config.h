/* Reading the config.json files of models: values with defaults and ranges, the first failure kept, so that a
 * parser reads like the list of its keys. A key whose value is null counts as absent, as in diffusers. */
#ifndef ATL_JSON_CONFIG_H
#define ATL_JSON_CONFIG_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct JsonConfig {
    json_t *root;
    const char *origin; /* for messages; borrowed */
    Status status;
    char message[512];
} JsonConfig;

/* Text that is no JSON object is the first failure. Every opened one is closed: json_config_close gives the
 * status. */
void json_config_open(JsonConfig *c, const char *json, const char *origin);
Status json_config_close(JsonConfig *c);

void json_config_fail(JsonConfig *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
const json_t *json_config_get(const JsonConfig *c, const char *key); /* NULL: absent or null */
int json_config_int(JsonConfig *c, const char *key, int absent, int min, int max);
/* min and max are exact as floats, so that what was read as one and written again lies between them too. */
double json_config_float(JsonConfig *c, const char *key, double absent, double min, double max);
#define JSON_POSITIVE 0x1p-100 /* the least that is divided by */
bool json_config_bool(JsonConfig *c, const char *key, bool absent);
const char *json_config_text(JsonConfig *c, const char *key, const char *absent); /* borrowed from c */
/* A list of n numbers, or one number for all of them, in [1, max]. */
void json_config_ints(JsonConfig *c, const char *key, int absent, int max, int n, int *out);
/* Length of a list, 0 for anything else. */
int json_config_length(const JsonConfig *c, const char *key);
const char *json_config_item(JsonConfig *c, const char *key, int i); /* text in a list, "" if it is none */

/* The key is absent, or has one of the values (a list as JSON). */
bool json_config_one_of(JsonConfig *c, const char *key, const char *values);

/* What this program's model does not have: a key that is there with another value than the one accepted (JSON
 * text) is a failure that names both. NULL-terminated by key. */
typedef struct JsonAccepted {
    const char *key, *value;
} JsonAccepted;
void json_config_accept(JsonConfig *c, const JsonAccepted *table);

#endif
