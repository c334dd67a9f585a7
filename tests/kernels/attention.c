/* Attention with and without a causal mask, at sizes around the tiles' edges; softmax over rows. */
#include "gradcheck.h"

#include <math.h>

/* Attention: q, k, v; i[0] heads, i[1] causal
 * ----------------------------------------------------------------------- */

static Tensor *run_attention(Ctx *c, const OpCase *k, Tensor **in)
{
    return attention(c, (int)k->i[0], (unsigned)k->i[1], in[0], in[1], in[2]);
}

/* One query of one head: q, k, v and out point to the head's first channel, rows are D apart. */
static void one_query(const double *q, const double *k, const double *v, int64_t keys, int64_t d, int64_t D,
                      double *out)
{
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        out[i] = 0;
    for (int64_t j = 0; j < keys; j++) {
        double s = 0;
        for (int64_t i = 0; i < d; i++)
            s += q[i] * k[j * D + i];
        const double p = exp(s / sqrt((double)d));
        sum += p;
        for (int64_t i = 0; i < d; i++)
            out[i] += p * v[j * D + i];
    }
    for (int64_t i = 0; i < d; i++)
        out[i] /= sum;
}

static int64_t twin_attention(const OpCase *k, const double *const *in, double *out)
{
    const int64_t B = k->shape[0][0], N = k->shape[0][1], M = k->shape[1][1], D = k->shape[0][2];
    const int64_t heads = k->i[0], d = D / heads;
    for (int64_t b = 0; b < B; b++)
        for (int64_t n = 0; n < N; n++)
            for (int64_t h = 0; h < heads; h++) {
                const int64_t at = (b * N + n) * D + h * d, from = b * M * D + h * d;
                const int64_t keys = k->i[1] && n + 1 < M ? n + 1 : M;
                one_query(in[0] + at, in[1] + from, in[2] + from, keys, d, D, out + at);
            }
    return B * N * D;
}

#define ATTENTION .run = run_attention, .twin = twin_attention

const OpTest *optest_attention(int *count)
{
#define HEADS(what_, B, N, M, heads, d, causal)                                                              \
    {                                                                                                        \
        .c = {.what = what_,                                                                                 \
              .inputs = 3,                                                                                   \
              .ndim = {3, 3, 3},                                                                             \
              .shape = {{B, N, (heads) * (d)}, {B, M, (heads) * (d)}, {B, M, (heads) * (d)}},                \
              .i = {heads, causal},                                                                          \
              .range = 2},                                                                                   \
        ATTENTION                                                                                            \
    }
    static const OpTest tests[] = {
        {.c = {.what = "odd head size, other number of keys",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{2, 5, 6}, {2, 7, 6}, {2, 7, 6}},
               .i = {2, 0},
               .range = 2},
         ATTENTION},
        {.c = {.what = "causal",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 9, 8}, {1, 9, 8}, {1, 9, 8}},
               .i = {1, 1},
               .range = 2},
         ATTENTION},
        {.c = {.what = "large scores",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 4, 16}, {1, 6, 16}, {1, 6, 16}},
               .i = {1, 0},
               .range = 2.5},
         ATTENTION},
        {.c = {.what = "one key",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 3, 4}, {1, 1, 4}, {1, 1, 4}},
               .no_grad = {true, true, false}, /* the others are 0 */
               .i = {1, 0}},
         ATTENTION},
        {.c = {.what = "text keys, heads of 40",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 70, 80}, {1, 77, 80}, {1, 77, 80}},
               .i = {2, 0},
               .range = 2},
         ATTENTION},
        {.c = {.what = "causal over several tiles",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 280, 6}, {1, 280, 6}, {1, 280, 6}},
               .i = {1, 1},
               .range = 2},
         ATTENTION},
        {.c = {.what = "more queries and keys than a tile",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 270, 6}, {1, 530, 6}, {1, 530, 6}},
               .i = {1, 0},
               .range = 3},
         ATTENTION},
        {.c = {.what = "keys for two tasks, an odd number of them",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 37, 6}, {1, 1027, 6}, {1, 1027, 6}},
               .i = {1, 0},
               .range = 3},
         ATTENTION},
        {.c = {.what = "only the values' gradient, wide head",
               .inputs = 3,
               .ndim = {3, 3, 3},
               .shape = {{1, 5, 130}, {1, 5, 130}, {1, 5, 130}},
               .no_grad = {true, true, false},
               .i = {1, 0}},
         ATTENTION},
        /* each size of a head that a GPU has tiles for, with ends of tiles in queries and keys */
        HEADS("heads of 8", 1, 20, 33, 2, 8, 0),
        HEADS("heads of 16, causal", 1, 67, 67, 2, 16, 1),
        HEADS("heads of 24, fewer keys than queries, causal", 1, 70, 40, 2, 24, 1),
        HEADS("heads of 40, causal over tiles", 1, 135, 135, 1, 40, 1),
        HEADS("heads of 40 side by side, so many that they fill a small card", 4, 70, 70, 3, 40, 0),
        HEADS("heads of 64, text, causal", 1, 77, 77, 2, 64, 1),
        HEADS("heads of 64 side by side, so many that they fill a small card", 4, 70, 20, 4, 64, 0),
        HEADS("heads of 80", 1, 65, 97, 1, 80, 0),
        HEADS("heads of 96, causal", 1, 34, 34, 1, 96, 1),
        HEADS("heads of 160", 1, 20, 49, 1, 160, 0),
        HEADS("many queries, few keys", 1, 700, 20, 1, 8, 0),
        HEADS("many queries, few keys, causal", 1, 300, 70, 1, 16, 1),
        HEADS("many queries, few keys, odd head size", 1, 300, 20, 1, 5, 0),
        HEADS("a head of 264", 1, 18, 67, 1, 264, 0),
    };
#undef HEADS
    *count = sizeof tests / sizeof *tests;
    return tests;
}
