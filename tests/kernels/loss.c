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
