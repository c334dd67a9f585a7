/* Adapters of every kind on linear layers and convolutions: a case is a layer with one adapter, its twin the
 * same layer with W + scale ΔW in W's place. */
#include "gradcheck.h"

#include "kernels/adapter.h"

#include <stdlib.h>

/* i[7]: DoRA's factors, of rows (1) or columns (2).
 * x, W, then (i[0]) b, then the adapter's tensors; i[1…5] the convolution's shape, i[1] = 0: a linear layer;
 * i[6]: bit r says that the tensor of role r is there; f[0]: scale */
#define ROLE(r) (1 << (r))

static int first_tensor(const OpCase *k)
{
    return k->i[0] ? 3 : 2;
}

static ConvShape shape_of(const OpCase *k)
{
    return k->i[1] ? (ConvShape){(int)k->i[1], (int)k->i[2], (int)k->i[3], (int)k->i[4], (int)k->i[5], false}
                   : CONV_POINTWISE;
}

/* Number n of a factor of W, and of one of ΔW. */
static double weight_factor_at(int64_t n)
{
    return 0.25 * (double)(n * 7 % 5) - 0.5;
}

static double delta_factor_at(int64_t n)
{
    return 0.5 + 0.25 * (double)(n % 3);
}

enum { MOST_FACTORS = 128 };

static Tensor *factor(Ctx *c, const OpCase *k, double (*at)(int64_t n))
{
    float numbers[MOST_FACTORS];
    const int64_t rows = k->shape[1][0], n = k->i[7] == 1 ? rows : optest_elements(k, 1) / rows;
    const int64_t shape[] = {k->i[7] == 1 ? n : 1, k->i[7] == 1 ? 1 : n};
    for (int64_t i = 0; i < n && i < MOST_FACTORS; i++)
        numbers[i] = (float)at(i);
    return ctx_input(c, DTYPE_F32, 2, shape, ctx_copy(c, numbers, sizeof numbers));
}

static Tensor *run_with(Ctx *c, const OpCase *k, Tensor **in, const AdapterKind *kind)
{
    Adapter a = {.kind = kind, .scale = k->f[0]};
    for (int r = 0, next = first_tensor(k); r < ADAPTER_TENSORS; r++)
        if (k->i[6] & ROLE(r))
            a.tensors[r] = in[next++];
    if (k->i[7]) {
        a.weight_factor = factor(c, k, weight_factor_at);
        a.delta_factor = factor(c, k, delta_factor_at);
    }
    Layer l = {.name = "layer", .weight = in[1], .bias = k->i[0] ? in[2] : NULL, .pack_off = true};
    l.adapters = (Adapter *)ctx_copy(c, &a, sizeof a);
    const Layer *layer = ctx_copy(c, &l, sizeof l); /* the backward pass reads it */
    return k->i[1] ? conv2d(c, layer, shape_of(k), in[0]) : linear(c, layer, in[0]);
}

/* Twins: ΔW in double, then a plain convolution with W + scale ΔW -------------------------------------- */

typedef struct Part {
    const double *x;
    int64_t rows, columns;
} Part;

/* The tensor of a role as a matrix; x NULL: absent. */
static Part part_of(const OpCase *k, const double *const *in, int role)
{
    int next = first_tensor(k);
    for (int r = 0; r < role; r++)
        next += (k->i[6] & ROLE(r)) != 0;
    if (!(k->i[6] & ROLE(role)))
        return (Part){0};
    return (Part){in[next], k->shape[next][0], optest_elements(k, next) / k->shape[next][0]};
}

static double product_at(Part a, Part b, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t r = 0; r < a.columns; r++)
        sum += a.x[i * a.columns + r] * b.x[r * b.columns + j];
    return sum;
}

typedef double (*DeltaFn)(const OpCase *k, const double *const *in, int64_t i, int64_t j); /* ΔW[i,j] */

static double lora_at(const OpCase *k, const double *const *in, int64_t i, int64_t j)
{
    return product_at(part_of(k, in, LORA_UP), part_of(k, in, LORA_DOWN), i, j);
}

static double loha_at(const OpCase *k, const double *const *in, int64_t i, int64_t j)
{
    return product_at(part_of(k, in, LOHA_W1_A), part_of(k, in, LOHA_W1_B), i, j) *
           product_at(part_of(k, in, LOHA_W2_A), part_of(k, in, LOHA_W2_B), i, j);
}

/* Element [i,j] of a half that is whole or a product. */
static double half_at(const OpCase *k, const double *const *in, int first, int64_t i, int64_t j)
{
    const Part whole = part_of(k, in, first);
    return whole.x ? whole.x[i * whole.columns + j]
                   : product_at(part_of(k, in, first + 1), part_of(k, in, first + 2), i, j);
}

