/* Linear layers, trained and frozen, alone and with a LoRA (all kinds of adapters: adapter.c); products of
 * two activations. */
#include "gradcheck.h"

#include "kernels/adapter.h"

#include <math.h>

/* Linear: x, W, then (i[0]) b, then (i[1]) down, up; f[0] is the adapter's scale ----------------------- */

static Tensor *run_linear(Ctx *c, const OpCase *k, Tensor **in)
{
    static Layer layer; /* the backward pass reads it */
    static Adapter adapter;
    int next = 2;
    layer = (Layer){.name = "layer", .weight = in[1]};
    if (k->i[0])
        layer.bias = in[next++];
    if (k->i[1]) {
        adapter = (Adapter){.kind = &adapter_lora, .tensors = {in[next], in[next + 1]}, .scale = k->f[0]};
        layer.adapters = &adapter;
    }
    return linear(c, &layer, in[0]);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static int64_t twin_linear(const OpCase *k, const double *const *in, double *out)
{
    const int64_t I = k->shape[1][1], O = k->shape[1][0], N = optest_elements(k, 0) / I;
    const double *bias = k->i[0] ? in[2] : NULL;
    const int down = k->i[0] ? 3 : 2, up = down + 1;
    const int64_t R = k->i[1] ? k->shape[down][0] : 0;
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++) {
            double y = dot(in[0] + n * I, in[1] + o * I, I) + (bias ? bias[o] : 0);
            for (int64_t r = 0; r < R; r++)
                y += (double)k->f[0] * in[up][o * R + r] * dot(in[0] + n * I, in[down] + r * I, I);
            out[n * O + o] = y;
        }
    return N * O;
}

#define LINEAR .run = run_linear, .twin = twin_linear

const OpTest *optest_linear(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "trained, with bias, every size odd",
               .inputs = 3,
               .ndim = {2, 2, 1},
               .shape = {{7, 5}, {3, 5}, {3}},
               .weight = {false, true, true},
               .i = {1, 0}},
         LINEAR},
        {.c = {.what = "trained, no bias, pictures, more than a vector",
               .inputs = 2,
               .ndim = {4, 2},
               .shape = {{2, 3, 11, 67}, {45, 67}},
               .weight = {false, true}},
         LINEAR},
        {.c = {.what = "frozen, only the input's gradient",
               .inputs = 3,
               .ndim = {3, 2, 1},
               .shape = {{2, 9, 33}, {20, 33}, {20}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 0}},
         LINEAR},
        {.c = {.what = "frozen, with a trained adapter",
               .inputs = 5,
               .ndim = {3, 2, 1, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {20}, {4, 33}, {20, 4}},
               .weight = {false, true, true, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1},
               .f = {0.5f},
               .range = 0.5},
         LINEAR},
        {.c = {.what = "trained together with its adapter, which has the shape of a 1×1 convolution's",
               .inputs = 4,
               .ndim = {2, 4, 4, 4},
               .shape = {{13, 16}, {8, 16, 1, 1}, {3, 16, 1, 1}, {8, 3, 1, 1}},
               .weight = {false, true, true, true},
               .i = {0, 1},
               .f = {2.0f},
               .range = 0.5},
         LINEAR},
        {.c = {.what = "frozen with a frozen adapter",
               .inputs = 4,
               .ndim = {2, 2, 2, 2},
               .shape = {{5, 16}, {8, 16}, {3, 16}, {8, 3}},
               .weight = {false, true, true, true},
               .no_grad = {false, true, true, true},
               .i = {0, 1},
               .f = {1.5f},
               .range = 0.5},
         LINEAR},
        {.c = {.what = "the input needs no gradient",
               .inputs = 3,
               .ndim = {2, 2, 1},
               .shape = {{6, 8}, {4, 8}, {4}},
               .weight = {false, true, true},
               .no_grad = {true},
               .i = {1, 0}},
         LINEAR},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* Linear with a residual: x, W, residual, then (i[0]) b, then (i[1]) down, up ---------------------------- */

/* The case of linear in it: without input 2. */
static OpCase without_residual(const OpCase *k)
{
    OpCase l = *k;
    for (int i = 2; i + 1 < OPTEST_MAX; i++) {
        l.ndim[i] = k->ndim[i + 1];
        for (int d = 0; d < TENSOR_MAX_DIMS; d++)
            l.shape[i][d] = k->shape[i + 1][d];
    }
    l.inputs--;
    return l;
}

static Tensor *run_linear_add(Ctx *c, const OpCase *k, Tensor **in)
{
    static Layer layer; /* the backward pass reads it */
    static Adapter adapter;
    int next = 3;
    layer = (Layer){.name = "layer", .weight = in[1]};
    if (k->i[0])
        layer.bias = in[next++];
    if (k->i[1]) {
        adapter = (Adapter){.kind = &adapter_lora, .tensors = {in[next], in[next + 1]}, .scale = k->f[0]};
        layer.adapters = &adapter;
    }
    return linear_add(c, &layer, in[0], in[2]);
}

