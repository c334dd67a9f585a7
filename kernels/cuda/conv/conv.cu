/* Convolutions on the GPU: what the three products of a layer are as walks over windows (conv.h), which
 * kernel takes them, and the weight's forms.
 *
 * 16-bit maps of one type go to the tensor cores (conv_forward.cu, conv_weight.cu), whatever the weight's
 * type; all else is computed in f32 (conv_plain.cu). A weight comes as (K,C,kh,kw) and is brought into the
 * form of its walk, (N,taps,channels) of the product's type: once, kept in the layer, where it does not
 * change; at each call, in scratch memory, where it is trained. */
#include "kernels/cuda/base/families.h"
#include "conv.h"
#include "int8.h"

#include "kernels/floats.h"

extern "C" {
#include "kernels/base/mem.h"
}

/* One of the products forward and gradient of the input. */
typedef struct ConvPlan {
    ConvWalk walk;
    bool backward, tensor;
    int tile;
    DType form_type;
    size_t form_bytes, part_bytes;
} ConvPlan;

/* Walks ------------------------------------------------------------------------------------------------- */

static Side forward_side(int window, int pad, int count)
{
    Side s = {};
    s.taps = window, s.start = -pad, s.count = count;
    for (int a = 0; a < window; a++)
        s.first[a] = s.last[a] = (unsigned char)a;
    return s;
}

/* Of a doubled map: outputs 2i + phase see two pixels. */
static Side doubled_side(int phase, int count)
{
    Side s = {};
    s.taps = 2, s.start = phase - 1, s.count = count, s.place = phase;
    s.last[0] = (unsigned char)phase;
    s.first[1] = (unsigned char)(phase + 1), s.last[1] = 2;
    return s;
}

/* Of the source's gradient: pixels stride·i + phase are reached by every stride-th element of the window. */
static Side backward_side(int window, int pad, int stride, int phase, int size)
{
    Side s = {};
    int element = window - 1;
    while (element >= 0 && (element - phase - pad) % stride != 0)
        element--;
    s.count = size > phase ? (size - phase + stride - 1) / stride : 0, s.place = phase;
    s.start = (phase + pad - element) / stride;
    for (; element >= 0; element -= stride, s.taps++)
        s.first[s.taps] = s.last[s.taps] = (unsigned char)element;
    return s;
}

/* Of a doubled map's gradient: pixel i is in the windows of four outputs. */
static Side doubled_backward_side(int size)
{
    Side s = {};
    s.taps = 4, s.start = -1, s.count = size;
    s.first[0] = s.last[0] = 2;
    s.first[1] = 1, s.last[1] = 2;
    s.last[2] = 1;
    return s;
}

static void add_class(ConvWalk *w, Side rows, Side columns)
{
    if (rows.taps == 0 || columns.taps == 0)
        rows.taps = 0, columns.taps = 1; /* nothing reaches these: zeros */
    ConvClass *c = &w->of[w->classes++];
    c->rows = rows, c->columns = columns, c->first_tap = w->all_taps;
    w->all_taps += rows.taps * columns.taps;
}

/* x and y are the forward's. */
static void forward_walk(const Conv *a, ConvWalk *w)
{
    const int kh = (int)a->w->shape[2], kw = (int)a->w->shape[3];
    w->step = a->s.stride, w->spread = a->s.upsample ? 2 : 1;
    if (!a->s.upsample)
        add_class(w, forward_side(kh, a->s.pad_top, (int)a->y->shape[1]),
                  forward_side(kw, a->s.pad_left, (int)a->y->shape[2]));
    for (int phase = 0; a->s.upsample && phase < 4; phase++)
        add_class(w, doubled_side(phase / 2, (int)a->x->shape[1]),
                  doubled_side(phase % 2, (int)a->x->shape[2]));
}

static void backward_walk(const Conv *a, ConvWalk *w)
{
    const int kh = (int)a->w->shape[2], kw = (int)a->w->shape[3], stride = a->s.stride;
    const int H = (int)a->x->shape[1], W = (int)a->x->shape[2];
    w->step = a->s.upsample ? 2 : 1, w->spread = stride;
    if (a->s.upsample)
        add_class(w, doubled_backward_side(H), doubled_backward_side(W));
    for (int phase = 0; !a->s.upsample && phase < stride * stride; phase++)
        add_class(w, backward_side(kh, a->s.pad_top, stride, phase / stride, H),
                  backward_side(kw, a->s.pad_left, stride, phase % stride, W));
}

