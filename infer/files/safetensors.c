/* safetensors: 8 bytes of little-endian header size, a JSON header, then the tensors' bytes without a gap.
 *
 * The file is mapped and its header checked whole before anything else looks at it, so that the rest of the
 * program may trust every pointer and size: each tensor lies inside the file, has exactly the bytes of its
 * type and shape, and the tensors cover the data part once. Format:
 * https://github.com/huggingface/safetensors. The header is read by jansson, whose objects keep the file's
 * order and refuse a key that stands twice. */
#include "safetensors.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX 100000000u /* the reference reader's limit */
#define LENGTH_BYTES 8u

struct SafeTensors {
    char *path;
    uint8_t *map;
    size_t size;        /* of the whole file */
    size_t data;        /* where the tensors begin */
    json_t *header;     /* owns names and metadata strings */
    json_t *metadata;   /* borrowed from header; NULL: none */
    SafeEntry *entries; /* in the order of the data */
    int *by_name;       /* indices of entries, sorted by name */
    int count;
    int users;
};

static const struct {
    const char *name;
    DType dtype;
} TYPES[] = {{"F32", DTYPE_F32}, {"BF16", DTYPE_BF16}, {"F16", DTYPE_F16}, {"I8", DTYPE_I8},
             {"U8", DTYPE_U8},   {"I32", DTYPE_I32},   {"I64", DTYPE_I64}};

static bool type_parse(const char *name, DType *out)
{
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (!strcmp(name, TYPES[i].name)) {
            *out = TYPES[i].dtype;
            return true;
        }
    return false;
}

static const char *type_name(DType t)
{
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (TYPES[i].dtype == t)
            return TYPES[i].name;
    return "?";
}

/* Reading ---------------------------------------------------------------------------------------------- */

static Status map_file(SafeTensors *f)
{
    TRY(file_check_source(f->path, "file"));
    const int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_refuse("%s: cannot be opened: %s", f->path, strerror(errno));
    struct stat st;
    Status s = STATUS_OK;
    if (fstat(fd, &st) != 0)
        s = status_fail("%s: cannot be read: %s", f->path, strerror(errno));
    else if (st.st_size < (off_t)LENGTH_BYTES)
        s = status_fail("%s: %lld bytes are too few for a safetensors file (file truncated?)", f->path,
                        (long long)st.st_size);
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

/* What the header says cannot be. */
static Status broken(const SafeTensors *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
static Status broken(const SafeTensors *f, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return status_fail("%s: %s; fetch or write the file again", f->path, text);
}

static Status parse_header(SafeTensors *f)
{
    uint64_t length = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)f->map[i] << (8 * i);
    if (length > HEADER_MAX)
        return broken(f,
                      "is not a safetensors file: bytes 0-7 give a header of %llu bytes, more than "
                      "the format allows",
                      (unsigned long long)length);
    if (length > f->size - LENGTH_BYTES)
        return broken(f, "header of %llu bytes ends after the file's %zu bytes (file truncated?)",
                      (unsigned long long)length, f->size);
    const char *text = (const char *)f->map + LENGTH_BYTES;
    if (length == 0 || text[0] != '{')
        return broken(f, "is not a safetensors file: what stands at byte 8 is no header");
    json_error_t error;
    f->header = json_read(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!f->header)
        return broken(f, "header: %s at byte %d", error.text, (int)LENGTH_BYTES + error.position);
    f->data = LENGTH_BYTES + (size_t)length;
    return STATUS_OK;
}

static Status check_metadata(SafeTensors *f)
{
    f->metadata = json_object_get(f->header, "__metadata__");
    if (!f->metadata)
        return STATUS_OK;
    if (!json_is_object(f->metadata))
        return broken(f, "header: __metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach(f->metadata, key, value) if (!json_is_string(value)) return broken(
        f, "header: __metadata__: %s is not a string", key);
    return STATUS_OK;
}

/* The tensor's element count as its shape says, in *count; false where that is no shape or overflows. */
static bool parse_shape(const json_t *shape, SafeEntry *e, int64_t *count)
{
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_MAX_DIMS)
        return false;
    e->ndim = (int)json_array_size(shape);
    *count = 1;
    for (int i = 0; i < e->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return false;
        e->shape[i] = json_integer_value(d);
        if (__builtin_mul_overflow(*count, e->shape[i], count))
            return false;
    }
    return true;
}

