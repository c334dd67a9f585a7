/* Arrays of a foreign HDF5 file (h5_check.h): types, dataspaces, layouts, trees of chunks, global heaps. */
#include "h5_check_file.h"

#include <string.h>

#define MAX_RANK 32
#define MAX_STRING ((uint64_t)1 << 20)

/* Types ------------------------------------------------------------------------------------------------ */

/* IEEE's formats as HDF5 spells them: exponent's place and size, mantissa's size, bias. */
static const struct {
    unsigned size, exponent, exponent_bits, bias;
} FLOATS[] = {{2, 10, 5, 15}, {4, 23, 8, 127}, {8, 52, 11, 1023}};

static bool float_is_known(uint32_t bits, uint64_t size, H5Piece *p)
{
    const uint64_t offset = h5_take(p, 2), precision = h5_take(p, 2), exponent = h5_take(p, 1),
                   exponent_bits = h5_take(p, 1), mantissa = h5_take(p, 1), mantissa_bits = h5_take(p, 1),
                   bias = h5_take(p, 4);
    for (size_t i = 0; i < sizeof FLOATS / sizeof *FLOATS; i++)
        if (size == FLOATS[i].size)
            return !p->failed && offset == 0 && precision == 8 * size && exponent == FLOATS[i].exponent &&
                   exponent_bits == FLOATS[i].exponent_bits && mantissa == 0 && mantissa_bits == exponent &&
                   bias == FLOATS[i].bias && (bits & ~1u) == (0x20u | (uint32_t)(8 * size - 1) << 8);
    return false;
}

/* The members of an enumeration: names, each ended by a 0 (before version 3 filled up to 8 bytes), values. */
static Status check_enumeration(H5File *f, H5Piece *p, unsigned version, unsigned members, uint64_t size)
{
    H5Type base;
    TRY(h5_check_type(f, p, &base));
    if (base.class != H5_FIXED || base.size != size)
        return h5_damaged(f, "an enumeration of something else than numbers");
    for (unsigned i = 0; i < members; i++) {
        const uint8_t *name = p->at, *end = memchr(name, 0, h5_left(p));
        if (!end)
            return h5_damaged(f, "an enumeration without end");
        const uint64_t n = (uint64_t)(end - name) + 1;
        h5_skip(p, version < 3 ? (n + 7) / 8 * 8 : n);
    }
    h5_skip(p, members * size);
    return STATUS_OK;
}

/* A text of variable length: its bytes lie in a global heap. */
static Status check_variable(H5File *f, H5Piece *p, uint32_t bits, uint64_t size)
{
    H5Type base;
    if ((bits & 0xF) != 1)
        return h5_unread(f, "lists of variable length", "use arrays of numbers, or strings");
    TRY(h5_check_type(f, p, &base));
    if (size != 16 || (bits >> 4 & 0xF) > 2 || (bits >> 8) > 1 || base.size != 1 ||
        (base.class != H5_STRING && base.class != H5_FIXED))
        return h5_damaged(f, "a text of variable length with an impossible type");
    return STATUS_OK;
}

Status h5_check_type(H5File *f, H5Piece *p, H5Type *out)
{
    TRY(h5_step(f));
    const unsigned first = (unsigned)h5_take(p, 1), version = first >> 4;
    const uint32_t bits = (uint32_t)h5_take(p, 3);
    *out = (H5Type){first & 0xF, h5_take(p, 4)};
    bool sound = version >= 1 && version <= 3 && out->size > 0 && out->size <= MAX_STRING;
    if (p->failed || !sound)
        return h5_damaged(f, "an impossible type");
    switch (out->class) {
    case H5_FIXED: {
        const uint64_t offset = h5_take(p, 2), precision = h5_take(p, 2);
        sound = (out->size & (out->size - 1)) == 0 && out->size <= 8 && offset == 0 &&
                precision == 8 * out->size && (bits & ~9u) == 0;
        break;
    }
    case H5_FLOAT:
        if (!float_is_known(bits, out->size, p))
            return h5_unread(f, "floating-point numbers that are not IEEE's 16, 32 or 64 bits",
                             "store them as float32");
        break;
    case H5_STRING:
        sound = (bits & 0xF) <= 2 && bits >> 4 <= 1;
        break;
    case H5_ENUM:
        TRY(check_enumeration(f, p, version, bits & 0xFFFF, out->size));
        break;
    case H5_VARIABLE:
        TRY(check_variable(f, p, bits, out->size));
        break;
    default:
        return h5_unread(f, "a type other than numbers and strings", "take it out of the file");
    }
    return p->failed || !sound ? h5_damaged(f, "an impossible type") : STATUS_OK;
}

