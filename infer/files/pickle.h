/* Pickles, Python's way of writing objects down: a program for a small stack machine. Here the machine builds
 * plain values and does nothing else. Where Python would look a function up and call it, a value stands that
 * names the function and has its arguments; the caller says beforehand which names may occur at all.
 *
 *     Arena a = {.left = 2 * file_size};
 *     TRY(pickle_read(&a, bytes, size, allowed, &pickle));
 *     arena_free(&a);
 */
#ifndef ATL_PICKLE_H
#define ATL_PICKLE_H

#include "kernels/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Memory that is freed as a whole, and never more than there was `left` at first. */
typedef struct Arena {
    size_t left;
    void *blocks; /* the newest first */
    size_t used, room;
} Arena;
void *arena_take(Arena *a, size_t bytes);    /* aligned to 8; not cleared; NULL: says why in the status */
Status arena_charge(Arena *a, size_t bytes); /* counts what is taken elsewhere */
void arena_free(Arena *a);

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,   /* count bytes at text */
    PICKLE_LIST,   /* lists, tuples and sets: count items */
    PICKLE_DICT,   /* count items: key, value, key, value, … */
    PICKLE_GLOBAL, /* a name: count bytes at text, "module name" with a newline between the two */
    PICKLE_CALL,   /* items: a global and the list of what it would be called with */
    PICKLE_REF,    /* one item: what a persistent id is made of */
    PICKLE_OPAQUE, /* an object that nobody needs; what it holds was skipped */
    PICKLE_MARK    /* inside of the machine only */
} PickleKind;

typedef struct PickleValue PickleValue;
struct PickleValue {
    PickleKind kind;
    int count, capacity;
    union {
        int64_t whole;
        double real;
        const char *text; /* in the pickle's bytes, without a 0 at its end */
        PickleValue **items;
    };
};

/* What may be made of a global name. */
typedef enum PickleUse {
    PICKLE_REFUSED,
    PICKLE_KEPT,    /* a PICKLE_CALL where it is called */
    PICKLE_AS_DICT, /* an empty dict where it is called */
    PICKLE_SKIPPED  /* PICKLE_OPAQUE */
} PickleUse;
typedef PickleUse PickleAllowed(const char *module, size_t module_length, const char *name,
                                size_t name_length);

typedef struct Pickle {
    PickleValue *root;
    PickleValue refs; /* a list of all PICKLE_REF in it */
    size_t used;      /* bytes, up to its end */
} Pickle;

/* Runs the pickle at the beginning of these bytes, which ends with the first STOP. Values may occur in
 * several places, and in themselves: who walks through them has to count. Everything is a's. What is not
 * known or not allowed is named in the message. */
Status pickle_read(Arena *a, const uint8_t *bytes, size_t size, PickleAllowed *allowed, Pickle *out);
bool pickle_is_text(const PickleValue *v, const char *text);
bool pickle_is_global(const PickleValue *v, const char *name);           /* "module\nname" */
const PickleValue *pickle_get(const PickleValue *dict, const char *key); /* NULL: no dict, or not there */

#endif
