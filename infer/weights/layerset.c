/* What may be done with all of a part's layers at once. */
#include "layerset.h"

#include "kernels/base/mem.h"
#include "kernels/device.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Building --------------------------------------------------------------------------------------------- */

Status layerset_add(LayerSet *set, Layer *l)
{
    if (!mem_grow(&set->items, set->count, &set->capacity, sizeof *set->items))
        return STATUS_FAILED;
    set->items[set->count++] = l;
    return STATUS_OK;
}

/* Using ------------------------------------------------------------------------------------------------ */

static const Device *device_of(const LayerSet *set)
{
    return set->dev ? set->dev : device_cpu();
}

static void drop_packed(const LayerSet *set, Layer *l)
{
    if (l->packed)
        device_of(set)->unpack(l);
}

size_t layerset_packed_bytes(const LayerSet *set, const Layer *l)
{
    return device_of(set)->packed_bytes(l);
}

void layerset_free(LayerSet *set)
{
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        drop_packed(set, l);
        tensor_free(l->weight);
        tensor_free(l->bias);
        mem_free((char *)l->name);
    }
    mem_free(set->items);
    if (set->pinned)
        set->dev->pinned_free(set->pinned, set->pinned_bytes);
    tensorfiles_close(&set->files);
    *set = (LayerSet){0};
}

size_t layerset_elements(const LayerSet *set)
{
    size_t n = 0;
    for (int i = 0; i < set->count; i++) {
        const Tensor *const tensors[] = {set->items[i]->weight, set->items[i]->bias};
        for (int k = 0; k < 2; k++)
            n += tensors[k] ? (size_t)tensor_count(tensors[k]) : 0;
    }
    return n;
}

Layer *layerset_find(const LayerSet *set, const char *name)
{
    for (int i = 0; i < set->count; i++)
        if (!strcmp(set->items[i]->name, name))
            return set->items[i];
    return NULL;
}

int64_t layerset_room(const LayerSet *set)
{
    int64_t n = 0;
    for (int i = 0; i < set->count - set->idle; i++) {
        const Tensor *const tensors[] = {set->items[i]->weight, set->items[i]->bias};
        for (int k = 0; k < 2; k++)
            n += tensors[k] ? flat_room(tensor_count(tensors[k])) : 0;
    }
    return n;
}

/* Gives the pages of a mapped file back, as far as they are t's alone. A trained tensor lies in a block,
 * which comes from no file. */
static void rest_tensor(const Tensor *t)
{
    if (t && t->data && !t->owned && !t->requires_grad)
        mem_pages_rest(t->data, tensor_bytes(t));
}

/* 8 bits ------------------------------------------------------------------------------------------------- */

#define QUANTISED_LEAST 1024 /* elements; what is smaller saves nothing */
#define TABLE_ROWS 16384     /* a table of that many rows is looked up, not multiplied with */
#define SHARED_LEAST 65536   /* elements, from which on all threads take part */

bool layerset_quantises(const char *name, int ndim, const int64_t *shape)
{
    static const char *const wide[] = {"conv_in", "conv_out", "time_embedding.", "add_embedding.",
                                       "text_projection"};
    int64_t count = 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strncmp(name, wide[i], strlen(wide[i])))
            return false;
    for (int i = 0; i < ndim; i++)
        count *= shape[i];
    return ndim > 1 && shape[0] < TABLE_ROWS && count >= QUANTISED_LEAST;
}

float quantise_row(const float *x, int64_t n, int8_t *q)
{
    const float magic = 12582912.0f; /* 1.5 · 2^23: adding it rounds; the low bits are the whole number's */
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float scale = most / 127;
    for (int64_t i = 0; i < n; i++) {
        const float y = scale > 0 ? x[i] / scale + magic : magic;
        int32_t bits;
        memcpy(&bits, &y, sizeof bits);
        q[i] = (int8_t)bits;
    }
    return scale;
}

static Status quantise_rows(const Tensor *w, Tensor *q)
{
    const int64_t rows = w->shape[0], n = tensor_count(w) / rows;
    float *wide = mem_alloc(sizeof *wide * (size_t)(n * omp_get_max_threads())); /* a row for each thread */
    if (!wide)
        return STATUS_FAILED;
#pragma omp parallel for schedule(static) if (rows * n >= SHARED_LEAST)
    for (int64_t r = 0; r < rows; r++) {
        float *row = wide + n * omp_get_thread_num();
        convert_floats(row, DTYPE_F32, (const char *)w->data + (size_t)(r * n) * dtype_size(w->dtype),
                       w->dtype, n);
        ((float *)q->scales->data)[r] = quantise_row(row, n, (int8_t *)q->data + r * n);
    }
    mem_free(wide);
    return STATUS_OK;
}

