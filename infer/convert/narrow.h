/* Weights that are written in 8 bits: of one item of a file two are made. */
#ifndef ATL_CONVERT_NARROW_H
#define ATL_CONVERT_NARROW_H

#include "stored.h"

typedef struct NarrowItem NarrowItem;
typedef struct Narrow {
    NarrowItem **items;
    int count, capacity;
    void *numbers; /* of the item that is being written */
    float *row;
} Narrow;

/* Whether this tensor of the part is one that is stored in 8 bits. */
bool narrow_takes(PartId id, const StoredTensor *t);
/* The weight in 8 bits in place of *item, under its name, and its scales in *scales, whose name is the
 * caller's to free. They are computed when the first is written, which has to come right before the second.
 */
Status narrow_item(Narrow *n, SafeItem *item, SafeItem *scales);
void narrow_free(Narrow *n);

#endif
