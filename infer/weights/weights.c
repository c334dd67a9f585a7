/* Weights: one part's tensors under the names the files use, and the layers that models make of them.
 *
 * A Weights is a sorted table from key to a piece of a mapped file. A layer's weight points into the mapping
 * where the file's element type is the wanted one and the address suits it; otherwise it is converted into
 * storage of its own, and the file's pages are given back at once, so that loading a model in another type
 * never holds both forms of it. Norms and biases are always f32: they are small, and every operation wants
 * them so.
 *
 * The first failure is kept in the Weights, so that a model's constructor reads like the list of its layers.
 */
#include "weights.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "weights_random.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 256
#define ALIASES 8

typedef struct Entry {
    char *key;
    const TensorEntry *e;
    int part, parts;     /* rows of the first dimension */
    TurnedEntry *turned; /* what e points to, where the file has it otherwise; or NULL */
    bool used;
} Entry;

struct Weights {
    char *origin; /* file or folder, for messages */
    DType dtype;
    Entry *entries;
    int count, capacity;
    bool sorted;
    TensorFiles files;
    struct {
        const char *text, *other;
    } aliases[ALIASES];
    int alias_count;
    bool random;
    uint64_t seed;
    uint32_t drawn; /* parameters drawn so far: the next one's number */
    float normal;   /* weights_random_normal */
    bool described, quantises;
    const char *shown; /* weights_show; NULL: nothing */
    Progress progress;
    int taken; /* tensors so far */
    Status status;
    char *message;
};

/* The table -------------------------------------------------------------------------------------------- */

Status weights_new(const char *origin, DType dtype, Weights **out)
{
    *out = NULL;
    Weights *w = mem_calloc(1, sizeof *w);
    if (!w || !(w->origin = mem_strdup(origin))) {
        mem_free(w);
        return STATUS_FAILED;
    }
    w->dtype = dtype;
    *out = w;
    return STATUS_OK;
}

Status weights_random(uint64_t seed, DType dtype, Weights **out)
{
    TRY(weights_new("random weights", dtype, out));
    (*out)->random = true;
    (*out)->seed = seed;
    return STATUS_OK;
}

void weights_close(Weights *w)
{
    if (!w)
        return;
    if (w->shown)
        progress_clear(&w->progress);
    for (int i = 0; i < w->count; i++) {
        mem_free(w->entries[i].key);
        mem_free(w->entries[i].turned);
    }
    tensorfiles_close(&w->files);
    mem_free(w->entries);
    mem_free(w->origin);
    mem_free(w->message);
    mem_free(w);
}

Status weights_add(Weights *w, const char *key, const TensorEntry *e, int part, int parts)
{
    if (parts > 1 && (e->ndim < 1 || e->shape[0] % parts != 0))
        return status_fail("%s: tensor %s cannot be cut into %d", w->origin, e->name, parts);
    TRY(tensorfiles_keep(&w->files, e->file));
    if (!mem_grow(&w->entries, w->count, &w->capacity, sizeof *w->entries))
        return STATUS_FAILED;
    char *copy = mem_strdup(key);
    if (!copy)
        return STATUS_FAILED;
    w->entries[w->count++] = (Entry){.key = copy, .e = e, .part = part, .parts = parts};
    w->sorted = false;
    return STATUS_OK;
}

Status weights_add_turned(Weights *w, const char *key, const TensorEntry *e)
{
    TurnedEntry *turned = mem_alloc(sizeof *turned);
    if (!turned)
        return STATUS_FAILED;
    Status s = tensor_entry_turn(e, turned);
    if (s == STATUS_OK)
        s = weights_add(w, key, &turned->entry, 0, 1);
    if (s != STATUS_OK)
        mem_free(turned);
    else
        w->entries[w->count - 1].turned = turned;
    return s;
}

void weights_show(Weights *w, const char *what)
{
    w->shown = what;
    progress_begin(&w->progress, "loading", "tensor", 0, w->count);
    progress_quiet(&w->progress, 1);
}

void weights_alias(Weights *w, const char *text, const char *other)
{
    if (w->alias_count < ALIASES) {
        w->aliases[w->alias_count].text = text;
        w->aliases[w->alias_count++].other = other;
    }
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const Entry *)a)->key, ((const Entry *)b)->key);
}

