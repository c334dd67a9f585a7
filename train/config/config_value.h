/* One value of a configuration, between a YAML node, its field, and YAML text: both ways beside each other.
 */
#ifndef ATL_CONFIG_VALUE_H
#define ATL_CONFIG_VALUE_H

#include "kernels/base/buffer.h"
#include "schema.h"
#include "yaml.h"

/* Stores the node's value in the key's field, replacing what was there. Refuses a wrong type or range by
 * line. */
Status value_read(const SchemaKey *k, const YamlNode *n, Config *c, int dataset);
/* Stores the key's default, if it has one; c has what it depends on. */
Status value_preset(const SchemaKey *k, Config *c, int dataset);
/* The field's value as it stands in YAML, on one line. False if there is none (a text that is NULL). */
bool value_write(const SchemaKey *k, const Config *c, int dataset, Buffer *out);
void value_free(const SchemaKey *k, Config *c, int dataset);

#endif
