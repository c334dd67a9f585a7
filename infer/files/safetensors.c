/* safetensors: 8 bytes of little-endian header size, a JSON header, then the tensors' bytes without a gap.
 *
 * The header is checked whole before anything else looks at it, so that the rest of the program may trust
 * every pointer and size: each tensor lies inside the file, has exactly the bytes of its type and shape, and
 * the tensors cover the data part once. Format: https://github.com/huggingface/safetensors. The header is
 * read by jansson, whose objects keep the file's order and refuse a key that stands twice. */
#include "safetensors.h"

#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "tensor_format.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HEADER_MAX 100000000u /* the reference reader's limit */
#define LENGTH_BYTES 8u

static const char *const TYPES[ELEMENT_TYPES] = {
    [ELEMENT_F32] = "F32", [ELEMENT_BF16] = "BF16",       [ELEMENT_F16] = "F16",
    [ELEMENT_F64] = "F64", [ELEMENT_F8_E4M3] = "F8_E4M3", [ELEMENT_F8_E5M2] = "F8_E5M2",
    [ELEMENT_I8] = "I8",   [ELEMENT_U8] = "U8",           [ELEMENT_I16] = "I16",
    [ELEMENT_U16] = "U16", [ELEMENT_I32] = "I32",         [ELEMENT_U32] = "U32",
    [ELEMENT_I64] = "I64", [ELEMENT_U64] = "U64",         [ELEMENT_BOOL] = "BOOL"};

const char *safetensors_type_name(ElementType t)
{
    return TYPES[t];
}

static ElementType type_parse(const char *name)
{
    for (int t = 0; t < ELEMENT_TYPES; t++)
        if (TYPES[t] && !strcmp(name, TYPES[t]))
            return (ElementType)t;
    return ELEMENT_OTHER;
}

/* The header's size, far below 4 GB, and JSON. It may begin as a pickled file does: 0x280 bytes are no rare
 * size. */
static bool recognises(const uint8_t *head, size_t n)
{
    return n > LENGTH_BYTES && !memcmp(head + 4, "\0\0\0\0{", 5);
}

/* The header -------------------------------------------------------------------------------------------- */

/* What the header says cannot be. */
static Status broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
static Status broken(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return status_fail("%s; fetch or write the file again", text);
}

/* The file's bytes from *data on are the tensors'. */
static Status parse_header(const TensorFile *f, json_t **header, size_t *data)
{
    if (f->size < LENGTH_BYTES)
        return status_fail("%zu bytes are too few for a safetensors file (file truncated?)", f->size);
    uint64_t length = 0;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        length |= (uint64_t)f->map[i] << (8 * i);
    if (length > HEADER_MAX)
        return broken("is not a safetensors file: bytes 0-7 give a header of %llu bytes, more than "
                      "the format allows",
                      (unsigned long long)length);
    if (length > f->size - LENGTH_BYTES)
        return broken("header of %llu bytes ends after the file's %zu bytes (file truncated?)",
                      (unsigned long long)length, f->size);
    const char *text = (const char *)f->map + LENGTH_BYTES;
    if (length == 0 || text[0] != '{')
        return broken("is not a safetensors file: what stands at byte 8 is no header");
    json_error_t error;
    *header = json_read(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!*header)
        return broken("header: %s at byte %d", error.text, (int)LENGTH_BYTES + error.position);
    *data = LENGTH_BYTES + (size_t)length;
    return STATUS_OK;
}

static Status read_metadata(TensorFile *f, const json_t *metadata)
{
    if (!metadata)
        return STATUS_OK;
    if (!json_is_object(metadata))
        return broken("header: __metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return broken("header: __metadata__: %s is not a string", key);
        TRY(tensorfile_add_metadata(f, key, json_string_value(value)));
    }
    return STATUS_OK;
}

/* Tensors ----------------------------------------------------------------------------------------------- */

#define NOT_A_SHAPE "tensor %s: its shape is not a list of sizes, or too large"