/* Dataspaces ------------------------------------------------------------------------------------------- */

Status h5_check_space(H5File *f, H5Piece *p, H5Space *out)
{
    const unsigned version = (unsigned)h5_take(p, 1), rank = (unsigned)h5_take(p, 1),
                   flags = (unsigned)h5_take(p, 1);
    const unsigned kind = (unsigned)h5_take(p, 1); /* version 2: 0 scalar, 1 simple, 2 null */
    if (version == 1)
        h5_skip(p, 4);
    *out = (H5Space){.rank = (int)rank, .count = version == 2 && kind == 2 ? 0 : 1};
    if (version < 1 || version > 2 || rank > MAX_RANK || flags > 1 ||
        (version == 2 && (kind > 2 || (kind == 1) != (rank > 0))))
        return h5_damaged(f, "an impossible shape");
    for (unsigned i = 0; i < rank; i++) {
        out->dims[i] = h5_take(p, 8);
        if (__builtin_mul_overflow(out->count, out->dims[i], &out->count))
            return h5_damaged(f, "a shape of too many elements");
    }
    for (unsigned i = 0; i < rank && flags; i++)
        if (h5_take(p, 8) < out->dims[i])
            return h5_damaged(f, "a shape larger than its own limit");
    return p->failed ? h5_damaged(f, "a shape that is cut off") : STATUS_OK;
}

/* Elements --------------------------------------------------------------------------------------------- */

/* Looks through the global heap at address: objects of an index, a size and padding up to 8 bytes; object 0
 * is what is free. Notes the sizes. */
static Status read_heap(H5File *f, uint64_t address)
{
    H5Piece p;
    f->heap = 0;
    if (!h5_piece(f, address, 16, &p) || memcmp(h5_skip(&p, 4), "GCOL", 4) != 0 || h5_take(&p, 1) != 1)
        return h5_damaged(f, "a text in a heap that is not there");
    h5_skip(&p, 3);
    const uint64_t size = h5_take(&p, 8);
    if (size < 4096 || !h5_piece(f, address, size, &p))
        return h5_damaged(f, "a heap of an impossible size");
    memset(f->heap_sizes, 0, sizeof f->heap_sizes);
    h5_skip(&p, 16);
    while (h5_left(&p) >= 16) {
        TRY(h5_step(f));
        const uint64_t index = h5_take(&p, 2);
        h5_skip(&p, 6);
        const uint64_t length = h5_take(&p, 8), room = h5_left(&p);
        if (index == 0) {
            if (length < 16 || length - 16 > room)
                return h5_damaged(f, "a heap whose free room is damaged");
            h5_skip(&p, length - 16);
            continue;
        }
        if (length > room || (length + 7) / 8 * 8 > room || f->heap_sizes[index] || length >= UINT32_MAX)
            return h5_damaged(f, "a heap with an object that does not fit");
        f->heap_sizes[index] = (uint32_t)length + 1;
        h5_skip(&p, (length + 7) / 8 * 8);
    }
    f->heap = address;
    return STATUS_OK;
}