static Entry *find(const Weights *w, const char *key)
{
    if (w->count == 0)
        return NULL;
    if (!w->sorted) { /* a cache of the order, which nobody sees */
        qsort(w->entries, (size_t)w->count, sizeof *w->entries, by_key);
        ((Weights *)w)->sorted = true;
    }
    const Entry wanted = {.key = (char *)key};
    return bsearch(&wanted, w->entries, (size_t)w->count, sizeof *w->entries, by_key);
}

/* The same, trying the other spellings one at a time. */
static Entry *find_spelled(const Weights *w, const char *key)
{
    Entry *e = find(w, key);
    for (int i = 0; i < w->alias_count && !e; i++) {
        const char *at = strstr(key, w->aliases[i].text);
        char other[2 * KEY_MAX];
        if (!at)
            continue;
        snprintf(other, sizeof other, "%.*s%s%s", (int)(at - key), key, w->aliases[i].other,
                 at + strlen(w->aliases[i].text));
        e = find(w, other);
    }
    return e;
}

static Status missing(const Weights *w, const char *key)
{
    return status_fail("%s: tensor %s is missing; do its weights and its config.json belong together?",
                       w->origin, key);
}

Status weights_find(const Weights *w, const char *key, SafePiece *out)
{
    const Entry *f = find_spelled(w, key);
    if (!f)
        return missing(w, key);
    const int64_t count = tensor_entry_count(f->e) / f->parts;
    *out = (SafePiece){f->e, f->part * count, count};
    return STATUS_OK;
}

void weights_describe(Weights *w)
{
    w->described = true;
}

void weights_quantise(Weights *w)
{
    w->quantises = true;
}

void weights_random_normal(Weights *w, float std)
{
    w->normal = std;
}

void weights_warn_unused(const Weights *w, const char *const *expected)
{
    int unused = 0;
    const char *first = NULL;
    for (int i = 0; i < w->count; i++) {
        bool fine = w->entries[i].used;
        for (int k = 0; !fine && expected && expected[k]; k++)
            fine = strstr(w->entries[i].key, expected[k]) != NULL;
        if (fine)
            continue;
        if (unused++ == 0)
            first = w->entries[i].key;
    }
    if (unused)
        log_warn("%s: %d tensor%s belong%s to no layer of this model and %s ignored, first %s", w->origin,
                 unused, unused == 1 ? "" : "s", unused == 1 ? "s" : "", unused == 1 ? "is" : "are", first);
}

#define EDGE ((size_t)2048)

void weights_hash(const Weights *w, Sha256 *s)
{
    find(w, ""); /* sorts */
    for (int i = 0; i < w->count; i++) {
        const TensorEntry *e = w->entries[i].e;
        const size_t edge = e->bytes < EDGE ? e->bytes : EDGE;
        sha256_update(s, w->entries[i].key, strlen(w->entries[i].key) + 1);
        sha256_update(s, e->shape, (size_t)e->ndim * sizeof *e->shape);
        sha256_update(s, e->data, edge);
        sha256_update(s, (const char *)e->data + e->bytes - edge, edge);
    }
}

/* Failures --------------------------------------------------------------------------------------------- */

static void keep_failure(Weights *w, Status s)
{
    if (s == STATUS_OK || w->status != STATUS_OK)
        return;
    w->status = s;
    w->message = mem_strdup(status_message());
}

Status weights_status(const Weights *w)
{
    if (w->status == STATUS_OK)
        return STATUS_OK;
    const char *message = w->message ? w->message : "out of memory";
    return w->status == STATUS_REFUSED ? status_refuse("%s", message) : status_fail("%s", message);
}

/* Layers ----------------------------------------------------------------------------------------------- */

/* The i-th dimension of what the layer gets of the file's tensor. */
static int64_t dim_of(const Entry *f, int i)
{
    return i >= f->e->ndim ? 1 : i == 0 ? f->e->shape[0] / f->parts : f->e->shape[i];
}

/* The file's shape may have ones at its end that the wanted one has not, and the other way: a 1×1
 * convolution. */
static bool shapes_agree(const Entry *f, int ndim, const int64_t *shape)
{
    for (int i = 0; i < f->e->ndim || i < ndim; i++)
        if (dim_of(f, i) != (i < ndim ? shape[i] : 1))
            return false;
    return true;
}

