/* Cases of the losses. */
#include "gradcheck.h"

#include <math.h>

/* MSE: in prediction, target, weight (B) or (B,H,W), the last two constants; i[0]: 1 uses the weight. The
 * weight enters as f32. */
static Tensor *run_mse_loss(Ctx *c, const OpCase *k, Tensor **in)
{
    Tensor *weight = k->i[0] ? cast(c, in[2], DTYPE_F32) : NULL;
    return mse_loss(c, in[0], in[1], weight, NULL);
}

static int64_t twin_mse_loss(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0), span = n / optest_elements(k, 2);
    out[0] = 0;
    for (int64_t i = 0; i < n; i++)
        out[0] += (k->i[0] ? in[2][i / span] : 1) * pow(in[0][i] - in[1][i], 2) / (double)n;
    return 1;
}

/* The target stays f32 where the prediction is stored in 16 bits, as a training step has it. */
static Tensor *run_mse_loss_f32_target(Ctx *c, const OpCase *k, Tensor **in)
{
    return mse_loss(c, in[0], cast(c, in[1], DTYPE_F32), k->i[0] ? cast(c, in[2], DTYPE_F32) : NULL, NULL);
}

#define MSE(text, B, H, W, C, weighted, run) MSE_WEIGHED(text, B, H, W, C, weighted, run, 1, {B})
/* A weight for each position. */
#define MSE_ELEMENTS(text, B, H, W, C, run) MSE_WEIGHED(text, B, H, W, C, 1, run, 3, {B, H, W})
#define MSE_WEIGHED(text, B, H, W, C, weighted, run, dims, ...)                                              \
    {                                                                                                        \
        {.what = text,                                                                                       \
         .inputs = 3,                                                                                        \
         .ndim = {4, 4, dims},                                                                               \
         .shape = {{B, H, W, C}, {B, H, W, C}, __VA_ARGS__},                                                 \
         .no_grad = {false, true, true},                                                                     \
         .i = {weighted},                                                                                    \
         .range = 2},                                                                                        \
            run, twin_mse_loss                                                                               \
    }

const OpTest *optest_mse_loss(int *count)
{
    static const OpTest tests[] = {
        MSE("one value", 1, 1, 1, 1, 0, run_mse_loss),
        MSE("three samples", 3, 2, 3, 5, 0, run_mse_loss),
        MSE("weighted", 3, 3, 1, 7, 1, run_mse_loss),
        MSE("f32 target", 2, 3, 3, 4, 1, run_mse_loss_f32_target),
        MSE("several pieces", 2, 33, 41, 4, 1, run_mse_loss_f32_target),
        MSE_ELEMENTS("positions", 2, 3, 5, 4, run_mse_loss),
        MSE_ELEMENTS("positions, many channels", 1, 2, 3, 37, run_mse_loss_f32_target),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* Gaussian sample: in moments (B,H,W,2C), noise (B,H,W,C), a constant; i[0]: 1 uses the noise, f[0] times */
static Tensor *run_gaussian_sample(Ctx *c, const OpCase *k, Tensor **in)
{
    return gaussian_sample(c, in[0], k->i[0] ? scale(c, in[1], k->f[0]) : NULL);
}

static int64_t twin_gaussian_sample(const OpCase *k, const double *const *in, double *out)
{
    const int64_t C = k->shape[1][3], rows = optest_elements(k, 1) / C;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < C; i++) {
            const double x = in[0][(2 * r + 1) * C + i], logvar = x < -30 ? -30 : x > 20 ? 20 : x;
            out[r * C + i] =
                in[0][2 * r * C + i] + (k->i[0] ? exp(0.5 * logvar) * (double)k->f[0] * in[1][r * C + i] : 0);
        }
    return rows * C;
}

#define GAUSSIAN(text, B, H, W, C, noisy, factor, bound)                                                     \
    {                                                                                                        \
        {.what = text,                                                                                       \
         .inputs = 2,                                                                                        \
         .ndim = {4, 4},                                                                                     \
         .shape = {{B, H, W, 2 * C}, {B, H, W, C}},                                                          \
         .no_grad = {false, true},                                                                           \
         .i = {noisy},                                                                                       \
         .f = {factor},                                                                                      \
         .range = bound},                                                                                    \
            run_gaussian_sample, twin_gaussian_sample                                                        \
    }

const OpTest *optest_gaussian_sample(int *count)
{
    static const OpTest tests[] = {
        GAUSSIAN("C=4", 2, 3, 2, 4, 1, 1, 2),
        GAUSSIAN("C=17", 1, 2, 2, 17, 1, 1, 2),
        GAUSSIAN("the mean", 1, 3, 2, 4, 0, 1, 2),
        GAUSSIAN("clamped at both ends", 1, 4, 4, 3, 1, 1.0f / 64, 40),
        GAUSSIAN("several pieces", 2, 37, 41, 4, 1, 1, 2),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