Status h5_check_elements(H5File *f, H5Piece p, const H5Type *type, uint64_t count)
{
    if (h5_left(&p) / type->size < count)
        return h5_damaged(f, "fewer bytes than its shape says");
    for (uint64_t i = 0; i < count && type->class == H5_VARIABLE; i++) {
        TRY(h5_step(f));
        const uint64_t length = h5_take(&p, 4), address = h5_take(&p, 8), index = h5_take(&p, 4);
        if (address == 0 && length == 0)
            continue;
        if (address != f->heap || address == 0)
            TRY(read_heap(f, address));
        if (index == 0 || index > UINT16_MAX || f->heap_sizes[index] != length + 1)
            return h5_damaged(f, "a text that its heap does not have");
    }
    return STATUS_OK;
}

/* Chunks ----------------------------------------------------------------------------------------------- */

typedef struct Chunks {
    const H5Type *type;
    int rank;              /* of the array */
    uint64_t dims[33];     /* of a chunk, and the element's size */
    uint64_t count, bytes; /* elements and bytes of a chunk */
} Chunks;

static Status read_chunk_dims(H5File *f, H5Piece *p, int dims, int bytes_each, const H5Type *type,
                              const H5Space *space, Chunks *out)
{
    *out = (Chunks){.type = type, .rank = space->rank, .count = 1};
    if (dims != space->rank + 1 || space->rank == 0)
        return h5_damaged(f, "chunks of another shape than the array");
    for (int i = 0; i < dims; i++) {
        out->dims[i] = h5_take(p, bytes_each);
        if (out->dims[i] == 0 ||
            (i < space->rank && __builtin_mul_overflow(out->count, out->dims[i], &out->count)))
            return h5_damaged(f, "chunks of an impossible size");
    }
    if (p->failed || out->dims[space->rank] != type->size ||
        __builtin_mul_overflow(out->count, type->size, &out->bytes) || out->bytes > UINT32_MAX)
        return h5_damaged(f, "chunks of an impossible size");
    return STATUS_OK;
}

/* A node of a tree of chunks: keys (bytes, filters left out, place in the array) around
 * addresses. level -1: the root's own. */
static Status check_chunk_node(H5File *f, uint64_t address, const Chunks *c, int level)
{
    const H5Tree tree = {.type = 1,
                         .half = f->chunk_k,
                         .key = 8 + 8 * (uint64_t)(c->rank + 1),
                         .missing = "an index of chunks that is not there",
                         .damaged = "a damaged index of chunks"};
    uint64_t entries;
    H5Piece p, chunk;
    TRY(h5_tree_node(f, &tree, address, &level, &entries, &p));
    for (uint64_t i = 0; i <= entries; i++) {
        const uint64_t bytes = h5_take(&p, 4);
        h5_skip(&p, 4);
        for (int k = 0; k <= c->rank; k++)
            if (h5_take(&p, 8) % c->dims[k] != 0)
                return h5_damaged(f, "a chunk between two places");
        if (i == entries)
            break;
        const uint64_t child = h5_take(&p, 8);
        if (level > 0) {
            TRY(check_chunk_node(f, child, c, level - 1));
            continue;
        }
        if (bytes != c->bytes || !h5_piece(f, child, bytes, &chunk))
            return h5_damaged(f, "a chunk outside of the file");
        TRY(h5_check_elements(f, chunk, c->type, c->count));
    }
    return STATUS_OK;
}

static Status check_chunked_old(H5File *f, H5Piece *p, const H5Type *type, const H5Space *space)
{
    const int dims = (int)h5_take(p, 1);
    const uint64_t address = h5_take(p, 8);
    Chunks c;
    TRY(read_chunk_dims(f, p, dims, 4, type, space, &c));
    return address == H5_UNDEFINED ? STATUS_OK : check_chunk_node(f, address, &c, -1);
}

/* The indices of HDF5 1.10 (1 one chunk, 2 none, 3 fixed array, 4 extensible array, 5 tree), whose parts
 * carry check sums: only where they begin is looked at. */