static void walk_between(ConvWalk *w, const Tensor *source, const Tensor *out)
{
    w->source = source->data, w->source_type = source->dtype;
    w->pictures = source->shape[0], w->H = source->shape[1], w->W = source->shape[2], w->C = source->shape[3];
    w->out_H = out->shape[1], w->out_W = out->shape[2], w->N = out->shape[3];
}

static bool aligned(const Tensor *t)
{
    return !t || (uintptr_t)t->data % 16 == 0;
}

Ending conv_ending(const Tensor *y, const Tensor *bias, const Tensor *per_picture, const Tensor *residual)
{
    Ending e = {};
    e.y = y->data, e.y_type = y->dtype;
    e.wide = tensor_dim(y, -1) * (int64_t)dtype_size(y->dtype) % 16 == 0 && aligned(y) && aligned(residual) &&
             (!residual || residual->dtype == y->dtype);
    if (bias)
        e.bias = bias->data, e.bias_type = bias->dtype;
    if (per_picture)
        e.per_picture = per_picture->data, e.per_picture_type = per_picture->dtype;
    if (residual)
        e.residual = residual->data, e.residual_type = residual->dtype;
    return e;
}

static bool sixteen_bits(const Tensor *a, const Tensor *b)
{
    return a->dtype == b->dtype && a->dtype != DTYPE_F32;
}

/* What the kernels count in 32 bits: pixels, and elements of a map as the tensor cores' kernel steps through
 * it. */
static Status fits(const Conv *a)
{
    char text[80];
    if (a->w->shape[2] > WINDOW_MAX || a->w->shape[3] > WINDOW_MAX || a->s.stride > 2)
        return status_fail(
            "computes windows of at most %d×%d with stride 1 or 2, not weight %s with stride %d", WINDOW_MAX,
            WINDOW_MAX, tensor_describe(a->w, text, sizeof text), a->s.stride);
    if (tensor_rows(a->x) > INT32_MAX / 8 || tensor_rows(a->y) > INT32_MAX / 8)
        return status_fail("is too large for one call: %s", tensor_describe(a->x, text, sizeof text));
    return STATUS_OK;
}

static bool steps_fit(const Tensor *source)
{
    return tensor_count(source) / (source->shape[3] % 8 == 0 ? 8 : 1) < INT32_MAX;
}

static Status plan_conv(const Conv *a, bool backward, ConvPlan *p)
{
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->bias, a->y, a->per_picture, a->residual);
    TRY(fits(a));
    const Tensor *source = backward ? a->y : a->x, *out = backward ? a->x : a->y;
    *p = {};
    p->backward = backward;
    walk_between(&p->walk, source, out);
    if (backward)
        backward_walk(a, &p->walk);
    else
        forward_walk(a, &p->walk);
    p->tensor = sixteen_bits(source, out) && steps_fit(source);
    p->form_type = p->tensor ? source->dtype : DTYPE_F32;
    p->walk.padded = p->tensor ? (p->walk.C + 7) / 8 * 8 : (p->walk.C + 3) / 4 * 4;
    if (p->tensor) {
        const Tiling t = conv_tiling(&p->walk);
        p->tile = t.tile, p->walk.splits = t.splits;
    } else {
        p->walk.splits = conv_plain_splits(&p->walk);
    }
    p->form_bytes =
        aligned_bytes((size_t)(p->walk.N * p->walk.all_taps * p->walk.padded) * dtype_size(p->form_type));
    if (p->walk.splits > 1)
        p->part_bytes = aligned_bytes((size_t)(p->walk.splits * tensor_count(out)) * sizeof(float));
    return STATUS_OK;
}

/* Forms of weights -------------------------------------------------------------------------------------- */

enum { PACK_TILE = 32, PACK_THREADS = 256 };

/* Where a weight comes from: (K,C,window) as in files, or its own form for the forward, (K,window,padded). */
typedef struct PackSource {
    const void *data;
    const float *scales; /* in 8 bits: one for each of K */
    int type, K, C, window, width;
    int padded; /* 0: as in files */
} PackSource;

__device__ static inline float weight_at(const PackSource &s, int k, int64_t i)
{
    return s.scales ? (float)((const signed char *)s.data)[i] * s.scales[k] : read_float(s.data, s.type, i);
}

/* The form's elements of 32 of K and `across` of C, by way of shared memory, so that both sides are touched
 * in runs: windows lie side by side in a file's weight, channels in a form. turned: N is C, and channels are
 * K. */