/* A weight with room for its scales; of a described set's shapes alone. */
static Tensor *quantised_like(const LayerSet *set, const Tensor *w)
{
    Tensor *(*const make)(DType, int, const int64_t *) = set->described ? tensor_shape_only : tensor_unset;
    Tensor *q = make(DTYPE_I8, w->ndim, w->shape);
    if (q && !(q->scales = make(DTYPE_F32, 1, w->shape))) {
        tensor_free(q);
        return NULL;
    }
    return q;
}

Status layerset_quantise(LayerSet *set, Layer *l)
{
    const Tensor *w = l->weight;
    if (!w || !dtype_is_float(w->dtype) || !layerset_quantises(l->name, w->ndim, w->shape))
        return STATUS_OK;
    Tensor *q = quantised_like(set, l->weight);
    if (!q)
        return STATUS_FAILED;
    const Status s = q->data ? quantise_rows(l->weight, q) : STATUS_OK;
    if (s != STATUS_OK) {
        tensor_free(q);
        return s;
    }
    drop_packed(set, l);
    rest_tensor(l->weight);
    tensor_free(l->weight);
    l->weight = q;
    return STATUS_OK;
}

/* Of a weight in 8 bits, where it lies in the host's memory. */
static Status decode_tensor(Tensor **t, DType dtype)
{
    Tensor *const narrow = *t;
    const bool there = narrow->data && narrow->scales->data;
    Tensor *wide = (there ? tensor_unset : tensor_shape_only)(dtype, narrow->ndim, narrow->shape);
    if (!wide)
        return STATUS_FAILED;
    const Status s = there ? device_cpu()->decode(narrow, narrow->scales, wide) : STATUS_OK;
    rest_tensor(narrow);
    tensor_free(narrow);
    *t = wide;
    return s;
}

Status layerset_decode(LayerSet *set, DType dtype)
{
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        if (!l->weight || !l->weight->scales)
            continue;
        drop_packed(set, l);
        TRY(decode_tensor(&l->weight, dtype));
    }
    return STATUS_OK;
}

void layerset_narrow(LayerSet *set)
{
    for (int i = 0; i < set->count; i++)
        set->items[i]->narrow = set->items[i]->weight && set->items[i]->weight->scales;
}

static Status place_tensor(Tensor *t, const Device *dev)
{
    if (t && t->scales)
        TRY(tensor_place(t->scales, dev));
    Tensor mapped = t ? *t : (Tensor){0};
    TRY(t ? tensor_place(t, dev) : STATUS_OK);
    if (t && t->home != mapped.home)
        rest_tensor(&mapped);
    return STATUS_OK;
}

static Status place_adapter(Adapter *a, const Device *dev)
{
    for (int k = 0; k < ADAPTER_TENSORS; k++)
        TRY(place_tensor(a->tensors[k], dev));
    TRY(place_tensor(a->weight_factor, dev));
    return place_tensor(a->delta_factor, dev);
}

/* Streamed weights --------------------------------------------------------------------------------------- */

#define STREAMED_LEAST ((size_t)4 << 10) /* bytes; biases and norms stay where they are needed */

static bool is_large(const Tensor *w)
{
    return w && w->ndim > 1 && tensor_bytes(w) >= STREAMED_LEAST;
}

static bool is_streamed(const Layer *l)
{
    const Tensor *w = l->weight;
    if (w && w->requires_grad) /* which lies where its block does: layerset_train */
        return l->streamed;
    return is_large(w) && !w->home;
}

static bool is_pinned_now(const Layer *l)
{
    return is_streamed(l) && !l->weight->requires_grad;
}

static size_t pinned_room(const Tensor *t)
{
    return (tensor_bytes(t) + 255) / 256 * 256;
}

/* Moves the weights that are streamed into one block that the device copies from by itself. */
static Status pin_weights(LayerSet *set, const Device *dev)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++)
        if (is_pinned_now(set->items[i]))
            bytes += pinned_room(set->items[i]->weight);
    char *at = bytes && !set->described ? dev->pinned_new(bytes) : NULL;
    if (bytes && !set->described && !at)
        return STATUS_FAILED;
    set->pinned = at;
    set->pinned_bytes = bytes;
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        l->streamed = is_streamed(l);
        if (!is_pinned_now(l) || set->described)
            continue;
        Tensor *pinned = tensor_over(at, l->weight->dtype, l->weight->ndim, l->weight->shape);
        if (!pinned)
            return STATUS_FAILED;
        memcpy(at, l->weight->data, tensor_bytes(l->weight));
        pinned->scales = l->weight->scales;
        l->weight->scales = NULL;
        at += pinned_room(l->weight);
        rest_tensor(l->weight);
        tensor_free(l->weight);
        l->weight = pinned;
    }
    return STATUS_OK;
}

