/* Convolutions on the GPU: what the three products of a layer are as walks over windows (conv.h), and which
 * kernel takes them.
 *
 * 16-bit maps of one type go to the tensor cores (conv_forward.cu, conv_weight.cu), whatever the weight's
 * type, and maps of f32 that may be rounded to TF32; all else is computed in f32 (conv_plain.cu). A weight
 * comes as (K,C,kh,kw) and is brought into the form of its walk, (N,taps,channels) of the product's type:
 * once, kept in the layer, where it does not change; at each call, in scratch memory, where it is trained.
 *
 * A weight in 8 bits has one form for all walks (bytes.h), which is kept in the same way and multiplied as it
 * is (conv_bytes.cu). What that does not compute, a doubled map, few channels or f32, decodes it into the
 * walk's form at each call. */
#include "kernels/cuda/base/families.h"
#include "conv.h"
#include "forms.h"
#include "int8.h"

#include "kernels/floats.h"

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

/* Maps that tensor cores multiply. */
static bool of_tensor_cores(const Conv *a)
{
    return a->x->dtype == a->y->dtype && (a->x->dtype != DTYPE_F32 || a->tf32);
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
    const int64_t channels = source->shape[3] * (int64_t)dtype_size(source->dtype) / 2;
    return tensor_rows(source) * channels / (channels % 8 == 0 ? 8 : 1) < INT32_MAX;
}

/* Whether a walk over maps for tensor cores multiplies the form in 8 bits. */
static bool takes_bytes(const Conv *a, const ConvWalk *w)
{
    return conv_is_narrow(a->w) && a->x->dtype != DTYPE_F32 && !a->s.upsample && w->C % BYTE_GROUP == 0 &&
           w->N % BYTE_GROUP == 0 && conv_byte_form_bytes(a->w) / BYTE_CHUNK < INT32_MAX;
}

static Tiling tiling_of(const ConvPlan *p)
{
    return p->bytes ? conv_bytes_tiling(&p->walk, p->backward) : conv_tiling(&p->walk);
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
    p->tensor = of_tensor_cores(a) && steps_fit(source);
    p->form_type = p->tensor ? source->dtype : DTYPE_F32;
    p->walk.padded = p->form_type == DTYPE_F32 ? (p->walk.C + 3) / 4 * 4 : (p->walk.C + 7) / 8 * 8;
    if (p->tensor) {
        p->bytes = takes_bytes(a, &p->walk);
        const Tiling t = tiling_of(p);
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

/* The three products ------------------------------------------------------------------------------------ */

static Status scratch_of(const Conv *a, bool backward, size_t *bytes)
{
    ConvPlan p;
    TRY(plan_conv(a, backward, &p));
    TRY(conv_form_scratch(a, &p, bytes));
    *bytes += p.part_bytes;
    return STATUS_OK;
}

static Status multiply_bytes(const Conv *a, const ConvPlan *p)
{
    ByteForm f = {};
    f.data = (const signed char *)p->walk.form, f.scales = (const float *)a->w->scales->data;
    f.width = (int)a->w->shape[3], f.window = (int)a->w->shape[2] * f.width;
    f.row = (int)byte_row(a->w->shape[1]);
    return conv_bytes(&p->walk, &f, p->tile, p->backward);
}

static Status run_conv(const Conv *a, bool backward, void *scratch)
{
    ConvPlan p;
    TRY(plan_conv(a, backward, &p));
    p.walk.end = conv_ending(backward ? a->x : a->y, a->bias, a->per_picture, a->residual);
    if (p.part_bytes)
        p.walk.end.partial = (float *)scratch;
    TRY(conv_form(a, &p, (char *)scratch + p.part_bytes, &p.walk.form));
    return p.bytes ? multiply_bytes(a, &p) : p.tensor ? conv_tensor(&p.walk, p.tile) : conv_plain(&p.walk);
}

static Status cuda_conv2d_scratch(const Conv *a, size_t *bytes)
{
    FLOATS_ONLY(a->x, a->w->scales ? NULL : a->w, a->bias, a->y, a->per_picture, a->residual);
    if (cuda_int8_takes_conv(a)) {
        ConvPlan p; /* which the layer's form is noted for */
        TRY(plan_conv(a, false, &p));
        TRY(conv_form_scratch(a, &p, bytes));
        *bytes = cuda_int8_conv_scratch(a);
        return STATUS_OK;
    }
    return scratch_of(a, false, bytes);
}
static Status cuda_conv2d(const Conv *a, void *scratch)
{
    const signed char *bytes;
    if (!cuda_int8_takes_conv(a))
        return run_conv(a, false, scratch);
    TRY(conv_kept_bytes(a, &bytes));
    return cuda_int8_conv(a, bytes, scratch);
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
    p->tensor = of_tensor_cores(a) && steps_fit(a->x) && steps_fit(a->y) && w->C % 8 == 0 && w->N % 8 == 0;
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
    d->packed_bytes = conv_packed_bytes;
    d->unpack = conv_unpack;
}
