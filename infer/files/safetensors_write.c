/* Writing safetensors: the header as the reference writer makes it, then the tensors one after another. */
#include "safetensors.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH_BYTES 8u

static bool is_float(DType t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16;
}

/* What the item is written as, and how many numbers there are to write. */
static Status look_at(const SafeItem *item, ElementType *type, int64_t *count)
{
    const Tensor *t = item->tensor;
    if (t) {
        *type = element_of_dtype(item->dtype);
        *count = tensor_count(t);
        return item->dtype == t->dtype || (is_float(item->dtype) && is_float(t->dtype))
                   ? STATUS_OK
                   : status_fail("tensor %s: %s cannot be written as %s", item->name, dtype_name(t->dtype),
                                 dtype_name(item->dtype));
    }
    *type = item->type;
    *count = 0;
    for (int i = 0; i < item->piece_count; i++) {
        DType dtype;
        const TensorEntry *e = item->pieces[i].entry;
        *count += item->pieces[i].count;
        if (e->type != *type && !(element_dtype(*type, &dtype) && element_converts(e->type, dtype)))
            return status_fail("tensor %s: %s cannot be written as %s", item->name, e->type_name,
                               element_name(*type));
    }
    return STATUS_OK;
}

/* Adds the item's entry to the header; its bytes begin at *offset, which moves on. */
static Status describe_item(json_t *header, const SafeItem *item, uint64_t *offset)
{
    const Tensor *t = item->tensor;
    const bool own = t && item->ndim < 0;
    const int ndim = own ? t->ndim : item->ndim;
    const int64_t *shape = own ? t->shape : item->shape;
    ElementType type = ELEMENT_OTHER;
    int64_t given = 0, count = 1;
    TRY(look_at(item, &type, &given));
    json_t *sizes = json_array();
    for (int i = 0; i < ndim; i++) {
        count *= shape[i];
        json_array_append_new(sizes, json_integer(shape[i]));
    }
    if (count != given) {
        json_decref(sizes);
        return status_fail("tensor %s: %lld elements do not fill the shape it is written with", item->name,
                           (long long)given);
    }
    if (!strcmp(item->name, "__metadata__") || json_object_get(header, item->name)) {
        json_decref(sizes);
        return status_fail("tensor %s: the name is given twice or reserved", item->name);
    }
    const uint64_t end = *offset + (uint64_t)count * element_size(type);
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", safetensors_type_name(type), "shape", sizes,
                              "data_offsets", (json_int_t)*offset, (json_int_t)end);
    *offset = end;
    if (!entry || json_object_set_new(header, item->name, entry) != 0)
        return status_fail("tensor %s: the name is not valid UTF-8, or out of memory", item->name);
    return STATUS_OK;
}

static Status describe(json_t *header, const SafeItem *items, int count, const TensorMeta *meta,
                       int meta_count)
{
    if (meta_count > 0) {
        json_t *object = json_object();
        if (!object || json_object_set_new(header, "__metadata__", object) != 0)
            return status_memory("out of memory");
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

#define CHUNK 65536 /* elements taken at a time, of at most 8 bytes */

static Status write_piece(AtomicFile *out, const SafePiece *p, ElementType type, void *chunk)
{
    DType dtype = DTYPE_F32;
    element_dtype(type, &dtype);
    for (int64_t i = 0; i < p->count; i += CHUNK) {
        const int64_t k = p->count - i < CHUNK ? p->count - i : CHUNK;
        if (p->entry->type == type)
            tensor_entry_read_raw(p->entry, p->first + i, k, chunk);
        else
            TRY(tensor_entry_read_part(p->entry, p->first + i, k, dtype, chunk));
        TRY(atomic_write(out, chunk, (size_t)k * element_size(type)));
    }
    tensorfile_release(p->entry->file);
    return STATUS_OK;
}

static Status write_item(AtomicFile *out, const SafeItem *item, void *chunk)
{
    const Tensor *t = item->tensor;
    for (int i = 0; !t && i < item->piece_count; i++)
        TRY(write_piece(out, &item->pieces[i], item->type, chunk));
    if (!t)
        return STATUS_OK;
    if (item->fetch)
        TRY(item->fetch(t, item->arg));
    if (item->dtype == t->dtype && !t->home)
        return atomic_write(out, t->data, tensor_bytes(t));
    const int64_t n = tensor_count(t);
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t k = n - i < CHUNK ? n - i : CHUNK;
        TRY(tensor_get_part(t, i, k, chunk, item->dtype));
        TRY(atomic_write(out, chunk, (size_t)k * dtype_size(item->dtype)));
    }
    return STATUS_OK;
}

Status safetensors_write(const char *path, const SafeItem *items, int count, const TensorMeta *meta,
                         int meta_count)
{
    AtomicFile *out = NULL;
    void *chunk = mem_alloc(CHUNK * sizeof(int64_t));
    json_t *header = json_object();
    Status s = !chunk ? STATUS_FAILED : header ? STATUS_OK : status_memory("out of memory");
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
