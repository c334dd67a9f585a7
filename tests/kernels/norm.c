/* Cases of group norm and layer norm. */
#include "gradcheck.h"

#include <math.h>

/* A layer of weight w and bias b that lives as long as the step. */
static const Layer *layer_of(Ctx *c, Tensor *w, Tensor *b)
{
    const Layer l = {.name = "norm", .weight = w, .bias = b};
    return ctx_copy(c, &l, sizeof l);
}

/* Group norm: in x (B,…,C), w (C), b (C); i[0] groups, f[0] eps ----------------------------------------- */

static Tensor *run_group_norm(Ctx *c, const OpCase *k, Tensor **in)
{
    return group_norm(c, layer_of(c, in[1], in[2]), (int)k->i[0], k->f[0], in[0]);
}

static Tensor *run_group_norm_silu(Ctx *c, const OpCase *k, Tensor **in)
{
    return group_norm_silu(c, layer_of(c, in[1], in[2]), (int)k->i[0], k->f[0], in[0]);
}

static int64_t twin_group_norm(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0), B = k->shape[0][0], C = k->shape[1][0], P = n / B / C;
    const int64_t groups = k->i[0], cg = C / groups;
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < groups; g++) {
            double mean = 0, spread = 0;
            for (int64_t p = 0; p < P; p++)
                for (int64_t c = g * cg; c < (g + 1) * cg; c++)
                    mean += in[0][(b * P + p) * C + c] / (double)(P * cg);
            for (int64_t p = 0; p < P; p++)
                for (int64_t c = g * cg; c < (g + 1) * cg; c++)
                    spread += pow(in[0][(b * P + p) * C + c] - mean, 2) / (double)(P * cg);
            for (int64_t p = 0; p < P; p++)
                for (int64_t c = g * cg; c < (g + 1) * cg; c++)
                    out[(b * P + p) * C + c] =
                        (in[0][(b * P + p) * C + c] - mean) / sqrt(spread + (double)k->f[0]) * in[1][c] +
                        in[2][c];
        }
    return n;
}

static int64_t twin_group_norm_silu(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = twin_group_norm(k, in, out);
    for (int64_t i = 0; i < n; i++)
        out[i] = out[i] / (1 + exp(-out[i]));
    return n;
}

#define GROUP(text, B, H, W, C, groups, ...)                                                                 \
    {                                                                                                        \
        .what = text, .inputs = 3, .ndim = {4, 1, 1}, .shape = {{B, H, W, C}, {C}, {C}},                     \
        .weight = {false, true, true}, .i = {groups}, .f = {1e-5f}, __VA_ARGS__                              \
    }
#define GROUP_TESTS(run, twin)                                                                               \
    {GROUP("C=1", 1, 3, 5, 1, 1, PLAIN), run, twin},                                                         \
        {GROUP("C=3, a group of 3", 2, 3, 3, 3, 1, PLAIN), run, twin},                                       \
        {GROUP("C=5, groups of 1", 1, 4, 3, 5, 5, PLAIN), run, twin},                                        \
        {GROUP("one pixel", 3, 1, 1, 8, 2, PLAIN), run, twin},                                               \
        {GROUP("C=17", 2, 2, 5, 17, 1, PLAIN), run, twin},                                                   \
        {GROUP("C=33, groups of 11", 1, 3, 2, 33, 3, PLAIN), run, twin},                                     \
        {GROUP("C=64, frozen", 2, 2, 3, 64, 32, .no_grad = {false, true, true}), run, twin},                 \
        {GROUP("only weights", 2, 2, 3, 6, 2, .no_grad = {true, false, false}), run, twin},                  \
        {GROUP("several pieces", 2, 31, 29, 40, 8, PLAIN), run, twin},                                       \
        {GROUP("several pieces, frozen", 1, 33, 31, 48, 4, .no_grad = {false, true, true}), run, twin},      \
        {GROUP("several pieces of a group", 2, 37, 37, 64, 2, PLAIN), run, twin},                            \
        {GROUP("several pieces of a group of 45", 1, 31, 30, 45, 1, PLAIN), run, twin},

const OpTest *optest_group_norm(int *count)
{
    static const OpTest tests[] = {GROUP_TESTS(run_group_norm, twin_group_norm)};
    *count = sizeof tests / sizeof *tests;
    return tests;
}

const OpTest *optest_group_norm_silu(int *count)
{
    static const OpTest tests[] = {GROUP_TESTS(run_group_norm_silu, twin_group_norm_silu)};
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* Layer norm: in x (N,T,D), w (D), b (D); f[0] eps ------------------------------------------------------ */

static Tensor *run_layer_norm(Ctx *c, const OpCase *k, Tensor **in)
{
    return layer_norm(c, layer_of(c, in[1], in[2]), k->f[0], in[0]);
}

static int64_t twin_layer_norm(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0), D = k->shape[1][0];
    for (int64_t r = 0; r < n / D; r++) {
        const double *x = in[0] + r * D;
        double mean = 0, spread = 0;
        for (int64_t i = 0; i < D; i++)
            mean += x[i] / (double)D;
        for (int64_t i = 0; i < D; i++)
            spread += (x[i] - mean) * (x[i] - mean) / (double)D;
        for (int64_t i = 0; i < D; i++)
            out[r * D + i] = (x[i] - mean) / sqrt(spread + (double)k->f[0]) * in[1][i] + in[2][i];
    }
    return n;
}

#define LAYER(text, N, T, D, ...)                                                                            \
    {                                                                                                        \
        {.what = text,                                                                                       \
         .inputs = 3,                                                                                        \
         .ndim = {3, 1, 1},                                                                                  \
         .shape = {{N, T, D}, {D}, {D}},                                                                     \
         .weight = {false, true, true},                                                                      \
         .f = {1e-5f},                                                                                       \
         __VA_ARGS__},                                                                                       \
            run_layer_norm, twin_layer_norm                                                                  \
    }

const OpTest *optest_layer_norm(int *count)
{
    static const OpTest tests[] = {
        LAYER("D=3", 1, 2, 3, PLAIN),
        LAYER("D=5", 2, 3, 5, PLAIN),
        LAYER("D=17", 1, 3, 17, PLAIN),
        LAYER("D=33", 3, 2, 33, PLAIN),
        LAYER("D=48, frozen", 1, 4, 48, .no_grad = {false, true, true}),
        LAYER("only weights", 1, 4, 20, .no_grad = {true, false, false}),
        LAYER("several pieces", 2, 171, 75, PLAIN),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