template <typename T>
__global__ static void pack_kernel(ConvWalk w, PackSource s, int across, bool turned, T *form)
{
    SHARED(float, tile); /* (32, across·window + 1) */
    const int window = s.window, width = s.width;
    const int k0 = (int)blockIdx.y * PACK_TILE, c0 = (int)blockIdx.x * across, line = across * window;
    for (int i = (int)threadIdx.x; i < PACK_TILE * line; i += PACK_THREADS) {
        const int k = k0 + i / line, at = i % line;
        const int c = s.padded ? at % across : at / window, tap = s.padded ? at / across : at % window;
        const bool there = k < s.K && c < s.C - c0;
        const int64_t from = s.padded ? ((int64_t)k * window + tap) * s.padded + c0 + c
                                      : ((int64_t)k * s.C + c0 + c) * window + tap;
        tile[i / line * (line + 1) + c * window + tap] = there ? weight_at(s, k, from) : 0;
    }
    __syncthreads();
    const int channels = turned ? PACK_TILE : across, rows = turned ? across : PACK_TILE;
    for (int j = 0; j < w.classes; j++) {
        const ConvClass &of = w.of[j];
        const int taps = of.rows.taps * of.columns.taps;
        for (int i = (int)threadIdx.x; i < channels * rows * taps; i += PACK_THREADS) {
            const int c = i % channels, n = i / channels % rows, tap = i / (channels * rows);
            const int a = tap / of.columns.taps, b = tap % of.columns.taps;
            const int64_t at = (turned ? c0 : k0) + n, channel = (turned ? k0 : c0) + c;
            const float *from = tile + (turned ? c : n) * (line + 1) + (turned ? n : c) * window;
            float sum = 0;
            for (int u = of.rows.first[a]; u <= of.rows.last[a]; u++)
                for (int v = of.columns.first[b]; v <= of.columns.last[b]; v++)
                    sum += from[u * width + v];
            if (at < w.N && channel < w.padded)
                form[(w.N * of.first_tap + at * taps + tap) * w.padded + channel] = from_float<T>(sum);
        }
    }
}

static PackSource source_of(const Tensor *weight)
{
    PackSource s = {};
    s.data = weight->data, s.type = weight->dtype;
    s.scales = weight->scales ? (const float *)weight->scales->data : NULL;
    s.K = (int)weight->shape[0], s.C = (int)weight->shape[1];
    s.width = (int)weight->shape[3], s.window = (int)weight->shape[2] * s.width;
    return s;
}

static Status pack(const ConvPlan *p, PackSource from, void *form)
{
    const int K = from.K, C = from.C, window = from.window;
    const int fit = 288 / window, across = fit < 1 ? 1 : fit > PACK_TILE ? PACK_TILE : fit;
    ConvWalk w = p->walk;
    w.source = NULL, w.end = {};
    const int64_t down = p->backward ? w.padded : K, along = p->backward ? C : w.padded;
    const dim3 grid(blocks_for(along, across), blocks_for(down, PACK_TILE));
    const size_t shared = (size_t)PACK_TILE * (across * window + 1) * sizeof(float);
    Status s = STATUS_OK;
    WITH_FLOAT(p->form_type, T,
               s = LAUNCH(grid, dim3(PACK_THREADS), shared, pack_kernel<T>, w, from, across, p->backward,
                          (T *)form));
    return s;
}

static Status pack_weight(const ConvPlan *p, const Tensor *weight, void *form)
{
    return pack(p, source_of(weight), form);
}

/* Layer.packed: forms for the forward and for the gradient of the input, by type. A form is noted when a step
 * that uses it is rehearsed, so that its bytes are known, and made at its first use. */
typedef struct Form {
    size_t bytes; /* 0: not noted */
    int padded;   /* channels */
    void *data;   /* NULL: not made */
} Form;

typedef struct Packed {
    Form forward[DTYPE_F16 + 1], backward[DTYPE_F16 + 1];
    int held; /* type of the form in the gradient's storage of a weight that is held still; −1: none */
} Packed;

/* The layer's form for the forward, where that for the backward pass can be made of it: a window's elements
 * as they are, and not sums of them. */
static Form *plain_form(const Conv *a, DType type)
{
    Packed *p = a->layer && !a->layer->still && !a->s.upsample ? (Packed *)a->layer->packed : NULL;
    return p && p->forward[type].bytes ? &p->forward[type] : NULL;
}

/* Of a layer that may keep its weight's form at all: whether it keeps it for this product. Turning a form for
 * each backward pass costs a percent of it; keeping it, as much memory as the weights. */