/* The dimensions into sizes; their number, or -1 where that is no shape. */
static int parse_shape(const json_t *shape, int64_t *sizes)
{
    if (!json_is_array(shape))
        return -1;
    const int ndim = (int)json_array_size(shape);
    for (int i = 0; i < ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return -1;
        sizes[i] = json_integer_value(d);
    }
    return ndim;
}

/* The bytes of the tensor's type and shape; -1: too many to count. Of a type that is not known the file has
 * to be believed, which says `told`. */
static int64_t bytes_needed(const TensorEntry *e, int64_t told)
{
    const int64_t size = (int64_t)element_size(e->type);
    int64_t bytes = size ? size : 1;
    bool fits = true;
    for (int i = 0; i < e->ndim; i++) {
        if (e->shape[i] == 0)
            return 0;
        fits = fits && !__builtin_mul_overflow(bytes, e->shape[i], &bytes);
    }
    return !fits ? -1 : size ? bytes : told;
}

/* Where the bytes lie, from the two numbers in the header. data: of the file's tensors. */
static Status place_entry(const TensorFile *f, size_t data, const json_t *offsets, TensorEntry *e)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return broken("tensor %s: data_offsets are not two numbers", e->name);
    const int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (begin < 0 || end < begin || (uint64_t)end > f->size - data)
        return broken("tensor %s: data_offsets [%lld,%lld] do not lie in the file's %zu bytes of data "
                      "(file truncated?)",
                      e->name, (long long)begin, (long long)end, f->size - data);
    const int64_t bytes = bytes_needed(e, end - begin);
    if (bytes < 0)
        return broken(NOT_A_SHAPE, e->name);
    if (end - begin != bytes)
        return broken("tensor %s: %lld bytes at byte %lld, but its type and shape need %lld", e->name,
                      (long long)(end - begin), (long long)begin + (long long)data, (long long)bytes);
    e->data = f->map + data + begin;
    e->bytes = (size_t)bytes;
    return STATUS_OK;
}

static Status parse_entry(TensorFile *f, size_t data, const char *name, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!type || !shape || !offsets || json_object_size(value) != 3)
        return broken("tensor %s: needs dtype, shape and data_offsets, and nothing else", name);
    int64_t *sizes = mem_alloc((json_array_size(shape) + 1) * sizeof *sizes);
    if (!sizes)
        return STATUS_FAILED;
    TensorEntry e = {.name = name, .type = type_parse(type), .type_name = type, .shape = sizes};
    e.ndim = parse_shape(shape, sizes);
    Status s = e.ndim < 0 ? broken(NOT_A_SHAPE, name) : place_entry(f, data, offsets, &e);
    if (s == STATUS_OK)
        s = tensorfile_add(f, &e);
    mem_free(sizes);
    return s;
}

/* Entries in the order of the data, each beginning where the one before ended. */
static Status check_cover(TensorFile *f, size_t data)
{
    tensorfile_sort(f);
    const uint8_t *place = f->map + data;
    for (int i = 0; i < f->count; i++) {
        const TensorEntry *e = &f->entries[i];
        const size_t at = (size_t)((const uint8_t *)e->data - f->map);
        if ((const uint8_t *)e->data != place)
            return broken("tensor %s at byte %zu %s", e->name, at,
                          (const uint8_t *)e->data < place ? "overlaps the one before it"
                                                           : "leaves a gap before it");
        place += e->bytes;
    }
    if (place != f->map + f->size)
        return broken("%zu bytes at the end, from byte %zu, belong to no tensor",
                      (size_t)(f->map + f->size - place), (size_t)(place - f->map));
    return STATUS_OK;
}

static Status read_header(TensorFile *f)
{
    json_t *header = NULL, *value;
    size_t data = 0;
    const char *name;
    TRY(parse_header(f, &header, &data));
    f->own = header; /* owns names and metadata */
    const json_t *metadata = json_object_get(header, "__metadata__");
    TRY(read_metadata(f, metadata));
    json_object_foreach(header, name, value) if (value != metadata) TRY(parse_entry(f, data, name, value));
    return check_cover(f, data);
}

static void forget_header(void *own)
{
    json_decref(own);
}

const TensorFormat format_safetensors = {
    .name = "safetensors", .recognises = recognises, .read = read_header, .close = forget_header};
