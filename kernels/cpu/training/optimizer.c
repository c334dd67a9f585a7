/* What happens to all trained parameters after the backward pass: the gradients' norm, clipping, the
 * optimizer's step, the moving average, and how far the weights went. All f32; scalars are worked out in
 * double, as Python does for PyTorch. */
#include "kernels/cpu/families.h"
#include "kernels/cpu/pieces.h"
#include "kernels/cpu/vec.h"
#include "kernels/state8.h"

#include <math.h>

/* The loops below sum in double over parts whose size follows from a tensor's count alone: at most 64, each
 * of whole pieces, so that a sum is the same for every number of threads. */
#define SUM_PARTS 64

typedef struct Args {
    float *w, *m, *v;
    const float *g;
    uint8_t *m8, *v8; /* codes; m and v are their magnitudes then */
    const float *m_map, *v_map;
    float grad_scale, decay, new_m, keep_v, new_v, step_size, root, eps;
} Args;

/* The sum that part [first, last) of a tensor adds. */
typedef double (*PartFn)(const Args *s, int64_t first, int64_t last);

static double sum_parts(int64_t n, PartFn fn, const Args *s)
{
    const int64_t part = (n / SUM_PARTS / PIECE_ELEMENTS + 1) * PIECE_ELEMENTS;
    const int parts = (int)((n + part - 1) / part);
    double sums[SUM_PARTS + 1] = {0}, total = 0;
#pragma omp parallel for schedule(static) if (parts > 2)
    for (int i = 0; i < parts; i++)
        sums[i] = fn(s, i * part, (i + 1) * part < n ? (i + 1) * part : n);
    for (int i = 0; i < parts; i++)
        total += sums[i];
    return total;
}

/* The norm --------------------------------------------------------------------------------------------- */