static Status check_chunked_new(H5File *f, H5Piece *p, const H5Type *type, const H5Space *space)
{
    static const struct {
        const char *signature;
        uint64_t parameters, bytes;
    } INDICES[] = {{"", 0, 0}, {"", 0, 0}, {"FAHD", 1, 28}, {"EAHD", 5, 72}, {"BTHD", 6, 38}};
    const unsigned flags = (unsigned)h5_take(p, 1);
    const int dims = (int)h5_take(p, 1), bytes_each = (int)h5_take(p, 1);
    Chunks c;
    H5Piece at;
    if (flags > 1 || bytes_each < 1 || bytes_each > 8)
        return h5_damaged(f, "chunks of an unknown kind");
    TRY(read_chunk_dims(f, p, dims, bytes_each, type, space, &c));
    const unsigned index = (unsigned)h5_take(p, 1) - 1;
    if (index >= sizeof INDICES / sizeof *INDICES)
        return h5_damaged(f, "an unknown index of chunks");
    if (type->class == H5_VARIABLE)
        return h5_unread(f, "strings of variable length in chunks", "store strings of fixed length");
    const uint8_t *parameters = h5_skip(p, INDICES[index].parameters);
    for (uint64_t i = 0; !p->failed && i < INDICES[index].parameters; i++)
        if (parameters[i] == 0 && index != 4)
            return h5_damaged(f, "an index of chunks with impossible parameters");
    const uint64_t address = h5_take(p, 8), bytes = index < 2 ? c.bytes : INDICES[index].bytes;
    if (p->failed)
        return h5_damaged(f, "an index of chunks that is cut off");
    if (address == H5_UNDEFINED)
        return STATUS_OK;
    if (!h5_piece(f, address, bytes, &at) ||
        memcmp(at.at, INDICES[index].signature, strlen(INDICES[index].signature)) != 0)
        return h5_damaged(f, "an index of chunks that is not there");
    return STATUS_OK;
}

/* Layouts ---------------------------------------------------------------------------------------------- */

static Status check_contiguous(H5File *f, H5Piece *p, const H5Type *type, const H5Space *space)
{
    const uint64_t address = h5_take(p, 8), bytes = h5_take(p, 8);
    H5Piece data;
    if (p->failed || bytes != space->count * type->size)
        return h5_damaged(f, "another number of bytes than its shape says");
    if (bytes == 0)
        return STATUS_OK;
    if (address == H5_UNDEFINED)
        return h5_unread(f, "an array that was never written",
                         "write its values, or take it out of the file");
    if (!h5_piece(f, address, bytes, &data))
        return h5_damaged(f, "values outside of the file");
    return h5_check_elements(f, data, type, space->count);
}

Status h5_check_layout(H5File *f, H5Piece p, const H5Type *type, const H5Space *space)
{
    const unsigned version = (unsigned)h5_take(&p, 1), class = (unsigned)h5_take(&p, 1);
    uint64_t bytes;
    if (__builtin_mul_overflow(space->count, type->size, &bytes) || bytes > f->size)
        return h5_damaged(f, "more values than the file has bytes");
    if (version == 1 || version == 2)
        return h5_unread(f, "a layout of HDF5 before 1.6", "write the file again with a newer library");
    if ((version != 3 && version != 4) || class > 3)
        return h5_damaged(f, "an unknown layout");
    if (class == 3)
        return h5_unread(f, "a virtual dataset", "copy the values into one file");
    if (class == 1)
        return check_contiguous(f, &p, type, space);
    if (class == 2)
        return version == 3 ? check_chunked_old(f, &p, type, space) : check_chunked_new(f, &p, type, space);
    H5Piece data = p;
    h5_skip(&data, 2);
    if (h5_take(&p, 2) != bytes || h5_left(&p) < bytes)
        return h5_damaged(f, "another number of bytes than its shape says");
    return h5_check_elements(f, data, type, space->count);
}