static double lokr_at(const OpCase *k, const double *const *in, int64_t i, int64_t j)
{
    const int rows = k->i[6] & ROLE(LOKR_W2) ? LOKR_W2 : LOKR_W2_A;
    const int columns = k->i[6] & ROLE(LOKR_W2) ? LOKR_W2 : LOKR_W2_B;
    const int64_t C = part_of(k, in, rows).rows, D = part_of(k, in, columns).columns;
    return half_at(k, in, LOKR_W1, i / C, j / D) * half_at(k, in, LOKR_W2, i % C, j % D);
}

typedef struct Sizes { /* x (B,H,W,C), w (K,C,kh,kw); a linear layer: H = W = kh = kw = 1 */
    int64_t B, H, W, C, K, kh, kw;
} Sizes;

static Sizes sizes_of(const OpCase *k)
{
    const int64_t *x = k->shape[0], *w = k->shape[1];
    if (k->i[1])
        return (Sizes){x[0], x[1], x[2], x[3], w[0], w[2], w[3]};
    return (Sizes){optest_elements(k, 0) / w[1], 1, 1, w[1], w[0], 1, 1};
}

static double window(const Sizes *z, ConvShape s, const double *x, const double *w, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t u = 0; u < z->kh; u++)
        for (int64_t v = 0; v < z->kw; v++) {
            const int64_t y = i * s.stride + u - s.pad_top, q = j * s.stride + v - s.pad_left;
            for (int64_t c = 0; c < z->C && y >= 0 && y < z->H && q >= 0 && q < z->W; c++)
                sum += x[(y * z->W + q) * z->C + c] * w[(c * z->kh + u) * z->kw + v];
        }
    return sum;
}

static int64_t twin_with(const OpCase *k, const double *const *in, double *out, DeltaFn delta)
{
    const Sizes z = sizes_of(k);
    const ConvShape s = shape_of(k);
    const int64_t OH = (z.H + s.pad_top + s.pad_bottom - z.kh) / s.stride + 1;
    const int64_t OW = (z.W + s.pad_left + s.pad_right - z.kw) / s.stride + 1;
    const int64_t columns = z.C * z.kh * z.kw;
    double *w = malloc(sizeof *w * (size_t)(z.K * columns));
    for (int64_t e = 0; e < z.K * columns; e++) {
        const int64_t n = k->i[7] == 1 ? e / columns : e % columns;
        w[e] = in[1][e] * (k->i[7] ? 1 + weight_factor_at(n) : 1) +
               (double)k->f[0] * delta(k, in, e / columns, e % columns) * (k->i[7] ? delta_factor_at(n) : 1);
    }
    int64_t n = 0;
    for (int64_t b = 0; b < z.B; b++)
        for (int64_t i = 0; i < OH; i++)
            for (int64_t j = 0; j < OW; j++)
                for (int64_t o = 0; o < z.K; o++)
                    out[n++] = window(&z, s, in[0] + b * z.H * z.W * z.C, w + o * columns, i, j) +
                               (k->i[0] ? in[2][o] : 0);
    free(w);
    return n;
}