static Status wrong_shape(const Weights *w, const Entry *f, int ndim, const int64_t *shape)
{
    char has[128], wants[128], rows[48] = "";
    Tensor wanted = {.ndim = ndim, .dtype = w->dtype};
    memcpy(wanted.shape, shape, (size_t)ndim * sizeof *shape);
    if (f->parts > 1)
        snprintf(rows, sizeof rows, " in one of %d parts", f->parts);
    return status_fail("%s: tensor %s is %s, but the model's configuration asks for %s%s; do its weights and "
                       "its config.json belong together?",
                       w->origin, f->e->name, tensor_entry_describe(f->e, has, sizeof has),
                       tensor_describe(&wanted, wants, sizeof wants), rows);
}

/* To be filled. */
static Tensor *own_tensor(const Weights *w, DType dtype, int ndim, const int64_t *shape)
{
    return w->described ? tensor_shape_only(dtype, ndim, shape) : tensor_unset(dtype, ndim, shape);
}

/* What is smaller is copied out of the file though its type is right: the kernel maps up to some megabytes of
 * the file around a page that is touched, and norms and biases between tensors that were converted would
 * bring 90 MB of SD1.5's f32 file back. */
#define MAPPED_LEAST ((size_t)64 << 10)

/* NaN would be noticed after a step, and then nobody knows where it came from. Of a mapped tensor this reads
 * the file, which the first step would do else. */
static Status check_finite(const Entry *f, DType dtype)
{
    const int64_t count = tensor_entry_count(f->e) / f->parts;
    return status_in(tensor_entry_check_finite(f->e, f->part * count, count, dtype), "%s",
                     tensorfile_path(f->e->file));
}

/* What an entry holds: over the mapping, or converted. */
static Status take_tensor(const Weights *w, LayerSet *set, Entry *f, DType dtype, int ndim,
                          const int64_t *shape, Tensor **out)
{
    f->used = true;
    const int64_t count = tensor_entry_count(f->e) / f->parts, first = f->part * count;
    const size_t bytes = (size_t)count * dtype_size(dtype);
    const uint8_t *mapped = tensor_entry_mapped(f->e, dtype);
    if (mapped)
        mapped += (size_t)f->part * bytes;
    if (mapped && bytes >= MAPPED_LEAST && (uintptr_t)mapped % dtype_size(dtype) == 0) {
        TRY(w->described ? STATUS_OK : check_finite(f, dtype));
        TRY(tensorfiles_keep(&set->files, f->e->file));
        *out = tensor_over((void *)mapped, dtype, ndim, shape);
        mem_pages_rest(mapped, bytes); /* plans count on a part's pages to come with its first use */
        return *out ? STATUS_OK : STATUS_FAILED;
    }
    *out = own_tensor(w, dtype, ndim, shape);
    if (!*out || w->described)
        return *out ? STATUS_OK : STATUS_FAILED;
    TRY(check_finite(f, dtype));
    TRY(tensor_entry_load(f->e, first, *out));
    tensorfile_release(f->e->file);
    return STATUS_OK;
}

/* The scales of the weight in 8 bits under this key; NULL: there are none. */
static Entry *find_scales(const Weights *w, const char *key)
{
    char name[KEY_MAX + 32];
    snprintf(name, sizeof name, "%s" WEIGHTS_SCALE, key);
    return find_spelled(w, name);
}

/* A weight in 8 bits, which stays so whatever others are stored in. */
static Status take_narrow(const Weights *w, LayerSet *set, Entry *f, Entry *scales, int ndim,
                          const int64_t *shape, Tensor **out)
{
    if (!shapes_agree(scales, 1, shape))
        return wrong_shape(w, scales, 1, shape);
    TRY(take_tensor(w, set, f, DTYPE_I8, ndim, shape, out));
    return take_tensor(w, set, scales, DTYPE_F32, 1, shape, &(*out)->scales);
}

/* One tensor from a file. */
static Status load_tensor(Weights *w, LayerSet *set, const char *key, DType dtype, int ndim,
                          const int64_t *shape, Tensor **out)
{
    Entry *f = find_spelled(w, key);
    if (!f)
        return missing(w, key);
    if (!shapes_agree(f, ndim, shape))
        return wrong_shape(w, f, ndim, shape);
    if (w->shown)
        progress_update(&w->progress, ++w->taken, "%s", w->shown);
    Entry *scales = f->e->type == ELEMENT_I8 ? find_scales(w, key) : NULL;
    if (scales)
        return take_narrow(w, set, f, scales, ndim, shape, out);
    if (!element_is_float(f->e->type))
        return status_fail("%s: tensor %s holds numbers of type %s, a weight needs floats", w->origin,
                           f->e->name, f->e->type_name);
    return take_tensor(w, set, f, dtype, ndim, shape, out);
}