/* Eight interleaved sums: the same bits for every instruction set too. */
static double squares_part(const Args *s, int64_t first, int64_t last)
{
    double sum[8] = {0};
    int64_t i = first;
    for (; i + 8 <= last; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += (double)s->g[i + j] * (double)s->g[i + j];
    for (; i < last; i++)
        sum[0] += (double)s->g[i] * (double)s->g[i];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* Returns the norm by which they are clipped. */
static double measure_gradients(const Update *u, const float *g, StepNumbers *numbers)
{
    double sum = u->other_squares;
    if (!u->more)
        *numbers = (StepNumbers){.segment = -1};
    for (int i = 0; i < u->count; i++) {
        const double squares =
            sum_parts(u->segments[i].count, squares_part, &(Args){.g = g + u->segments[i].first});
        if (!isfinite(squares) && numbers->segment < 0)
            numbers->segment = u->number + i;
        sum += squares;
    }
    const double norm = sqrt(sum) * u->unscale; /* a power of two: exact */
    numbers->norm = u->more ? sqrt(numbers->norm * numbers->norm + norm * norm) : norm;
    numbers->skipped = !isfinite(norm);
    return norm;
}

/* AdamW ------------------------------------------------------------------------------------------------ */

/* torch.optim.AdamW, in its order: w *= 1 - lr wd; m += (1-β1)(g - m); v = β2 v + (1-β2) g²;
 * w -= lr/(1-β1^t) m / (√v / √(1-β2^t) + eps) */
static float adamw_piece(const Args *s, int64_t first, int64_t last)
{
    vf moved = vec_set(0);
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        const vf g = vec_get_n(s->g, DTYPE_F32, i, n) * s->grad_scale;
        vf w = vec_get_n(s->w, DTYPE_F32, i, n), m = vec_get_n(s->m, DTYPE_F32, i, n);
        vf v = vec_get_n(s->v, DTYPE_F32, i, n);
        m = m + (g - m) * s->new_m;
        v = v * s->keep_v + g * g * s->new_v;
        const vf before = w;
        w = w * s->decay - m / (vec_sqrt(v) / s->root + s->eps) * s->step_size;
        moved += (w - before) * (w - before);
        vec_put_n(s->m, DTYPE_F32, i, m, n);
        vec_put_n(s->v, DTYPE_F32, i, v, n);
        vec_put_n(s->w, DTYPE_F32, i, w, n);
    }
    return vec_sum(moved);
}

static double adamw_part(const Args *s, int64_t first, int64_t last)
{
    double moved = 0;
    for (int64_t i = first; i < last; i += PIECE_ELEMENTS)
        moved += (double)adamw_piece(s, i, i + PIECE_ELEMENTS < last ? i + PIECE_ELEMENTS : last);
    return moved;
}

static void adamw_settings(const Update *u, double lr, Args *s)
{
    const double correction1 = 1 - pow(u->beta1, (double)u->step);
    const double correction2 = 1 - pow(u->beta2, (double)u->step);
    s->decay = (float)(1 - lr * u->weight_decay);
    s->new_m = (float)(1 - u->beta1);
    s->keep_v = (float)u->beta2;
    s->new_v = (float)(1 - u->beta2);
    s->step_size = (float)(lr / correction1);
    s->root = (float)sqrt(correction2);
    s->eps = (float)u->eps;
}

/* Where a kind keeps its means, and what a tensor's step is. Completes s, which has the tensor's weights and
 * gradients; m, v: the whole states; returns the sum of squares of what the weights moved by. */
static double adamw(const Update *u, const Segment *at, int64_t room, Tensor *m, Tensor *v, Args *s)
{
    (void)room;
    s->m = (float *)m->data + at->first;
    s->v = (float *)v->data + at->first;
    adamw_settings(u, u->rates[at->group], s);
    return sum_parts(at->count, adamw_part, s);
}

/* AdamW with states in 8 bits --------------------------------------------------------------------------- */

/* n numbers of a block. */
static void decode8(const uint8_t *codes, float most, const float *map, float *x, int n)
{
    for (int i = 0; i < n; i++)
        x[i] = map[codes[i]] * most;
}

/* The code of the nearest value, found by halves; what is halfway takes the lower. */
static uint8_t code_of(float x, const float *map)
{
    int code = 0;
    for (int step = STATE8_CODES / 2; step > 0; step /= 2)
        if (x > 0.5f * (map[code + step - 1] + map[code + step]))
            code += step;
    return (uint8_t)code;
}

/* Returns the largest magnitude; NaN where there is one. */
static float encode8(const float *x, int n, const float *map, uint8_t *codes)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(most) && !(fabsf(x[i]) <= most))
            most = fabsf(x[i]);
    for (int i = 0; i < n; i++)
        codes[i] = code_of(most > 0 ? x[i] / most : 0, map);
    return most;
}

static double adamw8_part(const Args *s, int64_t first, int64_t last)
{
    float m[STATE8_BLOCK], v[STATE8_BLOCK];
    double moved = 0;
    Args block = *s;
    block.m = m;
    block.v = v;
    for (int64_t i = first; i < last; i += STATE8_BLOCK) {
        const int n = last - i < STATE8_BLOCK ? (int)(last - i) : STATE8_BLOCK;
        float *m_most = s->m + i / STATE8_BLOCK, *v_most = s->v + i / STATE8_BLOCK;
        block.w = s->w + i;
        block.g = s->g + i;
        decode8(s->m8 + i, *m_most, s->m_map, m, n);
        decode8(s->v8 + i, *v_most, s->v_map, v, n);
        moved += (double)adamw_piece(&block, 0, n);
        *m_most = encode8(m, n, s->m_map, s->m8 + i);
        *v_most = encode8(v, n, s->v_map, s->v8 + i);
    }
    return moved;
}

/* room: where the tensor's part of the states begins */
static double adamw8(const Update *u, const Segment *at, int64_t room, Tensor *m, Tensor *v, Args *s)
{
    const int64_t magnitudes = at->count < STATE8_SMALL ? 0 : state8_aligned(at->count);
    s->m8 = (uint8_t *)m->data + room;
    s->v8 = (uint8_t *)v->data + room;
    s->m = (float *)(void *)(s->m8 + magnitudes);
    s->v = (float *)(void *)(s->v8 + magnitudes);
    adamw_settings(u, u->rates[at->group], s);
    return sum_parts(at->count, at->count < STATE8_SMALL ? adamw_part : adamw8_part, s);
}

