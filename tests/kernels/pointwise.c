/* Cases of the elementwise operations. */
#include "gradcheck.h"

#include <math.h>
#include <string.h>

#define COUNT_OF(tests) ((int)(sizeof(tests) / sizeof *(tests)))

/* Activations ------------------------------------------------------------------------------------------- */

#define ACTIVATION(name, formula)                                                                            \
    static Tensor *run_##name(Ctx *c, const OpCase *k, Tensor **in)                                          \
    {                                                                                                        \
        (void)k;                                                                                             \
        return name(c, in[0]);                                                                               \
    }                                                                                                        \
    static int64_t twin_##name(const OpCase *k, const double *const *in, double *out)                        \
    {                                                                                                        \
        const int64_t n = optest_elements(k, 0);                                                             \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const double x = in[0][i];                                                                       \
            out[i] = formula;                                                                                \
        }                                                                                                    \
        return n;                                                                                            \
    }                                                                                                        \
    const OpTest *optest_##name(int *count)                                                                  \
    {                                                                                                        \
        static const OpTest tests[] = {                                                                      \
            {{.what = "one value", .inputs = 1, .ndim = {2}, .shape = {{1, 1}}}, run_##name, twin_##name},   \
            {{.what = "15 values", .inputs = 1, .ndim = {2}, .shape = {{3, 5}}, .range = 3},                 \
             run_##name,                                                                                     \
             twin_##name},                                                                                   \
            {{.what = "99 values to ±12", .inputs = 1, .ndim = {3}, .shape = {{3, 1, 33}}, .range = 12},     \
             run_##name,                                                                                     \
             twin_##name},                                                                                   \
            {{.what = "several pieces", .inputs = 1, .ndim = {2}, .shape = {{29, 1001}}, .range = 6},        \
             run_##name,                                                                                     \
             twin_##name},                                                                                   \
        };                                                                                                   \
        *count = COUNT_OF(tests);                                                                            \
        return tests;                                                                                        \
    }

ACTIVATION(silu, x / (1 + exp(-x)))
ACTIVATION(gelu, 0.5 * x * (1 + erf(x / sqrt(2))))
ACTIVATION(quick_gelu, x / (1 + exp(-1.702 * x)))

/* GEGLU: x (…,2C) */
static Tensor *run_geglu(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return geglu(c, in[0]);
}

static int64_t twin_geglu(const OpCase *k, const double *const *in, double *out)
{
    const int64_t C = k->shape[0][k->ndim[0] - 1] / 2, rows = optest_elements(k, 0) / (2 * C);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < C; i++) {
            const double a = in[0][2 * r * C + i], b = in[0][(2 * r + 1) * C + i];
            out[r * C + i] = a * 0.5 * b * (1 + erf(b / sqrt(2)));
        }
    return rows * C;
}

#define GEGLU(text, B, T, C2)                                                                                \
    {                                                                                                        \
        {.what = text, .inputs = 1, .ndim = {3}, .shape = {{B, T, C2}}, .range = 3}, run_geglu, twin_geglu   \
    }

const OpTest *optest_geglu(int *count)
{
    static const OpTest tests[] = {
        GEGLU("C=1", 1, 2, 2),   GEGLU("C=3", 2, 3, 6),   GEGLU("C=5", 1, 3, 10),
        GEGLU("C=17", 1, 2, 34), GEGLU("C=33", 3, 1, 66), GEGLU("several pieces", 2, 173, 106),
    };
    *count = COUNT_OF(tests);
    return tests;
}

/* Sums and products ------------------------------------------------------------------------------------- */

static Tensor *run_add(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return add(c, in[0], in[1]);
}

static int64_t twin_add(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    for (int64_t i = 0; i < n; i++)
        out[i] = in[0][i] + in[1][i];
    return n;
}

/* a + a, once through a cast to f32 and back: gradients of two ways to one tensor add up. */
static Tensor *run_add_twice(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return add(c, add(c, in[0], in[1]), cast(c, cast(c, in[0], DTYPE_F32), c->dtype));
}

static int64_t twin_add_twice(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    for (int64_t i = 0; i < n; i++)
        out[i] = 2 * in[0][i] + in[1][i];
    return n;
}

/* The second summand is stored as f32, whatever the first is. */
static Tensor *run_add_mixed(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return add(c, in[0], cast(c, in[1], DTYPE_F32));
}

static Tensor *run_multiply(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return multiply(c, in[0], in[1]);
}

static int64_t twin_multiply(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    for (int64_t i = 0; i < n; i++)
        out[i] = in[0][i] * in[1][i];
    return n;
}

static Tensor *run_square(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return multiply(c, in[0], in[0]);
}

static int64_t twin_square(const OpCase *k, const double *const *in, double *out)
{
    const double *const twice[] = {in[0], in[0]};
    return twin_multiply(k, twice, out);
}

#define PAIR(text, B, W, C, run, twin, ...)                                                                  \
    {                                                                                                        \
        {.what = text, .inputs = 2, .ndim = {3, 3}, .shape = {{B, W, C}, {B, W, C}}, __VA_ARGS__}, run, twin \
    }

const OpTest *optest_add(int *count)
{
    static const OpTest tests[] = {
        PAIR("one value", 1, 1, 1, run_add, twin_add, PLAIN),
        PAIR("15 values", 1, 5, 3, run_add, twin_add, PLAIN),
        PAIR("99 values", 3, 1, 33, run_add, twin_add, PLAIN),
        PAIR("second is a constant", 2, 3, 5, run_add, twin_add, .no_grad = {false, true}),
        PAIR("one tensor twice", 2, 3, 5, run_add_twice, twin_add_twice, PLAIN),
        PAIR("second is f32", 2, 3, 7, run_add_mixed, twin_add, PLAIN),
        PAIR("several pieces", 3, 111, 101, run_add, twin_add, PLAIN),
    };
    *count = COUNT_OF(tests);
    return tests;
}

const OpTest *optest_multiply(int *count)
{
    static const OpTest tests[] = {
        PAIR("one value", 1, 1, 1, run_multiply, twin_multiply, PLAIN),
        PAIR("15 values", 1, 5, 3, run_multiply, twin_multiply, PLAIN),
        PAIR("99 values", 3, 1, 33, run_multiply, twin_multiply, PLAIN),
        PAIR("first is a constant", 2, 3, 5, run_multiply, twin_multiply, .no_grad = {true, false}),
        PAIR("square", 2, 3, 5, run_square, twin_square, .no_grad = {false, true}),
        PAIR("several pieces", 3, 111, 101, run_multiply, twin_multiply, PLAIN),
    };
    *count = COUNT_OF(tests);
    return tests;
}

/* x (B,T,D) + the first T rows of w (N,D) */
static Tensor *run_add_rows(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    const Layer l = {.name = "positions", .weight = in[1]};
    return add_rows(c, ctx_copy(c, &l, sizeof l), in[0]);
}

static int64_t twin_add_rows(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0), TD = k->shape[0][1] * k->shape[0][2];
    for (int64_t i = 0; i < n; i++)
        out[i] = in[0][i] + in[1][i % TD];
    return n;
}

#define ROWS(text, B, T, D, N, ...)                                                                          \
    {                                                                                                        \
        {.what = text,                                                                                       \
         .inputs = 2,                                                                                        \
         .ndim = {3, 2},                                                                                     \
         .shape = {{B, T, D}, {N, D}},                                                                       \
         .weight = {false, true},                                                                            \
         __VA_ARGS__},                                                                                       \
            run_add_rows, twin_add_rows                                                                      \
    }

const OpTest *optest_add_rows(int *count)
{
    static const OpTest tests[] = {
        ROWS("D=3, more rows than tokens", 2, 3, 3, 5, PLAIN),
        ROWS("D=17", 3, 4, 17, 4, PLAIN),
        ROWS("D=33, frozen", 1, 2, 33, 2, .no_grad = {false, true}),
        ROWS("only the weight", 2, 2, 5, 2, .no_grad = {true, false}),
        ROWS("several pieces", 3, 77, 99, 77, PLAIN),
    };
    *count = COUNT_OF(tests);
    return tests;
}

/* Cast: to f32, and to the two 16-bit types of values that these hold exactly, so that nothing is rounded  */

static Tensor *run_cast(Ctx *c, const OpCase *k, Tensor **in)
{
    return cast(c, in[0], (DType)k->i[0]);
}

static int64_t twin_cast(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    memcpy(out, in[0], sizeof *out * (size_t)n);
    return n;
}

const OpTest *optest_cast(int *count)
{
    static const OpTest tests[] = {
        {{.what = "to f32", .inputs = 1, .ndim = {2}, .shape = {{3, 11}}, .i = {DTYPE_F32}},
         run_cast,
         twin_cast},
        {{.what = "to bf16", .inputs = 1, .ndim = {2}, .shape = {{3, 11}}, .i = {DTYPE_BF16}},
         run_cast,
         twin_cast},
        {{.what = "to f16", .inputs = 1, .ndim = {2}, .shape = {{3, 11}}, .i = {DTYPE_F16}},
         run_cast,
         twin_cast},
    };
    *count = COUNT_OF(tests);
    return tests;
}