static int64_t twin_linear_add(const OpCase *k, const double *const *in, double *out)
{
    const OpCase l = without_residual(k);
    const double *rest[OPTEST_MAX] = {in[0], in[1]};
    for (int i = 2; i + 1 < k->inputs; i++)
        rest[i] = in[i + 1];
    const int64_t n = twin_linear(&l, rest, out);
    for (int64_t i = 0; i < n; i++)
        out[i] += in[2][i];
    return n;
}

#define LINEAR_ADD .run = run_linear_add, .twin = twin_linear_add

const OpTest *optest_linear_add(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "trained, with bias, every size odd",
               .inputs = 4,
               .ndim = {2, 2, 2, 1},
               .shape = {{7, 5}, {3, 5}, {7, 3}, {3}},
               .weight = {false, true, false, true},
               .i = {1, 0}},
         LINEAR_ADD},
        {.c = {.what = "frozen, more than a vector, no bias",
               .inputs = 3,
               .ndim = {4, 2, 4},
               .shape = {{2, 3, 11, 67}, {45, 67}, {2, 3, 11, 45}},
               .weight = {false, true},
               .no_grad = {false, true}},
         LINEAR_ADD},
        {.c = {.what = "frozen, with a trained adapter",
               .inputs = 6,
               .ndim = {3, 2, 3, 1, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {2, 9, 20}, {20}, {4, 33}, {20, 4}},
               .weight = {false, true, false, true, true, true},
               .no_grad = {false, true, false, true},
               .i = {1, 1},
               .f = {0.5f},
               .range = 0.5},
         LINEAR_ADD},
        {.c = {.what = "frozen, with a trained adapter, whole chunks of columns",
               .inputs = 6,
               .ndim = {3, 2, 3, 1, 2, 2},
               .shape = {{2, 9, 40}, {72, 40}, {2, 9, 72}, {72}, {12, 40}, {72, 12}},
               .weight = {false, true, false, true, true, true},
               .no_grad = {false, true, false, true},
               .i = {1, 1},
               .f = {0.5f},
               .range = 0.5},
         LINEAR_ADD},
        {.c = {.what = "only the residual's gradient",
               .inputs = 4,
               .ndim = {2, 2, 2, 1},
               .shape = {{6, 8}, {4, 8}, {6, 4}, {4}},
               .weight = {false, true, false, true},
               .no_grad = {true, true, false, true},
               .i = {1, 0}},
         LINEAR_ADD},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* Linear under a GEGLU: as linear ------------------------------------------------------------------------ */

static Tensor *run_linear_geglu(Ctx *c, const OpCase *k, Tensor **in)
{
    static Layer layer; /* the backward pass reads it */
    static Adapter adapter;
    int next = 2;
    layer = (Layer){.name = "layer", .weight = in[1]};
    if (k->i[0])
        layer.bias = in[next++];
    if (k->i[1]) {
        adapter = (Adapter){.kind = &adapter_lora, .tensors = {in[next], in[next + 1]}, .scale = k->f[0]};
        layer.adapters = &adapter;
    }
    return linear_geglu(c, &layer, in[0]);
}

static int64_t twin_linear_geglu(const OpCase *k, const double *const *in, double *out)
{
    const int64_t O = k->shape[1][0], C = O / 2, n = twin_linear(k, in, out);
    for (int64_t r = 0; r < n / O; r++)
        for (int64_t i = 0; i < C; i++) {
            const double a = out[r * O + i], b = out[r * O + C + i];
            out[r * C + i] = a * b * 0.5 * (1 + erf(b * sqrt(0.5)));
        }
    return n / 2;
}

#define LINEAR_GEGLU .run = run_linear_geglu, .twin = twin_linear_geglu

const OpTest *optest_linear_geglu(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "trained, with bias",
               .inputs = 3,
               .ndim = {2, 2, 1},
               .shape = {{7, 5}, {6, 5}, {6}},
               .weight = {false, true, true},
               .i = {1, 0}},
         LINEAR_GEGLU},
        {.c = {.what = "frozen, more than a vector, no bias",
               .inputs = 2,
               .ndim = {4, 2},
               .shape = {{2, 3, 11, 33}, {2 * 37, 33}},
               .weight = {false, true},
               .no_grad = {false, true},
               .range = 0.7},
         LINEAR_GEGLU},
        {.c = {.what = "frozen, with a trained adapter",
               .inputs = 5,
               .ndim = {3, 2, 1, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {20}, {4, 33}, {20, 4}},
               .weight = {false, true, true, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1},
               .f = {0.5f},
               .range = 0.5},
         LINEAR_GEGLU},
        {.c = {.what = "frozen, with a trained adapter, whole chunks of columns",
               .inputs = 5,
               .ndim = {3, 2, 1, 2, 2},
               .shape = {{1, 5, 40}, {144, 40}, {144}, {8, 40}, {144, 8}},
               .weight = {false, true, true, true, true},
               .no_grad = {false, true, true},
               .i = {1, 1},
               .f = {0.5f},
               .range = 0.5},
         LINEAR_GEGLU},
        {.c = {.what = "frozen, many rows, whole chunks of columns",
               .inputs = 3,
               .ndim = {2, 2, 1},
               .shape = {{130, 16}, {80, 16}, {80}},
               .weight = {false, true, true},
               .no_grad = {false, true, true},
               .i = {1, 0},
               .range = 0.6},
         LINEAR_GEGLU},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
