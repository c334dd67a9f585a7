/* The tensors of a file that is to be written, gathered one at a time: exports, checkpoints, traces, models.
 */
#ifndef ATL_TENSOR_LIST_H
#define ATL_TENSOR_LIST_H

#include "safetensors.h"

typedef struct TensorList {
    SafeItem *items; /* names are the list's, tensors are borrowed */
    int count, capacity;
    bool failed; /* out of memory: tensorlist_write says so */
} TensorList;

/* Adds t under a name that is taken over (NULL: out of memory), to be written as dtype. */
void tensorlist_add(TensorList *l, char *name, const Tensor *t, DType dtype);
Status tensorlist_write(const TensorList *l, const char *path, const TensorMeta *meta, int meta_count);
void tensorlist_free(TensorList *l);

#endif
