/* Losses.
 *
 * Sums of squares go by pieces of 4096 elements, f32 in VL lanes within a piece and double between them, in
 * order. */
#include "kernels/cpu/families.h"
#include "kernels/cpu/vec.h"
#include "kernels/floats.h"

#define LOSS_PIECE 4096

VEC float squared_difference(const void *p, DType pt, const void *t, DType tt, int64_t first, int64_t last)
{
    vf sum = {0};
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        const vf d = vec_get_n(p, pt, i, n) - vec_get_n(t, tt, i, n);
        sum += d * d;
    }
    return vec_sum(sum);
}

/* Elements [first, last), in pieces. */
static double span_squares(const Tensor *p, const Tensor *t, int64_t first, int64_t last)
{
    double sum = 0;
    for (int64_t i = first; i < last; i += LOSS_PIECE)
        sum += (double)squared_difference(p->data, p->dtype, t->data, t->dtype, i,
                                          last - i < LOSS_PIECE ? last : i + LOSS_PIECE);
    return sum;
}

/* p, t (B,n): per-sample means of (p - t)²; loss = Σ weight (p - t)² / (n B). A weight stands for a span of
 * elements: a whole sample, or the channels of one position. */
static Status cpu_mse_loss(const Tensor *p, const Tensor *t, const Tensor *weight, Tensor *loss,
                           Tensor *per_sample)
{
    FLOATS_ONLY(p, t);
    const int64_t B = p->shape[0], n = tensor_count(p) / B, spans = weight ? tensor_count(weight) / B : 1;
    const int64_t length = n / spans;
    const float *w = weight ? weight->data : NULL;
    double total = 0;
    for (int64_t b = 0; b < B; b++) {
        double mean = 0, weighted = 0;
        for (int64_t s = b * spans; s < (b + 1) * spans; s++) {
            const double part = span_squares(p, t, s * length, (s + 1) * length) / (double)n;
            mean += part;
            weighted += w ? (double)w[s] * part : part;
        }
        if (per_sample)
            ((float *)per_sample->data)[b] = (float)mean;
        total += weighted;
    }
    *(float *)loss->data = (float)(total / (double)B);
    return STATUS_OK;
}

/* grad_p = grad_loss weight 2 (p - t) / (n B) */
VEC void mse_gradient(const Tensor *p, DType pt, const Tensor *t, DType tt, float factor, Tensor *d, DType dt,
                      int64_t first, int64_t last)
{
    for (int64_t i = first; i < last; i += VL) {
        const int n = vec_part(i, last);
        vec_put_n(d->data, dt, i, (vec_get_n(p->data, pt, i, n) - vec_get_n(t->data, tt, i, n)) * factor, n);
    }
}

static Status cpu_mse_loss_backward(const Tensor *p, const Tensor *t, const Tensor *weight,
                                    const Tensor *grad_loss, Tensor *grad_p)
{
    FLOATS_ONLY(p, t, grad_p);
    const int64_t B = p->shape[0], n = tensor_count(p) / B, spans = weight ? tensor_count(weight) : B;
    const int64_t length = tensor_count(p) / spans;
    for (int64_t s = 0; s < spans; s++) {
        const float w = weight ? ((const float *)weight->data)[s] : 1.0f;
        const float factor =
            (float)(2.0 * (double)*(const float *)grad_loss->data * (double)w / ((double)n * (double)B));
        const int64_t first = s * length, last = first + length;
        if (p->dtype == grad_p->dtype && t->dtype == DTYPE_F32)
            WITH_DTYPE(p->dtype, mse_gradient(p, T, t, DTYPE_F32, factor, grad_p, T, first, last));
        else
            mse_gradient(p, p->dtype, t, t->dtype, factor, grad_p, grad_p->dtype, first, last);
    }
    return STATUS_OK;
}

void ISA(loss_table)(Device *d)
{
    d->mse_loss = cpu_mse_loss;
    d->mse_loss_backward = cpu_mse_loss_backward;
}
