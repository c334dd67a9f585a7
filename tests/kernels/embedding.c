/* Cases of the embedding. The numbers looked up are fixed by the case: token i is (5 i) mod i[0], so that
 * some occur twice and some never. */
#include "gradcheck.h"

#include <string.h>

#define TOKENS_MAX 64

/* in: w (N,D); i[0]: numbers below it are used, i[1], i[2]: (B,T) */
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