WeightsTotal weights_total(const Weights *w)
{
    WeightsTotal total = {0};
    find(w, ""); /* sorts */
    for (int i = 0; i < w->count; i++) {
        const TensorEntry *e = w->entries[i].e;
        const char *key = w->entries[i].key, *scale = strstr(key, WEIGHTS_SCALE);
        const bool narrow = e->type == ELEMENT_I8 && find_scales(w, key);
        if ((!element_is_float(e->type) && !narrow) || (scale && !scale[strlen(WEIGHTS_SCALE)]))
            continue;
        total.numbers += tensor_entry_count(e) / w->entries[i].parts;
        total.bytes += (int64_t)e->bytes / w->entries[i].parts;
        total.types[e->type] = true;
    }
    return total;
}

/* One tensor drawn as PyTorch initialises it: U(-bound, bound), or N(0, std). */
static Status draw_tensor(Weights *w, LayerKind kind, bool bias, float bound, DType dtype, int ndim,
                          const int64_t *shape, Tensor **out)
{
    *out = own_tensor(w, dtype, ndim, shape);
    if (!*out || w->described)
        return *out ? STATUS_OK : STATUS_FAILED;
    const RandomKey key = {.seed = w->seed, .step = w->drawn++, .purpose = RANDOM_INIT};
    if (kind == LAYER_NORM)
        random_fill_constant(*out, bias ? 0.0f : 1.0f);
    else if (w->normal > 0 && bias)
        random_fill_constant(*out, 0.0f);
    else if (w->normal > 0 || kind == LAYER_EMBEDDING)
        random_fill_normal(*out, key, w->normal > 0 ? w->normal : 1.0f);
    else
        random_fill_uniform(*out, key, bound);
    return STATUS_OK;
}

static Status make_layer(Weights *w, LayerSet *set, Layer *l, LayerKind kind, bool has_bias, int ndim,
                         const int64_t *shape)
{
    char key[KEY_MAX + 16];
    const DType dtype = kind == LAYER_NORM ? DTYPE_F32 : w->dtype;
    int64_t fan_in = 1;
    for (int i = 1; i < ndim; i++)
        fan_in *= shape[i];
    const float bound =
        1.0f / sqrtf((float)fan_in); /* of weight and bias alike: kaiming_uniform with a = √5 */
    snprintf(key, sizeof key, "%s.weight", l->name);
    TRY(w->random ? draw_tensor(w, kind, false, bound, dtype, ndim, shape, &l->weight)
                  : load_tensor(w, set, key, dtype, ndim, shape, &l->weight));
    if (!has_bias)
        return STATUS_OK;
    snprintf(key, sizeof key, "%s.bias", l->name);
    return w->random ? draw_tensor(w, kind, true, bound, DTYPE_F32, 1, shape, &l->bias)
                     : load_tensor(w, set, key, DTYPE_F32, 1, shape, &l->bias);
}

void weights_layer(Weights *w, LayerSet *set, Layer *l, LayerKind kind, bool has_bias, int ndim,
                   const int64_t *shape, const char *path_format, ...)
{
    if (w->status != STATUS_OK)
        return;
    char name[KEY_MAX];
    va_list args;
    va_start(args, path_format);
    vsnprintf(name, sizeof name, path_format, args);
    va_end(args);
    *l = (Layer){0};
    set->described = w->described;
    l->name = mem_strdup(name);
    Status s = l->name ? layerset_add(set, l) : STATUS_FAILED;
    if (s != STATUS_OK) { /* not in the set: nobody else would free it */
        mem_free((char *)l->name);
        l->name = NULL;
    } else
        s = make_layer(w, set, l, kind, has_bias, ndim, shape);
    if (s == STATUS_OK && w->quantises)
        s = layerset_quantise(set, l);
    keep_failure(w, s);
}

void weights_numbers(Weights *w, const char *key, int ndim, const int64_t *shape, float *out)
{
    if (w->status != STATUS_OK)
        return;
    LayerSet files = {0};
    Tensor *t = NULL;
    Status s = load_tensor(w, &files, key, DTYPE_F32, ndim, shape, &t);
    if (s == STATUS_OK && !w->described)
        s = tensor_get(t, out, DTYPE_F32);
    tensor_free(t);
    layerset_free(&files);
    keep_failure(w, s);
}
