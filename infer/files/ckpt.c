/* Files that torch.save wrote: .ckpt, .pt, .pth, .bin. A pickle says what there is, tensors among dicts and
 * lists, and where in the file each tensor's numbers lie; the pickle is read by a machine that can do nothing
 * else (pickle.h).
 *
 * Since PyTorch 1.6 they are zip archives, all stored: ROOT/data.pkl, and a file ROOT/data/KEY for each
 * storage. Before, they were five pickles in a row (a magic number, a version, the machine, the objects, the
 * storages' keys) and then the storages in the keys' order, each behind its length.
 *
 * A tensor's name is its way through the dicts, "string_to_param.*". What training saves beside the weights
 * is left out: where there is a "state_dict", the tensors in it are the file's, by their own names. Numbers
 * and texts of the outermost dict (global_step, name) are the file's metadata. */
#include "kernels/base/mem.h"
#include "little_endian.h"
#include "tensor_format.h"
#include "torch_pickle.h"
#include "zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK ((size_t)64 << 10) /* bytes of memory that the smallest file may take beyond twice its size */
#define MAX_DEPTH 16             /* of dicts in dicts with tensors in them */
#define NAME_MAX_BYTES 4096
#define METADATA_MAX 64
#define ENTRY_BYTES 512 /* about what tensorfile_add takes */

typedef struct Piece {
    const char *key;
    size_t key_length, element;
    const uint8_t *data; /* NULL: its place is not known */
    size_t bytes;
} Piece;

typedef struct Reader {
    TensorFile *f;
    Arena arena;
    Zip zip;
    const char *root; /* of the archive: "archive/" */
    size_t root_length;
    Piece *pieces; /* of the older format, sorted by key */
    int piece_count;
    size_t visits; /* values that may still be looked at */
    char path[NAME_MAX_BYTES];
} Reader;

/* Recognising ---------------------------------------------------------------------------------------------
 */

static const uint8_t MAGIC[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

static bool is_zip(const uint8_t *head, size_t n)
{
    return n >= 4 && !memcmp(head, "PK\3\4", 4);
}

static bool recognises(const uint8_t *head, size_t n)
{
    return is_zip(head, n) || (n >= 2 + sizeof MAGIC && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 &&
                               !memcmp(head + 2, MAGIC, sizeof MAGIC));
}

/* Where storages lie --------------------------------------------------------------------------------------
 */

static int by_key(const void *a, const void *b)
{
    const Piece *x = a, *y = b;
    const size_t n = x->key_length < y->key_length ? x->key_length : y->key_length;
    const int order = memcmp(x->key, y->key, n);
    return order ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static Piece *find_piece(const Reader *r, const char *key, size_t length)
{
    const Piece wanted = {.key = key, .key_length = length};
    return r->piece_count ? bsearch(&wanted, r->pieces, (size_t)r->piece_count, sizeof wanted, by_key) : NULL;
}

static Status find_storage(Reader *r, const TorchStorage *s, const uint8_t **data, size_t *bytes)
{
    const int n = s->key_length < 64 ? (int)s->key_length : 64;
    if (!r->zip.map) {
        const Piece *p = find_piece(r, s->key, s->key_length);
        if (!p || !p->data)
            return status_fail("storage %.*s is missing; fetch or write the file again", n, s->key);
        *data = p->data;
        *bytes = p->bytes;
        return STATUS_OK;
    }
    char name[512];
    const size_t length = r->root_length + 5 + s->key_length;
    const ZipEntry *e = NULL;
    if (length <= sizeof name) {
        memcpy(name, r->root, r->root_length);
        memcpy(name + r->root_length, "data/", 5);
        memcpy(name + r->root_length + 5, s->key, s->key_length);
        e = zip_find(&r->zip, name, length);
    }
    return e ? zip_data(&r->zip, e, data, bytes)
             : status_fail("storage data/%.*s is missing; fetch or write the file again", n, s->key);
}

/* Tensors ------------------------------------------------------------------------------------------------ */

/* A text that lives as long as the file. NULL: the status says why. */
static const char *keep_text(Reader *r, const char *text, size_t length)
{
    char *copy = arena_take(&r->arena, length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

static bool has_gaps(const TorchTensor *t)
{
    int64_t row = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->strides[i] != row)
            return true;
        row *= t->shape[i];
    }
    return false;
}

/* How many numbers it has, and from its first to its last in the storage; false: more than can be. */
static bool measure(const TorchTensor *t, int64_t *count, int64_t *span)
{
    *count = 1;
    *span = 1;
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] == 0) {
            *count = *span = 0;
            return true;
        }
    for (int i = 0; i < t->ndim; i++) {
        int64_t way;
        if (__builtin_mul_overflow(*count, t->shape[i], count) ||
            __builtin_mul_overflow(t->shape[i] - 1, t->strides[i], &way) ||
            __builtin_add_overflow(*span, way, span))
            return false;
    }
    return true;
}

