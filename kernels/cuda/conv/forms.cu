/* The forms of convolutions' weights (forms.h): made in one pass of shared memory, kept at Layer.packed. */
#include "kernels/cuda/base/families.h"
#include "forms.h"

extern "C" {
#include "kernels/base/mem.h"
}

bool conv_is_narrow(const Tensor *w)
{
    return w->dtype == DTYPE_I8 && w->scales;
}

size_t conv_byte_form_bytes(const Tensor *w)
{
    return aligned_bytes((size_t)(w->shape[0] * w->shape[2] * w->shape[3] * byte_row(w->shape[1])));
}

enum { PACK_TILE = 32, PACK_THREADS = 256 };

/* Where a weight comes from: (K,C,window) as in files, or its own form for the forward or in 8 bits,
 * (K,window,padded).
 */
typedef struct PackSource {
    const void *data;
    const float *scales; /* in 8 bits: one for each of K */
    int type, K, C, window, width;
    int padded;  /* 0: as in files */
    bool groups; /* its channels lie as in bytes.h */
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
        const int channel = s.groups ? byte_place(c0 + c) : c0 + c;
        const int64_t from = s.padded ? ((int64_t)k * window + tap) * s.padded + channel
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
    Form forward[DTYPE_F16 + 1], backward[DTYPE_F16 + 1], bytes; /* bytes: in 8 bits, for both */
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

static Packed *packed_of(Layer *l)
{
    Packed *packed = (Packed *)l->packed;
    if (packed || !(packed = (Packed *)mem_calloc(1, sizeof(Packed))))
        return packed;
    packed->held = -1;
    l->packed = packed;
    return packed;
}

static Status note_form(Layer *l, const ConvPlan *p, Form **form)
{
    Packed *const packed = packed_of(l);
    if (!packed)
        return STATUS_FAILED;
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
    const bool fits =
        p->form_bytes <= tensor_bytes(l->weight->grad) && (uintptr_t)l->weight->grad->data % 16 == 0;
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

/* The weight in the plan's form or, where that is NULL, in 8 bits. */
static Status pack_or_group(const ConvPlan *p, const Tensor *weight, void *form)
{
    return p ? pack_weight(p, weight, form) : conv_bytes_form(weight, (signed char *)form);
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
        s = pack_or_group(p, &there, form);
    const Status settled = d->settle();
    cuda_aside(false);
    cuda_memory_free(there.data, tensor_bytes(weight));
    return s == STATUS_OK ? settled : s;
}

/* The layer's form, made now if it is not there. */
static Status make_form(const Layer *l, const ConvPlan *p, const Tensor *weight, Form *form)
{
    if (form->data)
        return STATUS_OK;
    void *made = cuda_memory_new(form->bytes);
    if (!made)
        return STATUS_FAILED;
    const Status s = l->packed_only ? make_from_host(p, weight, made) : pack_or_group(p, weight, made);
    if (s == STATUS_OK)
        form->data = made;
    else
        cuda_memory_free(made, form->bytes);
    return s;
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
static Status wide_form(const Conv *a, const ConvPlan *p, void *scratch, const void **data)
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
    TRY(make_form(a->layer, p, a->w, form));
    *data = form->data;
    return STATUS_OK;
}

/* Forms in 8 bits ---------------------------------------------------------------------------------------- */

static Status note_bytes(const Conv *a)
{
    Packed *const packed = packed_of(a->layer);
    if (packed)
        packed->bytes.bytes = conv_byte_form_bytes(a->w);
    return packed ? STATUS_OK : STATUS_FAILED;
}

/* *bytes = what the layer keeps, made now if it is not there; NULL: it keeps none. */
Status conv_kept_bytes(const Conv *a, const signed char **bytes)
{
    *bytes = NULL;
    if (!a->layer)
        return STATUS_OK;
    TRY(note_bytes(a));
    Form *const form = &((Packed *)a->layer->packed)->bytes;
    TRY(make_form(a->layer, NULL, a->w, form));
    *bytes = (const signed char *)form->data;
    return STATUS_OK;
}

static PackSource grouped_source(const Tensor *weight, const signed char *bytes)
{
    PackSource s = source_of(weight);
    s.data = bytes, s.groups = true;
    s.padded = (int)byte_row(weight->shape[1]);
    return s;
}

/* The form in 8 bits, or made of it or of what files have: in scratch memory unless it is the layer's own. */
static Status narrow_form(const Conv *a, const ConvPlan *p, void *scratch, const void **data)
{
    const signed char *bytes;
    TRY(conv_kept_bytes(a, &bytes));
    *data = p->bytes && bytes ? bytes : scratch;
    if (p->bytes)
        return bytes ? STATUS_OK : conv_bytes_form(a->w, (signed char *)scratch);
    return bytes ? pack(p, grouped_source(a->w, bytes), scratch) : pack_weight(p, a->w, scratch);
}

/* For a product ------------------------------------------------------------------------------------------ */

Status conv_form_scratch(const Conv *a, const ConvPlan *p, size_t *bytes)
{
    Form *form;
    *bytes = 0;
    if (conv_is_narrow(a->w)) {
        if (!p->bytes)
            *bytes = p->form_bytes;
        else if (!a->layer)
            *bytes = conv_byte_form_bytes(a->w);
        return a->layer ? note_bytes(a) : STATUS_OK;
    }
    if (keeps_form(a, p) && !a->layer->still)
        return note_form(a->layer, p, &form);
    *bytes = p->form_bytes;
    return STATUS_OK;
}

Status conv_form(const Conv *a, const ConvPlan *p, void *scratch, const void **form)
{
    return (conv_is_narrow(a->w) ? narrow_form : wide_form)(a, p, scratch, form);
}

size_t conv_packed_bytes(const Layer *l)
{
    const Packed *p = (const Packed *)l->packed;
    size_t bytes = p ? p->bytes.bytes : 0;
    for (int i = 0; p && !l->still && i <= DTYPE_F16; i++)
        bytes += p->forward[i].bytes + p->backward[i].bytes;
    return bytes;
}

void conv_unpack(Layer *l)
{
    Packed *p = (Packed *)l->packed;
    for (int i = 0; p && i <= DTYPE_F16; i++) {
        cuda_memory_free(p->forward[i].data, p->forward[i].bytes);
        cuda_memory_free(p->backward[i].data, p->backward[i].bytes);
    }
    if (p)
        cuda_memory_free(p->bytes.data, p->bytes.bytes);
    mem_free(p);
    l->packed = NULL;
}
