/* What all formats share: mapping a file, finding the format that knows it, and looking at what is in it. */
#include "tensor_file.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "recognise.h"
#include "tensor_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TENSOR_FORMAT(name) &format_##name,
static const TensorFormat *const FORMATS[] = {TENSOR_FORMATS(TENSOR_FORMAT)};
#undef TENSOR_FORMAT
#define FORMAT_COUNT (sizeof FORMATS / sizeof *FORMATS)

/* Opening ---------------------------------------------------------------------------------------------- */

static Status map_file(TensorFile *f)
{
    TRY(file_check_source(f->path, ".safetensors file"));
    const int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_refuse("%s: cannot be opened: %s", f->path, strerror(errno));
    struct stat st;
    Status s = STATUS_OK;
    if (fstat(fd, &st) != 0)
        s = status_fail("%s: cannot be read: %s", f->path, strerror(errno));
    else if (st.st_size == 0)
        s = status_refuse("%s: the file is empty", f->path);
    if (s == STATUS_OK) {
        f->size = (size_t)st.st_size;
        void *p = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = status_fail("%s: cannot be mapped: %s", f->path, strerror(errno));
        else
            f->map = p;
    }
    close(fd);
    return s;
}

/* What no format knows is told by its first bytes; if that fails too, it is taken for a damaged file of the
 * first format, the usual one, whose reader says what is wrong with it. */
static Status find_format(TensorFile *f)
{
    const size_t n = f->size < TENSOR_HEAD ? f->size : TENSOR_HEAD;
    for (size_t i = 0; i < FORMAT_COUNT && !f->format; i++)
        if (FORMATS[i]->recognises(f->map, n))
            f->format = FORMATS[i];
    if (!f->format)
        TRY(refuse_other_files(f->path, f->map, n));
    if (!f->format)
        f->format = FORMATS[0];
    return STATUS_OK;
}

/* qsort takes no argument besides the elements, so the names are sorted as pairs. */
typedef struct NamePlace {
    const char *name;
    int place;
} NamePlace;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const NamePlace *)a)->name, ((const NamePlace *)b)->name);
}

static Status index_names(TensorFile *f)
{
    NamePlace *pairs = mem_calloc((size_t)f->count + 1, sizeof *pairs);
    f->by_name = mem_calloc((size_t)f->count + 1, sizeof *f->by_name);
    if (!pairs || !f->by_name) {
        mem_free(pairs);
        return STATUS_FAILED;
    }
    for (int i = 0; i < f->count; i++)
        pairs[i] = (NamePlace){f->entries[i].name, i};
    qsort(pairs, (size_t)f->count, sizeof *pairs, by_name);
    for (int i = 0; i < f->count; i++)
        f->by_name[i] = pairs[i].place;
    Status s = STATUS_OK;
    for (int i = 1; i < f->count && s == STATUS_OK; i++)
        if (!strcmp(pairs[i - 1].name, pairs[i].name))
            s = status_fail("%s: two tensors have the name %s; fetch or write the file again", f->path,
                            pairs[i].name);
    mem_free(pairs);
    return s;
}

