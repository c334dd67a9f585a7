/* A part's tensors as they lie in a model's files, under diffusers' names and in its shapes: what is written
 * again without having been a model in between, so that every bit stays. */
#ifndef ATL_STORED_H
#define ATL_STORED_H

#include "infer/models/parts.h"

typedef struct StoredTensor {
    char *name; /* "down_blocks.0.…weight" */
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    SafePiece piece; /* where it lies */
} StoredTensor;

typedef struct StoredPart {
    StoredTensor *items; /* in the order of the part's layers */
    int count, capacity;
    Weights *weights; /* keep the files open */
} StoredPart;

/* Fails where a tensor that the part's configuration asks for is missing or of another shape; warns of those
 * that no layer asks for. config is parsed from m's. */
Status stored_part_open(const Model *m, PartId id, StoredPart *out);
void stored_part_close(StoredPart *p);
/* As it is to be written, under this name, in its own type or another (not NULL). */
SafeItem stored_item(const StoredTensor *t, const char *name, const DType *dtype);

#endif
