/* Cases of what is looked up by number. */
#include "gradcheck.h"

#include <string.h>

#define TOKENS_MAX 64

/* in: w (N,D); i[0]: numbers below it are used, i[1], i[2]: (B,T). Token i is number (5 i) mod i[0], so that
 * some occur twice and some never. */
static Tensor *run_embedding(Ctx *c, const OpCase *k, Tensor **in)
{
    int32_t ids[TOKENS_MAX];
    const Layer l = {.name = "token_embedding", .weight = in[0]};
    for (int i = 0; i < TOKENS_MAX; i++)
        ids[i] = (int32_t)(5 * i % k->i[0]);
    return embedding(c, ctx_copy(c, &l, sizeof l), ctx_input(c, DTYPE_I32, 2, &k->i[1], ids));
}

static int64_t twin_embedding(const OpCase *k, const double *const *in, double *out)
{
    const int64_t D = k->shape[0][1], n = k->i[1] * k->i[2];
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * D, in[0] + 5 * i % k->i[0] * D, sizeof *out * (size_t)D);
    return n * D;
}

#define EMBEDDING(text, N, D, used, B, T)                                                                    \
    {                                                                                                        \
        {.what = text, .inputs = 1, .ndim = {2}, .shape = {{N, D}}, .weight = {true}, .i = {used, B, T}},    \
            run_embedding, twin_embedding                                                                    \
    }

const OpTest *optest_embedding(int *count)
{
    static const OpTest tests[] = {
        EMBEDDING("D=1", 7, 1, 6, 1, 3),
        EMBEDDING("D=5, all tokens twice", 7, 5, 4, 2, 4),
        EMBEDDING("D=33, one token always", 3, 33, 1, 1, 7),
        EMBEDDING("several pieces", 11, 1029, 7, 3, 11),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}

/* Rows: in: x (B,T,D); text b's token is (i[0] + 3 b) mod T. */
static int32_t taken(const OpCase *k, int64_t first, int64_t b)
{
    return (int32_t)((first + 3 * b) % k->shape[0][1]);
}

static Tensor *rows_from(Ctx *c, const OpCase *k, Tensor *x, int64_t first)
{
    int32_t rows[TOKENS_MAX];
    for (int64_t b = 0; b < x->shape[0]; b++)
        rows[b] = taken(k, first, b);
    return take_rows(c, x, ctx_input(c, DTYPE_I32, 1, x->shape, rows));
}

static Tensor *run_take_rows(Ctx *c, const OpCase *k, Tensor **in)
{
    return rows_from(c, k, in[0], k->i[0]);
}

/* The same times the rows that begin at i[1], so that x has two gradients. */
static Tensor *run_take_rows_twice(Ctx *c, const OpCase *k, Tensor **in)
{
    return multiply(c, rows_from(c, k, in[0], k->i[0]), rows_from(c, k, in[0], k->i[1]));
}

static double taken_at(const OpCase *k, const double *x, int64_t first, int64_t b, int64_t i)
{
    return x[(b * k->shape[0][1] + taken(k, first, b)) * k->shape[0][2] + i];
}

static int64_t twin_take_rows(const OpCase *k, const double *const *in, double *out)
{
    const int64_t B = k->shape[0][0], D = k->shape[0][2];
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < D; i++)
            out[b * D + i] = taken_at(k, in[0], k->i[0], b, i);
    return B * D;
}

static int64_t twin_take_rows_twice(const OpCase *k, const double *const *in, double *out)
{
    const int64_t B = k->shape[0][0], D = k->shape[0][2];
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < D; i++)
            out[b * D + i] = taken_at(k, in[0], k->i[0], b, i) * taken_at(k, in[0], k->i[1], b, i);
    return B * D;
}

#define TAKE_ROWS(text, B, T, D, first, second, run, twin)                                                   \
    {                                                                                                        \
        {.what = text, .inputs = 1, .ndim = {3}, .shape = {{B, T, D}}, .i = {first, second}}, run, twin      \
    }

const OpTest *optest_take_rows(int *count)
{
    static const OpTest tests[] = {
        TAKE_ROWS("one token", 2, 1, 5, 0, 0, run_take_rows, twin_take_rows),
        TAKE_ROWS("D=1, the last token", 1, 7, 1, 6, 0, run_take_rows, twin_take_rows),
        TAKE_ROWS("D=33, another token each", 4, 5, 33, 2, 0, run_take_rows, twin_take_rows),
        TAKE_ROWS("twice the same", 3, 4, 8, 1, 1, run_take_rows_twice, twin_take_rows_twice),
        TAKE_ROWS("twice, several pieces", 3, 11, 1032, 0, 7, run_take_rows_twice, twin_take_rows_twice),
    };
    *count = sizeof tests / sizeof *tests;
    return tests;
}
