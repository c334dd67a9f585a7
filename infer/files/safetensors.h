/* safetensors files: read as every file of tensors is (tensor_file.h), written whole or not at all. */
#ifndef ATL_SAFETENSORS_H
#define ATL_SAFETENSORS_H

#include "tensor_file.h"

/* Numbers of a tensor in another file. */
typedef struct SafePiece {
    const TensorEntry *entry;
    int64_t first, count;
} SafePiece;
#define SAFE_PIECES 3

typedef struct SafeItem {
    const char *name;
    const Tensor *tensor;
    DType dtype; /* written as; floats are converted */
    int ndim;    /* shape written, where it is not the tensor's own (e.g. 0-dimensional); -1: the tensor's */
    int64_t shape[TENSOR_MAX_DIMS];
    /* What is somewhere else: called before the tensor is written, and fills it in. NULL: it is there. */
    Status (*fetch)(const Tensor *t, void *arg);
    void *arg;
    /* Where there is no tensor: these, one after another, in the shape given, as this type: their own, then
     * the bytes are copied, or a float of the engine's. */
    SafePiece pieces[SAFE_PIECES];
    int piece_count;
    ElementType type;
} SafeItem;
/* Items in the given order; header padded with spaces to 8 bytes as the reference writer does. Atomic. */
Status safetensors_write(const char *path, const SafeItem *items, int count, const TensorMeta *meta,
                         int meta_count);
const char *safetensors_type_name(ElementType t); /* "F32"; NULL: the format has none */

#endif