/* The whole -------------------------------------------------------------------------------------------- */

static double (*const KINDS[])(const Update *u, const Segment *at, int64_t room, Tensor *m, Tensor *v,
                               Args *s) = {
    [UPDATE_ADAMW] = adamw,
    [UPDATE_ADAMW8BIT] = adamw8,
};

static void move_weights(const Update *u, const Args *blocks, Tensor *m, Tensor *v, StepNumbers *numbers)
{
    float m_map[STATE8_CODES], v_map[STATE8_CODES];
    int64_t room = 0;
    state8_map(true, m_map);
    state8_map(false, v_map);
    for (int i = 0; i < u->count; i++) {
        const Segment *at = &u->segments[i];
        Args s = {.w = blocks->w + at->first,
                  .g = blocks->g + at->first,
                  .m_map = m_map,
                  .v_map = v_map,
                  .grad_scale = blocks->grad_scale};
        const double moved = KINDS[u->kind](u, at, room, m, v, &s);
        room += state8_room(at->count);
        if (!isfinite(moved) && numbers->segment < 0)
            numbers->segment = u->number + i;
        numbers->moved[at->group] += moved;
    }
}

/* By samples: each stands for stride weights. */
static double change_from(const Update *u, const float *w)
{
    const float *from = u->from;
    double sum = 0;
    for (int i = 0; i < u->count; i++) {
        const Segment *s = &u->segments[i];
        int64_t samples = 0;
        double part = 0;
        for (int64_t k = 0; k < s->count; k += u->stride, samples++) {
            const double d = (double)w[s->first + k] - (double)*from++;
            part += d * d;
        }
        sum += part * (double)s->count / (double)samples;
    }
    return sum;
}

/* average = decay average + (1 - decay) w */
static void average_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        const vf a = vec_get_n(s->w, DTYPE_F32, i, n), x = vec_get_n(s->g, DTYPE_F32, i, n);
        vec_put_n(s->w, DTYPE_F32, i, a * s->decay + x * s->new_m, n);
    }
}

static Status cpu_update_scratch(const Update *u, size_t *bytes)
{
    (void)u;
    *bytes = 0;
    return STATUS_OK;
}

static Status cpu_update(const Update *u, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, Tensor *average,
                         StepNumbers *numbers, void *scratch)
{
    (void)scratch;
    if (numbers->skipped)
        return STATUS_OK;
    const double norm = measure_gradients(u, g->data, numbers);
    if (numbers->skipped || u->measure_only)
        return STATUS_OK;
    /* torch.nn.utils.clip_grad_norm_ has the same 1e-6 */
    const double clip = u->clip > 0 ? fmin(1.0, u->clip / (norm + 1e-6)) : 1.0;
    const Args blocks = {.w = w->data, .g = g->data, .grad_scale = (float)(clip * u->unscale)};
    move_weights(u, &blocks, m, v, numbers);
    if (average) {
        const Args s = {
            .w = average->data, .g = w->data, .decay = u->decay, .new_m = (float)(1 - (double)u->decay)};
        for_pieces(tensor_count(w), 1, average_piece, &s);
    }
    if (u->from)
        numbers->change += change_from(u, w->data);
    return STATUS_OK;
}

static void exchange_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        const vf a = vec_get_n(s->w, DTYPE_F32, i, n), b = vec_get_n(s->m, DTYPE_F32, i, n);
        vec_put_n(s->w, DTYPE_F32, i, b, n);
        vec_put_n(s->m, DTYPE_F32, i, a, n);
    }
}

static Status cpu_exchange(Tensor *a, Tensor *b)
{
    for_pieces(tensor_count(a), 1, exchange_piece, &(Args){.w = a->data, .m = b->data});
    return STATUS_OK;
}

void ISA(optimizer_table)(Device *d)
{
    d->update_scratch = cpu_update_scratch;
    d->update = cpu_update;
    d->exchange = cpu_exchange;
}
