/* Files of tensors, whatever their format: what is in them by name, and the numbers as a type of the
 * engine's.
 *
 *     TRY(tensorfile_open(path, &f));
 *     const TensorEntry *e = tensorfile_find(f, "conv_in.weight");
 *     TRY(tensor_entry_read(e, DTYPE_F32, numbers));
 *
 * A tensor that nobody asks for never matters, whatever its type, size or number of dimensions; one that is
 * asked for and cannot be read is an error that names it. */
#ifndef ATL_TENSOR_FILE_H
#define ATL_TENSOR_FILE_H

#include "element.h"

typedef struct TensorFile TensorFile;

typedef struct TensorEntry {
    const char *name;
    TensorFile *file;
    ElementType type;
    const char *type_name;  /* as the file says it */
    int ndim;               /* any number */
    const int64_t *shape;   /* its elements can be counted: tensor_entry_count */
    const int64_t *strides; /* in elements; NULL: one row after another without gaps */
    const void *data;       /* in the mapping; aligned to 1 byte only */
    size_t bytes;           /* in the file; with strides: from its first to its last number */
} TensorEntry;

typedef struct TensorMeta {
    const char *key, *value;
} TensorMeta;

/* Maps path and reads what its format says of the tensors, checked whole: every entry lies inside of the file
 * and has the bytes of its type and shape. What is no file of tensors is named for what it is. */
Status tensorfile_open(const char *path, TensorFile **out);
/* One more owner of the same mapping, each of which closes it. Returns f. */
TensorFile *tensorfile_share(TensorFile *f);
void tensorfile_close(TensorFile *f); /* NULL allowed; with the last owner, entries and their data die */
const char *tensorfile_path(const TensorFile *f);
const char *tensorfile_format(const TensorFile *f); /* "safetensors" */
int tensorfile_count(const TensorFile *f);
const TensorEntry *tensorfile_entry(const TensorFile *f, int i);           /* in the order of the data */
const TensorEntry *tensorfile_find(const TensorFile *f, const char *name); /* NULL: not there */
bool tensorfile_holds(const TensorFile *f, const char *beginning);     /* a tensor whose name begins so? */
const char *tensorfile_metadata(const TensorFile *f, const char *key); /* NULL: not there */
int tensorfile_metadata_count(const TensorFile *f);
TensorMeta tensorfile_metadata_entry(const TensorFile *f, int i);
/* Gives back the mapped pages; they come again when touched. After each tensor that was read for good: the
 * kernel also maps what lies around, which the next tensors would not give back. */
void tensorfile_release(const TensorFile *f);

int64_t tensor_entry_count(const TensorEntry *e); /* of elements */
/* "(320,4,3,3) f32" into buf; returns buf. */
const char *tensor_entry_describe(const TensorEntry *e, char *buf, size_t size);
bool tensor_entry_is_shaped(const TensorEntry *e, int ndim, const int64_t *shape);
/* Where the numbers can be used as they lie in the file: in this type, row after row; else NULL. They may
 * begin at any address. */
const void *tensor_entry_mapped(const TensorEntry *e, DType type);
/* All of its numbers, row after row, as f32, bf16 or f16 from any kind of float, or as the type they have. */
Status tensor_entry_read(const TensorEntry *e, DType type, void *to);
/* n of them from the first on. */
Status tensor_entry_read_part(const TensorEntry *e, int64_t first, int64_t n, DType type, void *to);
/* n of them from the first on, as they are stored, row after row. Of a known type. */
void tensor_entry_read_raw(const TensorEntry *e, int64_t first, int64_t n, void *to);
/* Fills t, wherever it lives, with its numbers from the first on. */
Status tensor_entry_load(const TensorEntry *e, int64_t first, Tensor *t);
/* Refuses a tensor of which one of n numbers, from the first on, is NaN or infinity or would be in this type;
 * names it and the number,
 * the file is the caller's to name. */
Status tensor_entry_check_finite(const TensorEntry *e, int64_t first, int64_t n, DType type);
/* A matrix with rows and columns changed, over the same numbers: entry points into the struct, which stays
 * where it is. */
typedef struct TurnedEntry {
    TensorEntry entry;
    int64_t shape[2], strides[2];
} TurnedEntry;
Status tensor_entry_turn(const TensorEntry *e, TurnedEntry *out); /* fails where e is no matrix */
/* The number in a tensor of one element, of any type and number of dimensions. The message names no file. */
Status tensor_entry_number(const TensorEntry *e, double *out);

/* Files that are kept open, each once. */
typedef struct TensorFiles {
    TensorFile **items;
    int count;
} TensorFiles;
Status tensorfiles_keep(TensorFiles *l, TensorFile *f); /* a share of f, unless it is there */
void tensorfiles_close(TensorFiles *l);

#endif