#define KIND(name)                                                                                           \
    static Tensor *run_##name(Ctx *c, const OpCase *k, Tensor **in)                                          \
    {                                                                                                        \
        return run_with(c, k, in, &adapter_##name);                                                          \
    }                                                                                                        \
    static int64_t twin_##name(const OpCase *k, const double *const *in, double *out)                        \
    {                                                                                                        \
        return twin_with(k, in, out, name##_at);                                                             \
    }
ATL_ADAPTERS(KIND)

/* Cases -------------------------------------------------------------------------------------------------- */

#define ON_LINEAR 0, 0, 0, 0, 0
#define ON_SAME 1, 1, 1, 1, 1 /* 3×3 */
#define ON_DOWN 2, 1, 1, 1, 1
#define ON_PATCHES 2, 0, 0, 1, 1
#define ALL_WEIGHTS                                                                                          \
    {                                                                                                        \
        false, true, true, true, true, true                                                                  \
    }
#define FROZEN_LAYER                                                                                         \
    {                                                                                                        \
        false, true                                                                                          \
    }

#define LORA .run = run_lora, .twin = twin_lora
#define LORA_BOTH (ROLE(LORA_DOWN) | ROLE(LORA_UP))

const OpTest *optest_adapter_lora(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "linear, frozen weight",
               .inputs = 4,
               .ndim = {3, 2, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {4, 33}, {20, 4}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, LORA_BOTH},
               .f = {0.5f},
               .range = 0.5},
         LORA},
        {.c = {.what = "3×3, frozen weight and bias",
               .inputs = 5,
               .ndim = {4, 4, 1, 4, 4},
               .shape = {{2, 5, 6, 7}, {9, 7, 3, 3}, {9}, {3, 7, 3, 3}, {9, 3, 1, 1}},
               .weight = ALL_WEIGHTS,
               .no_grad = {false, true, true},
               .i = {1, ON_SAME, LORA_BOTH},
               .f = {1.5f},
               .range = 0.5},
         LORA},
        {.c = {.what = "3×3 in whole blocks of channels, trained together with the weight",
               .inputs = 4,
               .ndim = {4, 4, 4, 4},
               .shape = {{1, 5, 4, 32}, {40, 32, 3, 3}, {8, 32, 3, 3}, {40, 8, 1, 1}},
               .weight = ALL_WEIGHTS,
               .i = {0, ON_SAME, LORA_BOTH},
               .f = {0.5f},
               .range = 0.25},
         LORA},
        {.c = {.what = "3×3 with stride 2, tensors stored as matrices",
               .inputs = 4,
               .ndim = {4, 4, 2, 2},
               .shape = {{2, 7, 8, 5}, {6, 5, 3, 3}, {2, 45}, {6, 2}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_DOWN, LORA_BOTH},
               .f = {2.0f},
               .range = 0.5},
         LORA},
        {.c = {.what = "3×3 padded right and bottom only, frozen: only the input's gradient",
               .inputs = 4,
               .ndim = {4, 4, 4, 4},
               .shape = {{1, 8, 6, 5}, {6, 5, 3, 3}, {2, 5, 3, 3}, {6, 2, 1, 1}},
               .weight = ALL_WEIGHTS,
               .no_grad = {false, true, true, true},
               .i = {0, ON_PATCHES, LORA_BOTH},
               .f = {1.0f},
               .range = 0.5},
         LORA},
        {.c = {.what = "3×3, up trained alone, the input needs no gradient",
               .inputs = 4,
               .ndim = {4, 4, 4, 4},
               .shape = {{1, 4, 4, 3}, {5, 3, 3, 3}, {2, 3, 3, 3}, {5, 2, 1, 1}},
               .weight = ALL_WEIGHTS,
               .no_grad = {true, true, true},
               .i = {0, ON_SAME, LORA_BOTH},
               .f = {1.0f}},
         LORA},
        {.c = {.what = "linear with DoRA's factors of rows, frozen weight",
               .inputs = 4,
               .ndim = {3, 2, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {4, 33}, {20, 4}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, LORA_BOTH, 1},
               .f = {0.5f},
               .range = 0.5},
         LORA},
        {.c = {.what = "3×3 with DoRA's factors of columns: only the input's gradient",
               .inputs = 4,
               .ndim = {4, 4, 4, 4},
               .shape = {{2, 5, 6, 7}, {9, 7, 3, 3}, {3, 7, 3, 3}, {9, 3, 1, 1}},
               .weight = ALL_WEIGHTS,
               .no_grad = {false, true, true, true},
               .i = {0, ON_SAME, LORA_BOTH, 2},
               .f = {1.5f},
               .range = 0.5},
         LORA},
        {.c = {.what = "1×1 with stride 2",
               .inputs = 4,
               .ndim = {4, 4, 4, 4},
               .shape = {{2, 5, 4, 7}, {6, 7, 1, 1}, {3, 7, 1, 1}, {6, 3, 1, 1}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, 2, 0, 0, 0, 0, LORA_BOTH},
               .f = {0.75f},
               .range = 0.5},
         LORA},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

#define LOHA .run = run_loha, .twin = twin_loha
#define LOHA_ALL (ROLE(LOHA_W1_A) | ROLE(LOHA_W1_B) | ROLE(LOHA_W2_A) | ROLE(LOHA_W2_B))

const OpTest *optest_adapter_loha(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "linear, frozen weight",
               .inputs = 6,
               .ndim = {3, 2, 2, 2, 2, 2},
               .shape = {{2, 9, 33}, {20, 33}, {20, 4}, {4, 33}, {20, 4}, {4, 33}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, LOHA_ALL},
               .f = {0.5f}},
         LOHA},
        {.c = {.what = "3×3, trained together with the weight",
               .inputs = 6,
               .ndim = {4, 4, 2, 2, 2, 2},
               .shape = {{2, 5, 6, 7}, {9, 7, 3, 3}, {9, 3}, {3, 63}, {9, 3}, {3, 63}},
               .weight = ALL_WEIGHTS,
               .i = {0, ON_SAME, LOHA_ALL},
               .f = {1.5f},
               .range = 0.5},
         LOHA},
        {.c = {.what = "3×3 with stride 2, only the second half is trained",
               .inputs = 6,
               .ndim = {4, 4, 2, 2, 2, 2},
               .shape = {{1, 6, 5, 4}, {5, 4, 3, 3}, {5, 2}, {2, 36}, {5, 2}, {2, 36}},
               .weight = ALL_WEIGHTS,
               .no_grad = {false, true, true, true},
               .i = {0, ON_DOWN, LOHA_ALL},
               .f = {1.0f}},
         LOHA},
        {.c = {.what = "3×3 with DoRA's factors of rows",
               .inputs = 6,
               .ndim = {4, 4, 2, 2, 2, 2},
               .shape = {{2, 5, 6, 7}, {9, 7, 3, 3}, {9, 3}, {3, 63}, {9, 3}, {3, 63}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_SAME, LOHA_ALL, 1},
               .f = {1.5f},
               .range = 0.5},
         LOHA},
        {.c = {.what = "frozen: only the input's gradient",
               .inputs = 6,
               .ndim = {2, 2, 2, 2, 2, 2},
               .shape = {{5, 16}, {8, 16}, {8, 3}, {3, 16}, {8, 3}, {3, 16}},
               .weight = ALL_WEIGHTS,
               .no_grad = {false, true, true, true, true, true},
               .i = {0, ON_LINEAR, LOHA_ALL},
               .f = {2.0f}},
         LOHA},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