static bool keeps_form(const Conv *a, const ConvPlan *p)
{
    const Layer *l = a->layer;
    if (!l || !p->backward)
        return l;
    return l->packed_only ? !plain_form(a, p->form_type) : !(l->pack_forward_only || l->still);
}

static Status note_form(Layer *l, const ConvPlan *p, Form **form)
{
    Packed *packed = (Packed *)l->packed;
    if (!packed) {
        packed = (Packed *)mem_calloc(1, sizeof(Packed));
        if (!packed)
            return STATUS_FAILED;
        packed->held = -1;
        l->packed = packed;
    }
    *form = (p->backward ? packed->backward : packed->forward) + p->form_type;
    (*form)->bytes = p->form_bytes;
    (*form)->padded = (int)p->walk.padded;
    return STATUS_OK;
}

/* Into the gradient's storage, which has room for one form: in 16 bits of any layer. */
static Status held_form(const Conv *a, const ConvPlan *p, void *scratch, const void **data)
{
    Layer *l = a->layer;
    Form *form;
    TRY(note_form(l, p, &form));
    Packed *packed = (Packed *)l->packed;
    const bool fits = p->form_bytes <= tensor_bytes(l->weight->grad) && aligned(l->weight->grad);
    if (!fits || (packed->held >= 0 && packed->held != (int)p->form_type)) {
        *data = scratch;
        return pack_weight(p, a->w, scratch);
    }
    *data = l->weight->grad->data;
    if (packed->held < 0)
        TRY(pack_weight(p, a->w, l->weight->grad->data));
    packed->held = p->form_type;
    return STATUS_OK;
}

/* Once, from the host's memory, by way of memory that is given back. */
static Status make_from_host(const ConvPlan *p, const Tensor *weight, void *form)
{
    Tensor there = *weight;
    const Device *d = cuda_device();
    if (!(there.data = cuda_memory_new(tensor_bytes(weight))))
        return STATUS_FAILED;
    cuda_aside(true);
    Status s = d->put(there.data, weight->data, tensor_bytes(weight));
    if (s == STATUS_OK)
        s = pack_weight(p, &there, form);
    const Status settled = d->settle();
    cuda_aside(false);
    cuda_memory_free(there.data, tensor_bytes(weight));
    return s == STATUS_OK ? settled : s;
}

/* The form for the backward pass, made of the other. */
static Status turn_form(const Conv *a, const ConvPlan *p, const Form *forward, void *form)
{
    PackSource s = source_of(a->w);
    s.data = forward->data, s.type = p->form_type;
    s.scales = NULL;
    s.padded = forward->padded;
    return pack(p, s, form);
}

/* *data = a's weight in the plan's form: the layer's own where it does not change (made now if it isn't
 * there), else in scratch memory. */
static Status form_of(const Conv *a, const ConvPlan *p, void *scratch, const void **data)
{
    Form *form;
    *data = scratch;
    if (!keeps_form(a, p)) {
        const Form *forward = p->backward ? plain_form(a, p->form_type) : NULL;
        return forward && forward->data ? turn_form(a, p, forward, scratch) : pack_weight(p, a->w, scratch);
    }
    if (a->layer->still)
        return held_form(a, p, scratch, data);
    TRY(note_form(a->layer, p, &form));
    if (!form->data) {
        void *made = cuda_memory_new(form->bytes);
        if (!made)
            return STATUS_FAILED;
        const Status s = a->layer->packed_only ? make_from_host(p, a->w, made) : pack_weight(p, a->w, made);
        if (s != STATUS_OK) {
            cuda_memory_free(made, form->bytes);
            return s;
        }
        form->data = made;
    }
    *data = form->data;
    return STATUS_OK;
}

static size_t cuda_packed_bytes(const Layer *l)
{
    const Packed *p = (const Packed *)l->packed;
    size_t bytes = 0;
    for (int i = 0; p && !l->still && i <= DTYPE_F16; i++)
        bytes += p->forward[i].bytes + p->backward[i].bytes;
    return bytes;
}

static void cuda_unpack(Layer *l)
{
    Packed *p = (Packed *)l->packed;
    for (int i = 0; p && i <= DTYPE_F16; i++) {
        cuda_memory_free(p->forward[i].data, p->forward[i].bytes);
        cuda_memory_free(p->backward[i].data, p->backward[i].bytes);
    }
    mem_free(p);
    l->packed = NULL;
}

/* The three products ------------------------------------------------------------------------------------ */