Status tensorfile_open(const char *path, TensorFile **out)
{
    *out = NULL;
    TensorFile *f = mem_calloc(1, sizeof *f);
    if (!f)
        return STATUS_FAILED;
    f->users = 1;
    f->path = mem_strdup(path);
    Status s = f->path ? map_file(f) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = find_format(f);
    if (s == STATUS_OK)
        s = status_in(f->format->read(f), "%s", path);
    if (s == STATUS_OK)
        s = index_names(f);
    if (s != STATUS_OK) {
        tensorfile_close(f);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

Status tensorfile_add(TensorFile *f, const TensorEntry *e)
{
    const size_t bytes = (size_t)e->ndim * sizeof(int64_t);
    int64_t *sizes = mem_alloc(2 * bytes);
    if (!sizes || !mem_grow(&f->entries, f->count, &f->capacity, sizeof *f->entries)) {
        mem_free(sizes);
        return STATUS_FAILED;
    }
    TensorEntry *at = &f->entries[f->count++];
    *at = *e;
    at->file = f;
    at->shape = memcpy(sizes, e->shape, bytes);
    if (e->strides)
        at->strides = memcpy(sizes + e->ndim, e->strides, bytes);
    return STATUS_OK;
}

Status tensorfile_add_metadata(TensorFile *f, const char *key, const char *value)
{
    if (!mem_grow(&f->metadata, f->metadata_count, &f->metadata_capacity, sizeof *f->metadata))
        return STATUS_FAILED;
    f->metadata[f->metadata_count++] = (TensorMeta){key, value};
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const TensorEntry *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->bytes != y->bytes) /* an empty tensor stands before the one that begins where it does */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

void tensorfile_sort(TensorFile *f)
{
    if (f->count)
        qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_place);
}

TensorFile *tensorfile_share(TensorFile *f)
{
    f->users++;
    return f;
}

void tensorfile_close(TensorFile *f)
{
    if (!f || --f->users > 0)
        return;
    if (f->own)
        f->format->close(f->own);
    if (f->map)
        munmap((void *)f->map, f->size);
    for (int i = 0; i < f->count; i++)
        mem_free((void *)f->entries[i].shape);
    mem_free(f->entries);
    mem_free(f->by_name);
    mem_free(f->metadata);
    mem_free(f->path);
    mem_free(f);
}

/* Looking ---------------------------------------------------------------------------------------------- */

const char *tensorfile_path(const TensorFile *f)
{
    return f->path;
}

const char *tensorfile_format(const TensorFile *f)
{
    return f->format->name;
}

int tensorfile_count(const TensorFile *f)
{
    return f->count;
}

const TensorEntry *tensorfile_entry(const TensorFile *f, int i)
{
    return &f->entries[i];
}

const TensorEntry *tensorfile_find(const TensorFile *f, const char *name)
{
    int low = 0, high = f->count - 1;
    while (low <= high) {
        const int middle = low + (high - low) / 2;
        const TensorEntry *e = &f->entries[f->by_name[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0)
            return e;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return NULL;
}

bool tensorfile_holds(const TensorFile *f, const char *beginning)
{
    for (int i = 0; i < f->count; i++)
        if (!strncmp(f->entries[i].name, beginning, strlen(beginning)))
            return true;
    return false;
}

const char *tensorfile_metadata(const TensorFile *f, const char *key)
{
    for (int i = 0; i < f->metadata_count; i++)
        if (!strcmp(f->metadata[i].key, key))
            return f->metadata[i].value;
    return NULL;
}

int tensorfile_metadata_count(const TensorFile *f)
{
    return f->metadata_count;
}

TensorMeta tensorfile_metadata_entry(const TensorFile *f, int i)
{
    return f->metadata[i];
}

void tensorfile_release(const TensorFile *f)
{
    /* a private mapping of a file: the pages come back when touched */
    madvise((void *)f->map, f->size, MADV_DONTNEED);
}

/* Several ---------------------------------------------------------------------------------------------- */

Status tensorfiles_keep(TensorFiles *l, TensorFile *f)
{
    for (int i = 0; i < l->count; i++)
        if (l->items[i] == f)
            return STATUS_OK;
    TensorFile **larger = mem_realloc(l->items, ((size_t)l->count + 1) * sizeof(TensorFile *));
    if (!larger)
        return STATUS_FAILED;
    l->items = larger;
    larger[l->count++] = tensorfile_share(f);
    return STATUS_OK;
}

void tensorfiles_close(TensorFiles *l)
{
    for (int i = 0; i < l->count; i++)
        tensorfile_close(l->items[i]);
    mem_free(l->items);
    *l = (TensorFiles){0};
}