#define LOKR .run = run_lokr, .twin = twin_lokr

const OpTest *optest_adapter_lokr(int *count)
{
    static const OpTest tests[] = {
        {.c = {.what = "linear, both whole, rows of more than a vector",
               .inputs = 4,
               .ndim = {3, 2, 2, 2},
               .shape = {{2, 9, 38}, {20, 38}, {4, 2}, {5, 19}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, ROLE(LOKR_W1) | ROLE(LOKR_W2)},
               .f = {0.5f}},
         LOKR},
        {.c = {.what = "linear with a bias, w1 whole, w2 of low rank",
               .inputs = 6,
               .ndim = {2, 2, 1, 2, 2, 2},
               .shape = {{7, 18}, {10, 18}, {10}, {2, 3}, {5, 2}, {2, 6}},
               .weight = ALL_WEIGHTS,
               .i = {1, ON_LINEAR, ROLE(LOKR_W1) | ROLE(LOKR_W2_A) | ROLE(LOKR_W2_B)},
               .f = {1.5f}},
         LOKR},
        {.c = {.what = "3×3, both of low rank",
               .inputs = 6,
               .ndim = {4, 4, 2, 2, 2, 2},
               .shape = {{2, 5, 6, 6}, {8, 6, 3, 3}, {4, 2}, {2, 3}, {2, 2}, {2, 18}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_SAME, ROLE(LOKR_W1_A) | ROLE(LOKR_W1_B) | ROLE(LOKR_W2_A) | ROLE(LOKR_W2_B)},
               .f = {1.5f}},
         LOKR},
        {.c = {.what = "linear with DoRA's factors of columns",
               .inputs = 4,
               .ndim = {3, 2, 2, 2},
               .shape = {{2, 9, 38}, {20, 38}, {4, 2}, {5, 19}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, ROLE(LOKR_W1) | ROLE(LOKR_W2), 2},
               .f = {0.5f}},
         LOKR},
        {.c = {.what = "3×3 with stride 2, w1 of low rank, w2 whole with its kernel",
               .inputs = 5,
               .ndim = {4, 4, 2, 2, 4},
               .shape = {{1, 6, 5, 4}, {6, 4, 3, 3}, {2, 1}, {1, 2}, {3, 2, 3, 3}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_DOWN, ROLE(LOKR_W1_A) | ROLE(LOKR_W1_B) | ROLE(LOKR_W2)},
               .f = {1.0f}},
         LOKR},
        {.c = {.what = "w1 frozen, the input needs no gradient",
               .inputs = 4,
               .ndim = {2, 2, 2, 2},
               .shape = {{5, 12}, {6, 12}, {2, 3}, {3, 4}},
               .weight = ALL_WEIGHTS,
               .no_grad = {true, true, true},
               .i = {0, ON_LINEAR, ROLE(LOKR_W1) | ROLE(LOKR_W2)},
               .f = {1.0f}},
         LOKR},
        {.c = {.what = "large enough for several threads",
               .inputs = 4,
               .ndim = {2, 2, 2, 2},
               .shape = {{3, 160}, {192, 160}, {8, 4}, {24, 40}},
               .weight = ALL_WEIGHTS,
               .no_grad = FROZEN_LAYER,
               .i = {0, ON_LINEAR, ROLE(LOKR_W1) | ROLE(LOKR_W2)},
               .f = {1.0f}},
         LOKR},
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