/* Of an unknown type the whole storage is the tensor's. */
static Status place(const Reader *r, const TorchTensor *t, const uint8_t *data, size_t bytes, TensorEntry *e)
{
    int64_t count, span;
    const int64_t element = (int64_t)t->storage.element;
    if (!measure(t, &count, &span) || (element && count > (int64_t)r->f->size / element))
        return status_fail("tensor %s: its shape has more numbers than the file; fetch or write it again",
                           r->path);
    if (element && (t->offset > (int64_t)bytes / element || span > (int64_t)bytes / element - t->offset))
        return status_fail("tensor %s: %" PRId64 " numbers from number %" PRId64 " on do not lie in its "
                           "storage of %zu bytes (file truncated?); fetch or write it again",
                           r->path, span, t->offset, bytes);
    e->data = data + (element ? t->offset * element : 0);
    e->bytes = element ? (size_t)(span * element) : bytes;
    return STATUS_OK;
}

static Status add_tensor(Reader *r, const PickleValue *v, size_t length)
{
    TorchTensor t;
    const uint8_t *data;
    size_t bytes;
    TRY(status_in(torch_tensor(v, &t), "tensor %s", r->path));
    TRY(arena_charge(&r->arena, ENTRY_BYTES + 2 * (size_t)t.ndim * sizeof(int64_t)));
    TRY(status_in(find_storage(r, &t.storage, &data, &bytes), "tensor %s", r->path));
    TensorEntry e = {.name = keep_text(r, r->path, length),
                     .type = t.storage.type,
                     .type_name = keep_text(r, t.storage.type_name, t.storage.type_length),
                     .ndim = t.ndim,
                     .shape = t.shape};
    if (!e.name || !e.type_name)
        return STATUS_FAILED;
    TRY(place(r, &t, data, bytes, &e));
    e.strides = t.storage.element && has_gaps(&t) ? t.strides : NULL;
    return tensorfile_add(r->f, &e);
}

/* One more step of the way: a key or a number behind a dot. *length is the path's. */
static Status go_down(Reader *r, const PickleValue *key, int64_t number, size_t *length)
{
    char digits[24];
    const bool is_text = key && key->kind == PICKLE_TEXT;
    if (!is_text)
        snprintf(digits, sizeof digits, "%lld", (long long)(key ? key->whole : number));
    const char *text = is_text ? key->text : digits;
    const size_t n = is_text ? (size_t)key->count : strlen(digits), dot = *length > 0;
    if (pickle_is_text(key ? key : &(PickleValue){0}, "_parameters"))
        return STATUS_OK;
    if (n >= sizeof r->path - dot - *length || memchr(text, 0, n))
        return status_fail(
            "a tensor's name in its pickle is too long, or none; fetch or write the file again");
    if (dot)
        r->path[*length] = '.';
    memcpy(r->path + *length + dot, text, n);
    *length += dot + n;
    r->path[*length] = 0;
    return STATUS_OK;
}

