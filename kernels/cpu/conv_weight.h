/* Weights of convolutions on their way into oneDNN's order, and the forms of them that a layer keeps.
 *
 * A weight comes as (K,C,kh,kw). The gradient of the input is a convolution of grad y with the weight turned
 * by 180° and its channels swapped, (C,K,kh,kw). A convolution over a map doubled in size (nearest) is four
 * convolutions of the map itself, one for each parity of a result's row and column: a window of 3×3 sees only
 * 2×2 different pixels, whose weights are sums. In rows (columns likewise), for a result's row
 *
 *     even:  pixel i−1: w0        pixel i:   w1 + w2
 *     odd:   pixel i:   w0 + w1   pixel i+1: w2  */
#ifndef ATL_CPU_CONV_WEIGHT_H
#define ATL_CPU_CONV_WEIGHT_H

#include "convert.h"

#include "kernels/base/mem.h"
#include "kernels/cpu/onednn/onednn.h"
#include "kernels/device.h"

#include <string.h>

enum { PHASES = 4, WHOLE = -1 }; /* a phase is 2 · (row odd) + (column odd); WHOLE: the window as it is */

/* What is done to a weight before it is packed. */
typedef struct Change {
    const Tensor *w;
    int phase;
    bool turned;
    DType type; /* of the result */
    void *to;
} Change;

static inline int64_t window_of(const Tensor *w, int phase)
{
    return phase == WHOLE ? w->shape[2] * w->shape[3] : 4;
}

/* The four weights of a phase, from the nine. */
VEC void phase_window(const float w[9], int phase, float to[4])
{
    float rows[2][3];
    for (int v = 0; v < 3; v++) {
        rows[0][v] = phase / 2 ? w[v] + w[3 + v] : w[v];
        rows[1][v] = phase / 2 ? w[6 + v] : w[3 + v] + w[6 + v];
    }
    for (int p = 0; p < 2; p++) {
        to[2 * p] = phase % 2 ? rows[p][0] + rows[p][1] : rows[p][0];
        to[2 * p + 1] = phase % 2 ? rows[p][2] : rows[p][1] + rows[p][2];
    }
}

/* The window whose elements begin at `at` of w, changed, to element `to` and on. */
VEC void change_window(const Change *s, DType from, DType type, int64_t n, int64_t at, int64_t to)
{
    if (s->phase == WHOLE && from == type &&
        type != DTYPE_F32) { /* turned, as it is: no way through floats */
        const uint16_t *w = (const uint16_t *)s->w->data + at;
        for (int64_t i = 0; i < n; i++)
            ((uint16_t *)s->to)[to + i] = w[n - 1 - i];
        return;
    }
    if (s->phase == WHOLE) { /* turned */
        for (int64_t i = 0; i < n; i++)
            put_float(s->to, type, to + i, get_float(s->w->data, from, at + n - 1 - i));
        return;
    }
    float w[9], part[4];
    for (int i = 0; i < 9; i++)
        w[i] = get_float(s->w->data, from, at + i);
    phase_window(w, s->phase, part);
    for (int i = 0; i < 4; i++)
        put_float(s->to, type, to + i, part[s->turned ? 3 - i : i]);
}

enum { CHANGE_BLOCK = 32 }; /* input channels at a time: they follow each other in w */

VEC void change_block(const Change *s, DType from, DType type, int64_t first, int64_t last)
{
    const int64_t K = s->w->shape[0], C = s->w->shape[1], n = window_of(s->w, s->phase),
                  whole = window_of(s->w, WHOLE);
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = first; c < last; c++) {
            const int64_t at = (k * C + c) * whole, to = (s->turned ? c * K + k : k * C + c) * n;
            if (n == 9) /* of all but a few: a loop of known length */
                change_window(s, from, type, 9, at, to);
            else
                change_window(s, from, type, n, at, to);
        }
}

static inline void change_piece(const void *args, int64_t first, int64_t last)
{
    const Change *s = args;
    const int64_t C = s->w->shape[1];
    for (int64_t i = first; i < last; i++) {
        const int64_t c = i * CHANGE_BLOCK, end = c + CHANGE_BLOCK < C ? c + CHANGE_BLOCK : C;
        if (s->type == s->w->dtype)
            WITH_DTYPE(s->type, change_block(s, T, T, c, end));
        else
            change_block(s, s->w->dtype, s->type, c, end);
    }
}

static inline void change_weight(const Change *s)
{
    const int64_t C = s->w->shape[1];
    for_pieces((C + CHANGE_BLOCK - 1) / CHANGE_BLOCK, CHANGE_BLOCK * tensor_count(s->w) / C, change_piece, s);
}

/* The way back for gradients: grad (K,C,3,3) f32 += that of a phase's weight, (K,C,2,2) f32. */
typedef struct Spread {
    float *grad;
    const float *phase_grad;
    int phase;
} Spread;

static inline void spread_piece(const void *args, int64_t first, int64_t last)
{
    const Spread *s = args;
    const int row = s->phase / 2 ? 2 : 1, column = s->phase % 2 ? 2 : 1; /* where the second pixel begins */
    for (int64_t i = first; i < last; i++)
        for (int u = 0; u < 3; u++)
            for (int v = 0; v < 3; v++) {
                const int p = u >= row, q = v >= column;
                s->grad[i * 9 + u * 3 + v] += s->phase_grad[i * 4 + p * 2 + q];
            }
}

static inline void spread_gradient(const Spread *s, int64_t windows)
{
    for_pieces(windows, 9, spread_piece, s);
}

/* What a layer keeps ------------------------------------------------------------------------------------ */

/* Layer.packed: the weight in oneDNN's order, for the forward and for the gradient of the input. A form is
 * noted when a step that uses it is rehearsed, so that its bytes are known, and made at its first use. A
 * layer used at sizes that want different orders keeps the first. */
typedef struct Form {
    int format;
    size_t bytes; /* 0: not noted */
    void *data;   /* NULL: not made */
} Form;

typedef struct Packed {
    Form forward[PHASES], backward[PHASES];
} Packed;

static inline Form *form_of(Packed *p, bool backward, int phase)
{
    return (backward ? p->backward : p->forward) + (phase == WHOLE ? 0 : phase);
}

static inline Status note_form(Layer *l, bool backward, int phase, const OnePrimitive *p, Form **form)
{
    if (!l->packed)
        l->packed = mem_calloc(1, sizeof(Packed));
    if (!l->packed)
        return STATUS_FAILED;
    *form = form_of(l->packed, backward, phase);
    if (!(*form)->bytes)
        **form = (Form){.format = onednn_weight_format(p), .bytes = onednn_weight_bytes(p)};
    return STATUS_OK;
}

/* Memory for a form: a trained weight's lies in its gradient, where that is large enough (the order may round
 * channels up), and there is no other then. NULL: none. */
static inline void *form_place(const Layer *l, size_t bytes)
{
    if (!l->still)
        return mem_alloc(bytes);
    return tensor_bytes(l->weight->grad) >= bytes ? l->weight->grad->data : NULL;
}

static inline size_t cpu_packed_bytes(const Layer *l)
{
    const Packed *p = l->packed;
    size_t bytes = 0;
    for (int i = 0; p && !l->still && i < PHASES; i++)
        bytes += p->forward[i].bytes + p->backward[i].bytes;
    return bytes;
}

static inline void cpu_unpack(Layer *l)
{
    Packed *p = l->packed;
    for (int i = 0; p && !l->still && i < PHASES; i++) {
        mem_free(p->forward[i].data);
        mem_free(p->backward[i].data);
    }
    mem_free(p);
    l->packed = NULL;
}

#endif