/* DoRA adds a part of the weight itself. */
static bool is_read_whole(const Layer *l)
{
    for (const Adapter *a = l->adapters; a; a = a->next)
        if (a->weight_factor)
            return true;
    return false;
}

/* A frozen convolution that the device multiplies in an order of its own. */
static bool is_packed_only(const Layer *l)
{
    const Tensor *w = l->weight;
    return w && w->ndim == 4 && w->shape[2] * w->shape[3] > 1 && !w->requires_grad && !w->home &&
           !l->pack_off && !l->streamed && !is_read_whole(l) && (dtype_is_float(w->dtype) || w->scales);
}

Status layerset_place(LayerSet *set, const Device *dev, Placement placement)
{
    set->dev = dev;
    if (placement == PLACED_STREAMED && !dev->host_memory && !set->pinned)
        TRY(pin_weights(set, dev));
    bool keeps_files = false;
    for (int i = 0; i < set->count; i++) {
        set->items[i]->packed_only = dev->packs_from_host && is_packed_only(set->items[i]);
        keeps_files |= set->items[i]->packed_only && !set->items[i]->weight->owned;
    }
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        drop_packed(set, l);
        if ((l->streamed || l->packed_only) && l->weight->scales)
            TRY(tensor_place(l->weight->scales, dev));
        if (set->trained_on_host && l->weight && l->weight->requires_grad)
            continue; /* the device reaches what is small where it is */
        TRY(l->streamed || l->packed_only ? STATUS_OK
                                          : status_in(place_tensor(l->weight, dev), "%s", l->name));
        TRY(status_in(place_tensor(l->bias, dev), "%s", l->name));
        for (Adapter *a = l->adapters; a; a = a->next)
            TRY(status_in(place_adapter(a, dev), "%s", l->name));
    }
    if (!dev->host_memory) {
        TRY(dev->settle());
        if (!keeps_files)
            tensorfiles_close(&set->files);
    }
    return STATUS_OK;
}

/* Moves *t into the block. */
static Status train_tensor(Tensor **t, Flat *flat)
{
    if (!*t)
        return STATUS_OK;
    if ((*t)->scales)
        TRY(decode_tensor(t, DTYPE_F32));
    Tensor *own = flat_take(flat, (*t)->ndim, (*t)->shape);
    if (!own)
        return STATUS_FAILED;
    Status s = own->data ? tensor_copy(own, *t) : STATUS_OK;
    if (s == STATUS_OK && (*t)->home)
        s = (*t)->home->settle(); /* before its memory goes */
    rest_tensor(*t);
    tensor_free(*t);
    *t = own;
    return s;
}

Status layerset_train(LayerSet *set, Flat *flat)
{
    for (int i = 0; i < set->count - set->idle; i++) {
        drop_packed(set, set->items[i]);
        set->items[i]->packed_only = false;
        TRY(train_tensor(&set->items[i]->weight, flat));
        TRY(train_tensor(&set->items[i]->bias, flat));
        set->items[i]->streamed = flat->pinned_by && is_large(set->items[i]->weight);
    }
    set->trained_on_host = flat->pinned_by;
    set->gradients_apart = !flat->gradients;
    if (!set->idle) /* which may lie in the files */
        tensorfiles_close(&set->files);
    return STATUS_OK;
}

void layerset_keep_packed(LayerSet *set, Packed kept)
{
    for (int i = 0; i < set->count; i++) {
        set->items[i]->pack_off = kept == PACKED_NOT;
        set->items[i]->pack_forward_only = kept == PACKED_FORWARD;
        if (kept != PACKED_BOTH)
            drop_packed(set, set->items[i]);
    }
}

void layerset_hold_still(LayerSet *set, bool still)
{
    for (int i = 0; i < set->count; i++) {
        Layer *l = set->items[i];
        if (!weight_grad(l->weight) || l->streamed || set->gradients_apart) /* it has no storage to spare */
            continue;
        drop_packed(set, l);
        l->still = still;
    }
}

void layerset_rest(LayerSet *set)
{
    for (int i = 0; i < set->count; i++) {
        drop_packed(set, set->items[i]);
        if (!set->items[i]->streamed) /* which lies in no file any more */
            rest_tensor(set->items[i]->weight);
        rest_tensor(set->items[i]->bias);
    }
}