static Status scratch_of(const Conv *a, bool backward, size_t *bytes)
{
    ConvPlan p;
    Form *form;
    TRY(plan_conv(a, backward, &p));
    *bytes = p.part_bytes;
    if (keeps_form(a, &p) && !a->layer->still)
        return note_form(a->layer, &p, &form);
    *bytes += p.form_bytes;
    return STATUS_OK;
}

static Status run_conv(const Conv *a, bool backward, void *scratch)
{
    ConvPlan p;
    TRY(plan_conv(a, backward, &p));
    p.walk.end = conv_ending(backward ? a->x : a->y, a->bias, a->per_picture, a->residual);
    if (p.part_bytes)
        p.walk.end.partial = (float *)scratch;
    TRY(form_of(a, &p, (char *)scratch + p.part_bytes, &p.walk.form));
    return p.tensor ? conv_tensor(&p.walk, p.tile) : conv_plain(&p.walk);
}

static Status cuda_conv2d_scratch(const Conv *a, size_t *bytes)
{
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->bias, a->y, a->per_picture, a->residual);
    if (cuda_int8_takes_conv(a)) {
        *bytes = cuda_int8_conv_scratch(a);
        return STATUS_OK;
    }
    return scratch_of(a, false, bytes);
}
static Status cuda_conv2d(const Conv *a, void *scratch)
{
    return cuda_int8_takes_conv(a) ? cuda_int8_conv(a, scratch) : run_conv(a, false, scratch);
}

static Status cuda_conv2d_backward_data_scratch(const Conv *a, size_t *bytes)
{
    return scratch_of(a, true, bytes);
}
static Status cuda_conv2d_backward_data(const Conv *a, void *scratch)
{
    return run_conv(a, true, scratch);
}

typedef struct WeightPlan {
    WeightWalk g;
    bool tensor;
    int tile;
    size_t part_bytes, slab_bytes;
} WeightPlan;

static Status plan_weight(const Conv *a, WeightPlan *p)
{
    FLOATS_ONLY(a->x, a->w, a->bias, a->y);
    TRY(fits(a));
    *p = {};
    ConvWalk *w = &p->g.w;
    walk_between(w, a->x, a->y);
    forward_walk(a, w);
    p->g.grad_y = a->y->data, p->g.grad_y_type = a->y->dtype;
    p->g.kh = (int)a->w->shape[2], p->g.kw = (int)a->w->shape[3];
    p->tensor = sixteen_bits(a->x, a->y) && w->C % 8 == 0 && w->N % 8 == 0;
    if (p->tensor) {
        const Tiling t = conv_weight_tiling(&p->g);
        p->tile = t.tile, w->splits = t.splits;
    } else {
        w->splits = conv_weight_plain_splits(&p->g);
    }
    p->part_bytes = aligned_bytes((size_t)(w->splits * w->N * w->all_taps * w->C) * sizeof(float));
    p->slab_bytes = a->bias ? (size_t)(conv_bias_slabs(&p->g) * w->N) * sizeof(float) : 0;
    return STATUS_OK;
}

static Status cuda_conv2d_backward_weight_scratch(const Conv *a, size_t *bytes)
{
    WeightPlan p;
    TRY(plan_weight(a, &p));
    *bytes = p.part_bytes + p.slab_bytes;
    return STATUS_OK;
}

static Status cuda_conv2d_backward_weight(const Conv *a, void *scratch)
{
    WeightPlan p;
    TRY(plan_weight(a, &p));
    p.g.parts = (float *)scratch;
    if (p.tensor && aligned(a->x) && aligned(a->y))
        TRY(conv_weight_tensor(&p.g, p.tile));
    else
        TRY(conv_weight_plain(&p.g));
    return conv_weight_finish(&p.g, (float *)a->w->data, (float *)((char *)scratch + p.part_bytes),
                              a->bias ? (float *)a->bias->data : NULL);
}

extern "C" void cuda_conv_table(Device *d)
{
    d->conv2d_scratch = cuda_conv2d_scratch;
    d->conv2d = cuda_conv2d;
    d->conv2d_backward_data_scratch = cuda_conv2d_backward_data_scratch;
    d->conv2d_backward_data = cuda_conv2d_backward_data;
    d->conv2d_backward_weight_scratch = cuda_conv2d_backward_weight_scratch;
    d->conv2d_backward_weight = cuda_conv2d_backward_weight;
    d->packs_from_host = true;
    d->packed_bytes = cuda_packed_bytes;
    d->unpack = cuda_unpack;
}
