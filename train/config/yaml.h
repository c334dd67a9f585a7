/* YAML as a tree of nodes that know where they stand, so that every complaint can name line and column.
 *
 * Scalars stay text: what type a value has is the schema's matter, never the look of the word. Read through
 * libyaml's events and stricter than YAML: one document; keys are plain or quoted words; no tags, no merge
 * keys, no key twice; at most 10,000 nodes once aliases are expanded, 64 levels deep. Aliases share the node
 * of their anchor: a tree is never changed in place, yaml_set copies the maps and lists on its way. */
#ifndef ATL_YAML_H
#define ATL_YAML_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

#define YAML_MAX_NODES 10000
#define YAML_MAX_DEPTH 64
#define YAML_MAX_BYTES (1 << 20)

typedef enum YamlKind { YAML_IS_TEXT, YAML_IS_LIST, YAML_IS_MAP } YamlKind;

typedef struct YamlNode YamlNode;
typedef struct YamlPair {
    const char *key, *origin;
    int line, column; /* of the key */
    YamlNode *value;
} YamlPair;

struct YamlNode {
    YamlKind kind;
    const char *origin; /* the file's name, or "--set KEY=VALUE" */
    int line, column;   /* from 1; line 0: the origin says it all */
    const char *text;   /* scalars: 0-terminated UTF-8 */
    bool quoted;        /* scalars: written in quotes or as a block */
    int count;          /* lists and maps */
    YamlNode **items;   /* lists */
    YamlPair *pairs;    /* maps, in the order of the file */
    long expanded;      /* nodes in it with aliases expanded */
};

typedef struct YamlDoc YamlDoc;
Status yaml_doc_new(YamlDoc **out);
void yaml_doc_free(YamlDoc *d); /* and every node made by it; NULL allowed */

/* Reads a whole document. origin is the name for messages (copied). *root is never NULL on success. */
Status yaml_read(YamlDoc *d, const char *path, YamlNode **root);
Status yaml_parse(YamlDoc *d, const char *origin, const char *text, size_t size, YamlNode **root);
/* A scalar node with this text, as if quoted; for --set. */
Status yaml_scalar(YamlDoc *d, const char *origin, const char *text, YamlNode **out);

/* Makes messages about the tree name its origin alone: the text of a --set has no lines worth naming. */
void yaml_forget_lines(YamlNode *n);

/* The value of key in a map, or NULL. */
YamlNode *yaml_get(const YamlNode *map, const char *key);
/* A copy of the tree at *root where the path's value is `value`; missing maps on the way are made. A part of
 * the path that is a number steps into a list. Fails where the path leads through a scalar or past a list's
 * end. */
Status yaml_set(YamlDoc *d, YamlNode **root, const char *path, YamlNode *value);

/* A refusal "FILE:LINE:COLUMN: message" (or "--set KEY=VALUE: message") at a node. */
Status yaml_refuse(const YamlNode *at, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* True for a value that was left empty ("key:"), which is neither text nor number. */
bool yaml_is_empty(const YamlNode *n);

#endif