/* All tensors in v; r->path up to `length` is the way to it. */
static Status walk(Reader *r, const PickleValue *v, size_t length, int depth)
{
    if (r->visits-- == 0)
        return status_fail(
            "its pickle has the same things in itself over and over (it is damaged or malicious); "
            "fetch or write the file again");
    r->path[length] = 0;
    if (torch_is_tensor(v))
        return add_tensor(r, v, length);
    const int step = v->kind == PICKLE_DICT ? 2 : 1;
    if ((v->kind != PICKLE_DICT && v->kind != PICKLE_LIST) || v->count == 0)
        return STATUS_OK;
    if (depth == MAX_DEPTH)
        return status_fail("its pickle has more than %d dicts in each other; fetch or write the file again",
                           MAX_DEPTH);
    for (int i = 0; i + step <= v->count; i += step) {
        const PickleValue *key = step == 2 ? v->items[i] : NULL;
        size_t inner = length;
        if (key && key->kind != PICKLE_TEXT && key->kind != PICKLE_INT)
            continue;
        TRY(go_down(r, key, i, &inner));
        TRY(walk(r, v->items[i + step - 1], inner, depth + 1));
    }
    return STATUS_OK;
}

/* A number or a text of the outermost dict. */
static Status add_metadata(Reader *r, const PickleValue *key, const PickleValue *v)
{
    char number[40];
    size_t n = 0;
    if (v->kind == PICKLE_INT)
        n = (size_t)snprintf(number, sizeof number, "%" PRId64, v->whole);
    else if (v->kind == PICKLE_FLOAT)
        n = (size_t)snprintf(number, sizeof number, "%.17g", v->real);
    else if (v->kind == PICKLE_TEXT && !memchr(v->text, 0, (size_t)v->count))
        n = (size_t)v->count;
    if (n == 0 || key->kind != PICKLE_TEXT || memchr(key->text, 0, (size_t)key->count) ||
        tensorfile_metadata_count(r->f) == METADATA_MAX)
        return STATUS_OK;
    const char *name = keep_text(r, key->text, (size_t)key->count);
    const char *text = name ? keep_text(r, v->kind == PICKLE_TEXT ? v->text : number, n) : NULL;
    if (!text)
        return STATUS_FAILED;
    return tensorfile_metadata(r->f, name) ? STATUS_OK : tensorfile_add_metadata(r->f, name, text);
}

static Status add_contents(Reader *r, const PickleValue *root)
{
    if (root->kind != PICKLE_DICT && root->kind != PICKLE_LIST)
        return status_refuse("holds %s, not a dict of tensors; save a model's state_dict() in its place",
                             torch_is_tensor(root) ? "one tensor without a name" : "no tensors");
    for (int i = 0; root->kind == PICKLE_DICT && i + 1 < root->count; i += 2)
        TRY(add_metadata(r, root->items[i], root->items[i + 1]));
    const PickleValue *weights = pickle_get(root, "state_dict");
    return walk(r, weights && weights->kind == PICKLE_DICT ? weights : root, 0, 0);
}

/* The two layouts -----------------------------------------------------------------------------------------
 */

static bool ends_with(const ZipEntry *e, const char *end)
{
    const size_t n = strlen(end);
    return e->length >= n && !memcmp(e->name + e->length - n, end, n) &&
           (e->length == n || e->name[e->length - n - 1] == '/');
}

/* ROOT/NAME; NULL: not there. */
static const ZipEntry *in_root(const Reader *r, const char *name)
{
    char whole[512];
    const int n = snprintf(whole, sizeof whole, "%.*s%s", (int)r->root_length, r->root, name);
    return n > 0 && n < (int)sizeof whole ? zip_find(&r->zip, whole, (size_t)n) : NULL;
}

static Status refuse_big_endian(void)
{
    return status_refuse(
        "was written on a machine with the highest byte first; convert it to safetensors there");
}

static Status read_zip(Reader *r, Pickle *pickle)
{
    const ZipEntry *e = NULL;
    const uint8_t *data;
    size_t size;
    TRY(zip_open(r->f->map, r->f->size, &r->zip));
    TRY(arena_charge(&r->arena, (size_t)r->zip.count * sizeof(ZipEntry)));
    for (int i = 0; i < r->zip.count && !e; i++)
        if (ends_with(&r->zip.entries[i], "data.pkl"))
            e = &r->zip.entries[i];
    if (!e || e->length > 256)
        return status_refuse(
            "is a zip archive without a data.pkl, so no file of torch.save; unpack it and take "
            "the file that is in it");
    r->root = e->name;
    r->root_length = e->length - strlen("data.pkl");
    if (in_root(r, "constants.pkl"))
        return status_refuse("is a TorchScript program, not a file of tensors; save its state_dict()");
    const ZipEntry *order = in_root(r, "byteorder");
    if (order) {
        TRY(zip_data(&r->zip, order, &data, &size));
        if (size == 3 && !memcmp(data, "big", 3))
            return refuse_big_endian();
    }
    TRY(zip_data(&r->zip, e, &data, &size));
    return pickle_read(&r->arena, data, size, torch_allowed, pickle);
}

