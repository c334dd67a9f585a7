/* safetensors files: read by mapping, written whole or not at all. */
#ifndef ATL_SAFETENSORS_H
#define ATL_SAFETENSORS_H

#include "kernels/tensor.h"

typedef struct SafeTensors SafeTensors;

typedef struct SafeEntry {
    const char *name;
    DType dtype; /* files with other element types are refused, the tensor named */
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    const void *data; /* in the mapping; aligned to 1 byte only */
    size_t bytes;
} SafeEntry;

/* Maps path. The header is checked whole: size, JSON, types, shapes, offsets inside the file, no overlap, no
 * gap. */
Status safetensors_open(const char *path, SafeTensors **out);
/* One more owner of the same mapping, each of which closes it. Returns f. */
SafeTensors *safetensors_share(SafeTensors *f);
void safetensors_close(SafeTensors *f); /* NULL allowed; with the last owner, pointers into the mapping die */
const char *safetensors_path(const SafeTensors *f);
int safetensors_count(const SafeTensors *f);
const SafeEntry *safetensors_entry(const SafeTensors *f, int i);           /* in the order of the data */
const SafeEntry *safetensors_find(const SafeTensors *f, const char *name); /* NULL: not there */
const char *safetensors_metadata(const SafeTensors *f, const char *key);   /* NULL: not there */
int safetensors_metadata_count(const SafeTensors *f);
void safetensors_metadata_entry(const SafeTensors *f, int i, const char **key, const char **value);
/* Gives back the mapped pages; they come again when touched. After each tensor that was read for good: the
 * kernel also maps what lies around, which the next tensors would not give back. */
void safetensors_release(const SafeTensors *f);

/* Files that are kept open, each once. */
typedef struct SafeFiles {
    SafeTensors **items;
    int count;
} SafeFiles;
Status safefiles_keep(SafeFiles *l, SafeTensors *f); /* a share of f, unless it is there */
void safefiles_close(SafeFiles *l);

typedef struct SafeItem {
    const char *name;
    const Tensor *tensor;
    DType dtype; /* written as; floats are converted */
    int ndim;    /* shape written, where it is not the tensor's own (e.g. 0-dimensional); -1: the tensor's */
    int64_t shape[TENSOR_MAX_DIMS];
} SafeItem;
typedef struct SafeMeta {
    const char *key, *value;
} SafeMeta;
/* Items in the given order; header padded with spaces to 8 bytes as the reference writer does. Atomic. */
Status safetensors_write(const char *path, const SafeItem *items, int count, const SafeMeta *meta,
                         int meta_count);

#endif
