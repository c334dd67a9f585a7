/* Cases of the rearranging operations. */
#include "gradcheck.h"

#include <string.h>

#define COUNT_OF(tests) ((int)(sizeof(tests) / sizeof *(tests)))

/* Reshape: to the shape in i[1]… of i[0] dimensions. Two views of what comes from one tensor, multiplied: x
 * gets gradients in either shape. */
static Tensor *run_reshape(Ctx *c, const OpCase *k, Tensor **in)
{
    Tensor *y = reshape(c, multiply(c, in[0], in[0]), (int)k->i[0], &k->i[1]);
    Tensor *x = reshape(c, in[0], (int)k->i[0], &k->i[1]);
    return multiply(c, y, x);
}

static int64_t twin_reshape(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    for (int64_t i = 0; i < n; i++)
        out[i] = in[0][i] * in[0][i] * in[0][i];
    return n;
}

static Tensor *run_reshape_only(Ctx *c, const OpCase *k, Tensor **in)
{
    return reshape(c, in[0], (int)k->i[0], &k->i[1]);
}

static int64_t twin_same(const OpCase *k, const double *const *in, double *out)
{
    const int64_t n = optest_elements(k, 0);
    memcpy(out, in[0], sizeof *out * (size_t)n);
    return n;
}

const OpTest *optest_reshape(int *count)
{
    static const OpTest tests[] = {
        {{.what = "map to tokens", .inputs = 1, .ndim = {4}, .shape = {{2, 3, 5, 7}}, .i = {3, 2, 15, 7}},
         run_reshape_only,
         twin_same},
        {{.what = "two views", .inputs = 1, .ndim = {4}, .shape = {{2, 3, 5, 3}}, .i = {2, 6, 15}},
         run_reshape,
         twin_reshape},
    };
    *count = COUNT_OF(tests);
    return tests;
}

/* Rows: i[1] of them from i[0] on; then the rows from i[2] on times them, so that one tensor is cut twice. */
static Tensor *run_slice_batch(Ctx *c, const OpCase *k, Tensor **in)
{
    return slice_batch(c, in[0], k->i[0], k->i[1]);
}

static int64_t twin_slice_batch(const OpCase *k, const double *const *in, double *out)
{
    const int64_t row = optest_elements(k, 0) / k->shape[0][0];
    memcpy(out, in[0] + k->i[0] * row, sizeof *out * (size_t)(k->i[1] * row));
    return k->i[1] * row;
}

static Tensor *run_slice_batch_twice(Ctx *c, const OpCase *k, Tensor **in)
{
    return multiply(c, slice_batch(c, in[0], k->i[0], k->i[1]), slice_batch(c, in[0], k->i[2], k->i[1]));
}

static int64_t twin_slice_batch_twice(const OpCase *k, const double *const *in, double *out)
{
    const int64_t row = optest_elements(k, 0) / k->shape[0][0];
    for (int64_t i = 0; i < k->i[1] * row; i++)
        out[i] = in[0][k->i[0] * row + i] * in[0][k->i[2] * row + i];
    return k->i[1] * row;
}

#define ROWS_OF(text, B, H, W, C, first, n, second, run, twin)                                               \
    {                                                                                                        \
        {.what = text, .inputs = 1, .ndim = {4}, .shape = {{B, H, W, C}}, .i = {first, n, second}}, run,     \
            twin                                                                                             \
    }

const OpTest *optest_slice_batch(int *count)
{
    static const OpTest tests[] = {
        ROWS_OF("all of 2", 2, 3, 1, 5, 0, 2, 0, run_slice_batch, twin_slice_batch),
        ROWS_OF("the middle of 3", 3, 2, 1, 7, 1, 1, 0, run_slice_batch, twin_slice_batch),
        ROWS_OF("the last 2 of 5", 5, 1, 3, 3, 3, 2, 0, run_slice_batch, twin_slice_batch),
        ROWS_OF("two that overlap", 4, 2, 3, 3, 0, 3, 1, run_slice_batch_twice, twin_slice_batch_twice),
        ROWS_OF("two apart, several pieces", 4, 37, 31, 9, 0, 1, 2, run_slice_batch_twice,
                twin_slice_batch_twice),
    };
    *count = COUNT_OF(tests);
    return tests;
}

/* Concat: a (B,H,W,C), b (B,H,W,K) */
static Tensor *run_concat(Ctx *c, const OpCase *k, Tensor **in)
{
    (void)k;
    return concat(c, in[0], in[1]);
}

static int64_t twin_concat(const OpCase *k, const double *const *in, double *out)
{
    const int64_t C = k->shape[0][3], K = k->shape[1][3], rows = optest_elements(k, 0) / C;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < C + K; i++)
            out[r * (C + K) + i] = i < C ? in[0][r * C + i] : in[1][r * K + i - C];
    return rows * (C + K);
}

#define CONCAT(text, B, H, W, C, K, ...)                                                                     \
    {                                                                                                        \
        {.what = text, .inputs = 2, .ndim = {4, 4}, .shape = {{B, H, W, C}, {B, H, W, K}}, __VA_ARGS__},     \
            run_concat, twin_concat                                                                          \
    }

const OpTest *optest_concat(int *count)
{
    static const OpTest tests[] = {
        CONCAT("1 and 3 channels", 2, 3, 1, 1, 3, PLAIN),
        CONCAT("17 and 5 channels", 1, 2, 3, 17, 5, PLAIN),
        CONCAT("first is a constant", 1, 2, 3, 2, 5, .no_grad = {true, false}),
        CONCAT("second is a constant", 1, 2, 3, 2, 5, .no_grad = {false, true}),
        CONCAT("several pieces", 2, 13, 17, 33, 29, PLAIN),
    };
    *count = COUNT_OF(tests);
    return tests;
}