static Status parse_entry(const SafeTensors *f, const char *name, const json_t *value, SafeEntry *e)
{
    const char *type = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!type || !shape || !offsets || json_object_size(value) != 3)
        return broken(f, "tensor %s: needs dtype, shape and data_offsets, and nothing else", name);
    if (!type_parse(type, &e->dtype))
        return status_fail("%s: tensor %s: elements of type %s are not supported (F32, F16 and BF16 are)",
                           f->path, name, type);
    if (json_is_array(shape) && json_array_size(shape) > TENSOR_MAX_DIMS)
        return status_fail("%s: tensor %s: %zu dimensions, at most %d are supported", f->path, name,
                           json_array_size(shape), TENSOR_MAX_DIMS);
    int64_t count = 0, bytes = 0;
    if (!parse_shape(shape, e, &count) ||
        __builtin_mul_overflow(count, (int64_t)dtype_size(e->dtype), &bytes))
        return broken(f, "tensor %s: its shape is not a list of sizes, or too large", name);
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return broken(f, "tensor %s: data_offsets are not two numbers", name);
    const int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > f->size - f->data)
        return broken(f,
                      "tensor %s: data_offsets [%lld,%lld] do not lie in the file's %zu bytes of data "
                      "(file truncated?)",
                      name, (long long)begin, (long long)end, f->size - f->data);
    if (end - begin != bytes)
        return broken(f, "tensor %s: %lld bytes at byte %lld, but its type and shape need %lld", name,
                      (long long)(end - begin), (long long)begin + (long long)f->data, (long long)bytes);
    e->name = name;
    e->data = f->map + f->data + begin;
    e->bytes = (size_t)bytes;
    return STATUS_OK;
}

static int by_place(const void *a, const void *b)
{
    const SafeEntry *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->bytes != y->bytes) /* an empty tensor stands before the one that begins where it does */
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Entries in the order of the data, each beginning where the one before ended. */
static Status check_cover(SafeTensors *f)
{
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_place);
    const uint8_t *place = f->map + f->data;
    for (int i = 0; i < f->count; i++) {
        const SafeEntry *e = &f->entries[i];
        const size_t at = (size_t)((const uint8_t *)e->data - f->map);
        if ((const uint8_t *)e->data != place)
            return broken(f, "tensor %s at byte %zu %s", e->name, at,
                          (const uint8_t *)e->data < place ? "overlaps the one before it"
                                                           : "leaves a gap before it");
        place += e->bytes;
    }
    if (place != f->map + f->size)
        return broken(f, "%zu bytes at the end, from byte %zu, belong to no tensor",
                      (size_t)(f->map + f->size - place), (size_t)(place - f->map));
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

static Status index_names(SafeTensors *f)
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
    mem_free(pairs);
    return STATUS_OK;
}

static Status read_entries(SafeTensors *f)
{
    TRY(check_metadata(f));
    f->entries = mem_calloc(json_object_size(f->header) + 1, sizeof *f->entries);
    if (!f->entries)
        return STATUS_FAILED;
    const char *name;
    json_t *value;
    json_object_foreach(f->header, name, value) if (value != f->metadata)
        TRY(parse_entry(f, name, value, &f->entries[f->count++]));
    TRY(check_cover(f));
    return index_names(f);
}

