/* What a format of tensor files is: a name, how its files begin, and a function that lists what is in one.
 *
 * To add a format: a file with its TensorFormat, its name in TENSOR_FORMATS, and a FormatTest in
 * tests/infer/formats/; a format without either does not link. */
#ifndef ATL_TENSOR_FORMAT_H
#define ATL_TENSOR_FORMAT_H

#include "tensor_file.h"

#define TENSOR_FORMATS(X) X(safetensors) X(ckpt)

typedef struct TensorFormat {
    const char *name;
    /* From a file's first bytes (n of them, at most TENSOR_HEAD). */
    bool (*recognises)(const uint8_t *head, size_t n);
    /* f is mapped: adds what is in it, tensors in the order of their data. What has to live as long as f is
     * kept in f->own. Messages name the tensor; the path is put before them. */
    Status (*read)(TensorFile *f);
    void (*close)(void *own); /* frees it; not called where it is NULL */
} TensorFormat;
#define TENSOR_HEAD 64

struct TensorFile {
    const TensorFormat *format;
    char *path;
    const uint8_t *map;
    size_t size; /* of the whole file */
    TensorEntry *entries;
    int count, capacity;
    int *by_name; /* indices of entries, sorted by name */
    TensorMeta *metadata;
    int metadata_count, metadata_capacity;
    void *own; /* the format's */
    int users;
};

/* One more tensor: e's shape and strides are copied, its names live as long as f. */
Status tensorfile_add(TensorFile *f, const TensorEntry *e);
void tensorfile_sort(TensorFile *f); /* by where the data lie */
Status tensorfile_add_metadata(TensorFile *f, const char *key,
                               const char *value); /* both live as long as f */

#define TENSOR_FORMAT(name) extern const TensorFormat format_##name;
TENSOR_FORMATS(TENSOR_FORMAT)
#undef TENSOR_FORMAT

#endif