/* A Piece for each key, as large as all that refer to it agree on. */
static Status list_pieces(Reader *r, const PickleValue *refs)
{
    r->pieces = arena_take(&r->arena, (size_t)refs->count * sizeof *r->pieces);
    if (!r->pieces)
        return STATUS_FAILED;
    for (int i = 0; i < refs->count; i++) {
        TorchStorage s = {0};
        TRY(torch_storage(refs->items[i], &s));
        r->pieces[i] = (Piece){.key = s.key, .key_length = s.key_length, .element = s.element};
    }
    if (refs->count)
        qsort(r->pieces, (size_t)refs->count, sizeof *r->pieces, by_key);
    for (int i = 0; i < refs->count; i++)
        if (r->piece_count == 0 || by_key(&r->pieces[r->piece_count - 1], &r->pieces[i]) != 0)
            r->pieces[r->piece_count++] = r->pieces[i];
    return STATUS_OK;
}

/* The storages behind the pickles, from byte `at` on. */
static Status place_pieces(Reader *r, const PickleValue *keys, size_t at)
{
    const TensorFile *f = r->f;
    for (int i = 0; keys->kind == PICKLE_LIST && i < keys->count; i++) {
        const PickleValue *key = keys->items[i];
        Piece *p = key->kind == PICKLE_TEXT ? find_piece(r, key->text, (size_t)key->count) : NULL;
        if (!p || !p->element)
            return status_fail("a storage of an unknown type; save the file anew with a newer PyTorch");
        if (f->size - at < 8 || le64(f->map + at) > (f->size - at - 8) / p->element)
            return status_fail("storage %d of %d ends after the file's %zu bytes (file truncated?); fetch or "
                               "write it again",
                               i + 1, keys->count, f->size);
        p->bytes = (size_t)le64(f->map + at) * p->element;
        p->data = f->map + at + 8;
        at += 8 + p->bytes;
    }
    return STATUS_OK;
}

static Status read_row(Reader *r, Pickle *objects)
{
    enum { MAGIC_NUMBER, VERSION, MACHINE, OBJECTS, KEYS, PICKLES };
    const TensorFile *f = r->f;
    size_t at = 0;
    Pickle p[PICKLES];
    for (int i = 0; i < PICKLES; i++) {
        TRY(pickle_read(&r->arena, f->map + at, f->size - at, torch_allowed, &p[i]));
        at += p[i].used;
    }
    const PickleValue *little = pickle_get(p[MACHINE].root, "little_endian");
    if (little && little->kind == PICKLE_BOOL && !little->whole)
        return refuse_big_endian();
    TRY(list_pieces(r, &p[OBJECTS].refs));
    TRY(place_pieces(r, p[KEYS].root, at));
    *objects = p[OBJECTS];
    return STATUS_OK;
}

static Status read_file(TensorFile *f)
{
    Arena *kept = mem_calloc(1, sizeof *kept);
    Reader *r = kept ? mem_calloc(1, sizeof *r) : NULL;
    f->own = kept;
    if (!r)
        return STATUS_FAILED;
    r->f = f;
    r->arena.left = 2 * f->size + SLACK;
    Pickle pickle = {0};
    Status s = is_zip(f->map, f->size) ? read_zip(r, &pickle) : read_row(r, &pickle);
    r->visits = f->size;
    if (s == STATUS_OK)
        s = add_contents(r, pickle.root);
    if (s == STATUS_OK)
        tensorfile_sort(f);
    *kept = r->arena;
    zip_close(&r->zip);
    mem_free(r);
    return s;
}

static void forget(void *own)
{
    arena_free(own);
    mem_free(own);
}

const TensorFormat format_ckpt = {
    .name = "ckpt", .recognises = recognises, .read = read_file, .close = forget};