Status safetensors_open(const char *path, SafeTensors **out)
{
    *out = NULL;
    SafeTensors *f = mem_calloc(1, sizeof *f);
    if (!f)
        return STATUS_FAILED;
    f->users = 1;
    f->path = mem_strdup(path);
    Status s = f->path ? map_file(f) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = parse_header(f);
    if (s == STATUS_OK)
        s = read_entries(f);
    if (s != STATUS_OK) {
        safetensors_close(f);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

SafeTensors *safetensors_share(SafeTensors *f)
{
    f->users++;
    return f;
}

void safetensors_close(SafeTensors *f)
{
    if (!f || --f->users > 0)
        return;
    if (f->map)
        munmap(f->map, f->size);
    json_decref(f->header);
    mem_free(f->entries);
    mem_free(f->by_name);
    mem_free(f->path);
    mem_free(f);
}

const char *safetensors_path(const SafeTensors *f)
{
    return f->path;
}

int safetensors_count(const SafeTensors *f)
{
    return f->count;
}

const SafeEntry *safetensors_entry(const SafeTensors *f, int i)
{
    return &f->entries[i];
}

const SafeEntry *safetensors_find(const SafeTensors *f, const char *name)
{
    int low = 0, high = f->count - 1;
    while (low <= high) {
        const int middle = low + (high - low) / 2;
        const SafeEntry *e = &f->entries[f->by_name[middle]];
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

const char *safetensors_metadata(const SafeTensors *f, const char *key)
{
    return json_string_value(json_object_get(f->metadata, key));
}

int safetensors_metadata_count(const SafeTensors *f)
{
    return (int)json_object_size(f->metadata);
}

void safetensors_metadata_entry(const SafeTensors *f, int i, const char **key, const char **value)
{
    *key = *value = NULL;
    void *at = json_object_iter(f->metadata);
    while (at && i-- > 0)
        at = json_object_iter_next(f->metadata, at);
    if (at) {
        *key = json_object_iter_key(at);
        *value = json_string_value(json_object_iter_value(at));
    }
}

void safetensors_release(const SafeTensors *f)
{
    madvise(f->map, f->size,
            MADV_DONTNEED); /* a private mapping of a file: the pages come back when touched */
}

Status safefiles_keep(SafeFiles *l, SafeTensors *f)
{
    for (int i = 0; i < l->count; i++)
        if (l->items[i] == f)
            return STATUS_OK;
    SafeTensors **larger = mem_realloc(l->items, ((size_t)l->count + 1) * sizeof(SafeTensors *));
    if (!larger)
        return STATUS_FAILED;
    l->items = larger;
    larger[l->count++] = safetensors_share(f);
    return STATUS_OK;
}

void safefiles_close(SafeFiles *l)
{
    for (int i = 0; i < l->count; i++)
        safetensors_close(l->items[i]);
    mem_free(l->items);
    *l = (SafeFiles){0};
}

/* Writing ---------------------------------------------------------------------------------------------- */

static bool is_float(DType t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16;
}

/* Adds the item's entry to the header; its bytes begin at *offset, which moves on. */
static Status describe_item(json_t *header, const SafeItem *item, uint64_t *offset)
{
    const Tensor *t = item->tensor;
    const int ndim = item->ndim < 0 ? t->ndim : item->ndim;
    const int64_t *shape = item->ndim < 0 ? t->shape : item->shape;
    if (item->dtype != t->dtype && !(is_float(item->dtype) && is_float(t->dtype)))
        return status_fail("tensor %s: %s cannot be written as %s", item->name, dtype_name(t->dtype),
                           dtype_name(item->dtype));
    int64_t count = 1;
    json_t *sizes = json_array();
    for (int i = 0; i < ndim; i++) {
        count *= shape[i];
        json_array_append_new(sizes, json_integer(shape[i]));
    }
    if (count != tensor_count(t)) {
        json_decref(sizes);
        return status_fail("tensor %s: %lld elements do not fill the shape it is written with", item->name,
                           (long long)tensor_count(t));
    }
    if (!strcmp(item->name, "__metadata__") || json_object_get(header, item->name)) {
        json_decref(sizes);
        return status_fail("tensor %s: the name is given twice or reserved", item->name);
    }
    const uint64_t end = *offset + (uint64_t)count * dtype_size(item->dtype);
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", type_name(item->dtype), "shape", sizes,
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    *offset = end;
    if (!entry || json_object_set_new(header, item->name, entry) != 0)
        return status_fail("tensor %s: the name is not valid UTF-8, or out of memory", item->name);
    return STATUS_OK;
}

static Status describe(json_t *header, const SafeItem *items, int count, const SafeMeta *meta, int meta_count)
{
    if (meta_count > 0) {
        json_t *object = json_object();
        if (!object || json_object_set_new(header, "__metadata__", object) != 0)
            return status_fail("out of memory");
        for (int i = 0; i < meta_count; i++)
            if (json_object_set_new(object, meta[i].key, json_string(meta[i].value)) != 0)
                return status_fail("metadata %s: not valid UTF-8, or out of memory", meta[i].key);
    }
    uint64_t offset = 0;
    for (int i = 0; i < count; i++)
        TRY(describe_item(header, &items[i], &offset));
    return STATUS_OK;
}

static Status write_header(AtomicFile *out, json_t *header)
{
    char *text = json_text(json_incref(header), JSON_COMPACT);
    if (!text)
        return STATUS_FAILED;
    const size_t length = strlen(text), padding = (8 - length % 8) % 8;
    uint8_t size[LENGTH_BYTES];
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        size[i] = (uint8_t)((uint64_t)(length + padding) >> (8 * i));
    Status s = atomic_write(out, size, sizeof size);
    if (s == STATUS_OK)
        s = atomic_write(out, text, length);
    if (s == STATUS_OK)
        s = atomic_write(out, "        ", padding);
    free(text);
    return s;
}

#define CHUNK 65536 /* elements converted at a time */

static Status write_item(AtomicFile *out, const SafeItem *item, void *chunk)
{
    const Tensor *t = item->tensor;
    if (item->dtype == t->dtype)
        return atomic_write(out, t->data, tensor_bytes(t));
    const size_t from = dtype_size(t->dtype), to = dtype_size(item->dtype);
    const int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t k = n - i < CHUNK ? n - i : CHUNK;
        convert_floats(chunk, item->dtype, (const char *)t->data + (size_t)i * from, t->dtype, k);
        TRY(atomic_write(out, chunk, (size_t)k * to));
    }
    return STATUS_OK;
}

Status safetensors_write(const char *path, const SafeItem *items, int count, const SafeMeta *meta,
                         int meta_count)
{
    AtomicFile *out = NULL;
    void *chunk = mem_alloc(CHUNK * sizeof(float));
    json_t *header = json_object();
    Status s = !chunk ? STATUS_FAILED : header ? STATUS_OK : status_fail("out of memory");
    if (s == STATUS_OK)
        s = status_in(describe(header, items, count, meta, meta_count), "%s", path);
    if (s == STATUS_OK)
        s = atomic_open(path, &out);
    if (s == STATUS_OK)
        s = write_header(out, header);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = write_item(out, &items[i], chunk);
    if (s == STATUS_OK)
        s = atomic_commit(out);
    else
        atomic_abort(out);
    json_decref(header);
    mem_free(chunk);
    return s;
}
