/* What happens to a trained parameter after the backward pass: AdamW, the moving average, and the norm of
 * gradients. All f32; scalars are worked out in double, as Python does for PyTorch. */
#include "families.h"
#include "pieces.h"
#include "vec.h"

#include <math.h>

typedef struct Args {
    float *w, *m, *v;
    const float *g;
    float grad_scale, decay, new_m, keep_v, new_v, step_size, root, eps;
} Args;

/* Both loops below sum in double over parts whose size follows from the count alone: at most 64, each of
 * whole pieces, so that the sum is the same for every number of threads. */
#define SUM_PARTS 64

static int64_t part_size(int64_t n)
{
    return (n / SUM_PARTS / PIECE_ELEMENTS + 1) * PIECE_ELEMENTS;
}

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

static Status cpu_adamw(const AdamW *o, Tensor *w, const Tensor *grad, float grad_scale, Tensor *m, Tensor *v,
                        double *moved)
{
    const double correction1 = 1 - pow(o->beta1, (double)o->step);
    const double correction2 = 1 - pow(o->beta2, (double)o->step);
    const Args s = {
        .w = w->data,
        .m = m->data,
        .v = v->data,
        .g = grad->data,
        .grad_scale = grad_scale,
        .decay = (float)(1 - o->lr * o->weight_decay),
        .new_m = (float)(1 - o->beta1),
        .keep_v = (float)o->beta2,
        .new_v = (float)(1 - o->beta2),
        .step_size = (float)(o->lr / correction1),
        .root = (float)sqrt(correction2),
        .eps = (float)o->eps,
    };
    const int64_t n = tensor_count(w), part = part_size(n);
    const int parts = (int)((n + part - 1) / part);
    double sums[SUM_PARTS + 1] = {0};
#pragma omp parallel for schedule(static) if (parts > 2)
    for (int i = 0; i < parts; i++)
        sums[i] = adamw_part(&s, i * part, (i + 1) * part < n ? (i + 1) * part : n);
    *moved = 0;
    for (int i = 0; i < parts; i++)
        *moved += sums[i];
    return STATUS_OK;
}

/* average = decay average + (1 - decay) w */
static void ema_piece(const void *args, int64_t first, int64_t last)
{
    const Args *s = args;
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        const vf a = vec_get_n(s->w, DTYPE_F32, i, n), x = vec_get_n(s->g, DTYPE_F32, i, n);
        vec_put_n(s->w, DTYPE_F32, i, a * s->decay + x * s->new_m, n);
    }
}

static Status cpu_ema(Tensor *average, const Tensor *w, float decay)
{
    const Args s = {.w = average->data, .g = w->data, .decay = decay, .new_m = (float)(1 - (double)decay)};
    for_pieces(tensor_count(w), 1, ema_piece, &s);
    return STATUS_OK;
}

/* Eight interleaved sums: the same bits for every instruction set too. */
static double piece_squares(const float *x, int64_t n)
{
    double sum[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++)
        sum[0] += (double)x[i] * (double)x[i];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

static double cpu_sum_of_squares(const Tensor *t)
{
    const int64_t n = tensor_count(t), part = part_size(n);
    const float *x = t->data;
    double sums[SUM_PARTS + 1] = {0}, total = 0;
    const int pieces = (int)((n + part - 1) / part);
#pragma omp parallel for schedule(static) if (pieces > 2)
    for (int i = 0; i < pieces; i++)
        sums[i] = piece_squares(x + i * part, n - i * part < part ? n - i * part : part);
    for (int i = 0; i < pieces; i++)
        total += sums[i];
    return total;
}

void ISA(optimizer_table)(Device *d)
{
    d->adamw = cpu_adamw;
    d->ema = cpu_ema;
    d->sum_of_squares = cpu_sum_of_squares;
}
