/* Products, convolutions and attention of f32 on a GPU: in TF32 where they may be, and only there. What this
 * program's own kernels make in TF32 is the sum of products of rounded operands, to the last bits of f32;
 * what the library makes, and attention, lies within the bounds of that rounding. Breaks if an operand is not
 * rounded, is rounded twice or cut off, if f32 is rounded where nobody asked for it, or if TF32 is asked for
 * and not used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/ctx.h"
#include "kernels/cuda/cuda.h"
#include "kernels/device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_BITS 1e-5   /* of f32 sums in any order, of the largest */
#define ROUNDING 0x1p-9  /* of two operands that lose the last of 11 bits each, of Σ |a| |b| */
#define ATTENTION 0x1p-8 /* the same twice over: scores, then sums */

static const Device *gpu;
static unsigned seed;

static double number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1;
}

static Tensor *filled(int ndim, const int64_t *shape)
{
    Tensor *t = tensor_new_on(gpu, DTYPE_F32, ndim, shape);
    assert_non_null(t);
    float *numbers = calloc((size_t)tensor_count(t), sizeof *numbers);
    for (int64_t i = 0; i < tensor_count(t); i++)
        numbers[i] = (float)number();
    assert_int_equal(tensor_put(t, numbers, DTYPE_F32), STATUS_OK);
    free(numbers);
    return t;
}

static float *numbers_of(const Tensor *t)
{
    float *numbers = calloc((size_t)tensor_count(t), sizeof *numbers);
    assert_non_null(numbers);
    assert_int_equal(tensor_get(t, numbers, DTYPE_F32), STATUS_OK);
    return numbers;
}

/* To 10 bits of the fraction, from the middle away from 0. */
static double rounded(double x)
{
    int exponent;
    const double fraction = frexp(x, &exponent);
    return ldexp(round(ldexp(fraction, 11)), exponent - 11);
}

/* Σ a b as it is, of rounded operands, and Σ |a| |b|. */
typedef struct Sum {
    double exact, rounded, size;
} Sum;

static void sum_add(Sum *s, double a, double b)
{
    s->exact += a * b;
    s->rounded += rounded(a) * rounded(b);
    s->size += fabs(a * b);
}

/* own: the kernel is this program's. */
static void check(const char *what, bool tf32, bool own, const Tensor *y, const Sum *want)
{
    float *got = numbers_of(y);
    double largest = 0, off = 0;
    for (int64_t i = 0; i < tensor_count(y); i++)
        largest = fmax(largest, fabs(want[i].exact));
    for (int64_t i = 0; i < tensor_count(y); i++) {
        const double goal = tf32 && own ? want[i].rounded : want[i].exact,
                     error = fabs((double)got[i] - goal);
        const double limit = tf32 && !own ? ROUNDING * want[i].size : LAST_BITS * largest;
        if (!(error <= limit))
            fail_msg("%s%s: [%lld] is %.9g, should be %.9g", what, tf32 ? " in TF32" : "", (long long)i,
                     (double)got[i], goal);
        off = fmax(off, fabs((double)got[i] - want[i].exact));
    }
    if (tf32 && !(off > 3 * LAST_BITS * largest))
        fail_msg("%s was not computed in TF32: no further off than %.2g of %.2g", what, off, largest);
    free(got);
}

static void *scratch_for(size_t bytes)
{
    void *scratch = gpu->memory_new(bytes ? bytes : 1);
    assert_non_null(scratch);
    return scratch;
}

static Sum *sums_for(const Tensor *y)
{
    Sum *sums = calloc((size_t)tensor_count(y), sizeof *sums);
    assert_non_null(sums);
    return sums;
}

#define RUN(fn, descriptor)                                                                                  \
    do {                                                                                                     \
        size_t bytes = 0;                                                                                    \
        assert_int_equal(gpu->fn##_scratch(descriptor, &bytes), STATUS_OK);                                  \
        void *scratch = scratch_for(bytes);                                                                  \
        assert_int_equal(gpu->fn(descriptor, scratch), STATUS_OK);                                           \
        assert_int_equal(gpu->settle(), STATUS_OK);                                                          \
        gpu->memory_free(scratch, bytes);                                                                    \
    } while (0)

static void products(void **state)
{
    (void)state;
    enum { M = 96, N = 72, K = 64 };
    const int64_t a_shape[] = {M, K}, b_shape[] = {N, K}, y_shape[] = {M, N};
    Tensor *a = filled(2, a_shape), *b = filled(2, b_shape), *y = filled(2, y_shape);
    float *x = numbers_of(a), *w = numbers_of(b);
    Sum *want = sums_for(y);
    for (int i = 0; i < M * N; i++)
        for (int k = 0; k < K; k++)
            sum_add(&want[i], (double)x[i / N * K + k], (double)w[i % N * K + k]);
    for (int tf32 = 0; tf32 < 2; tf32++) {
        const Product p = {
            .m = M, .n = N, .k = K, .trans_b = true, .alpha = 1, .a = a, .b = b, .y = y, .tf32 = tf32};
        RUN(product, &p);
        check("a product", tf32, false, y, want);
    }
    free(x), free(w), free(want);
    tensor_free(a), tensor_free(b), tensor_free(y);
}

/* The three products of a 3×3 convolution, the same loop with another of the three as the sum. */
typedef enum Wanted { OUT, IN, WEIGHT } Wanted;

typedef struct Window {
    const char *what;
    int B, H, W, C, K, stride;
} Window;

static void sum_windows(const Window *n, Wanted wanted, const float *x, const float *w, const float *y,
                        Sum *want)
{
    const int out_H = n->H / n->stride, out_W = n->W / n->stride;
    for (int o = 0; o < n->B * out_H * out_W; o++)
        for (int tap = 0; tap < 9; tap++) {
            const int row = o / out_W % out_H * n->stride + tap / 3 - 1,
                      column = o % out_W * n->stride + tap % 3 - 1;
            if (row < 0 || row >= n->H || column < 0 || column >= n->W)
                continue;
            const int in = (o / (out_H * out_W) * n->H + row) * n->W + column;
            for (int k = 0; k < n->K; k++)
                for (int c = 0; c < n->C; c++) {
                    const int at_x = in * n->C + c, at_w = (k * n->C + c) * 9 + tap, at_y = o * n->K + k;
                    if (wanted == OUT)
                        sum_add(&want[at_y], (double)x[at_x], (double)w[at_w]);
                    else if (wanted == IN)
                        sum_add(&want[at_x], (double)y[at_y], (double)w[at_w]);
                    else
                        sum_add(&want[at_w], (double)y[at_y], (double)x[at_x]);
                }
        }
}

static void run_window(const Window *n, Wanted wanted, bool tf32, bool own)
{
    const int64_t x_shape[] = {n->B, n->H, n->W, n->C}, w_shape[] = {n->K, n->C, 3, 3},
                  y_shape[] = {n->B, n->H / n->stride, n->W / n->stride, n->K};
    Tensor *x = filled(4, x_shape), *w = filled(4, w_shape), *y = filled(4, y_shape);
    Tensor *result = wanted == OUT ? y : wanted == IN ? x : w;
    float *at_x = numbers_of(x), *at_w = numbers_of(w), *at_y = numbers_of(y);
    Sum *want = sums_for(result);
    sum_windows(n, wanted, at_x, at_w, at_y, want);
    const ConvShape s = {n->stride, 1, 1, 1, 1, false};
    const Conv a = {.s = s, .x = x, .w = w, .y = y, .tf32 = tf32};
    if (wanted == OUT)
        RUN(conv2d, &a);
    else if (wanted == IN)
        RUN(conv2d_backward_data, &a);
    else {
        assert_int_equal(gpu->fill(w, 0), STATUS_OK); /* added to */
        RUN(conv2d_backward_weight, &a);
    }
    char what[120];
    snprintf(what, sizeof what, "%s of a convolution, %s",
             wanted == OUT  ? "the result"
             : wanted == IN ? "the gradient of the input"
                            : "the gradient of the weight",
             n->what);
    check(what, tf32 && own, true, result, want);
    free(at_x), free(at_w), free(at_y), free(want);
    tensor_free(x), tensor_free(w), tensor_free(y);
}

static void convolutions(void **state)
{
    (void)state;
    static const Window windows[] = {
        {"whole chunks", 2, 9, 7, 40, 24, 1},
        {"as many channels as a tile", 1, 16, 16, 136, 160, 1},
        {"of a latent", 1, 10, 12, 4, 48, 1},
        {"to a picture", 1, 12, 10, 32, 3, 1},
        {"of a picture: channels that are gathered", 1, 11, 9, 3, 20, 1},
        {"with stride 2", 1, 12, 8, 24, 40, 2},
    };
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (Wanted wanted = OUT; wanted <= WEIGHT; wanted++)
            for (int tf32 = 0; tf32 < 2; tf32++) {
                const bool whole = windows[i].C % 8 == 0 && windows[i].K % 8 == 0;
                run_window(&windows[i], wanted, tf32, wanted != WEIGHT || whole);
            }
}

/* Largest difference between the two, of the largest in the first. */
static double apart(const Tensor *a, const Tensor *b)
{
    float *x = numbers_of(a), *y = numbers_of(b);
    double most = 0, largest = 0;
    for (int64_t i = 0; i < tensor_count(a); i++) {
        most = fmax(most, fabs((double)x[i] - (double)y[i]));
        largest = fmax(largest, fabs((double)x[i]));
        assert_true(isfinite(y[i]));
    }
    free(x), free(y);
    return most / largest;
}

/* What is exact is known to be right (test_ops). */
static void check_attention(int heads, int d, int queries, int keys, bool causal, bool backward)
{
    const int64_t q_shape[] = {2, queries, heads * d}, k_shape[] = {2, keys, heads * d},
                  lse_shape[] = {2, heads, queries};
    Tensor *q = filled(3, q_shape), *k = filled(3, k_shape), *v = filled(3, k_shape), *g = filled(3, q_shape);
    Tensor *made[2][4];
    for (int tf32 = 0; tf32 < 2; tf32++) {
        Tensor *out = filled(3, q_shape), *lse = filled(3, lse_shape);
        Attention a = {.heads = heads, .threads = 1, .causal = causal, .tf32 = tf32};
        a.q = q, a.k = k, a.v = v, a.out = out, a.lse = lse;
        RUN(attention, &a);
        made[tf32][0] = out;
        for (int i = 1; i < 4; i++)
            made[tf32][i] = filled(3, i == 1 ? q_shape : k_shape);
        a.grad_out = g, a.grad_q = made[tf32][1], a.grad_k = made[tf32][2], a.grad_v = made[tf32][3];
        if (backward)
            RUN(attention_backward, &a);
        tensor_free(lse);
    }
    for (int i = 0; i < (backward ? 4 : 1); i++) {
        const double off = apart(made[0][i], made[1][i]);
        if (!(off <= ATTENTION && off > LAST_BITS))
            fail_msg("attention, heads of %d, %s %d: TF32 is %.3g off", d, i ? "gradient" : "result", i, off);
    }
    for (int i = 0; i < 8; i++)
        tensor_free(made[i / 4][i % 4]);
    tensor_free(q), tensor_free(k), tensor_free(v), tensor_free(g);
}

static void attention_of_all_widths(void **state)
{
    (void)state;
    static const int widths[] = {8, 16, 40, 64, 72, 80};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        check_attention(2, widths[i], 70, 77, false, true);
        check_attention(1, widths[i], 130, 130, true, true);
    }
    check_attention(1, 160, 40, 77, false, false);
    check_attention(1, 512, 70, 70, false, false);
}

/* The context asks for it, where the device has it. */
static void contexts(void **state)
{
    (void)state;
    Ctx *asks = ctx_new(gpu, &(CtxOptions){.tf32 = true}), *plain = ctx_new(gpu, NULL),
        *host = ctx_new(device_cpu(), &(CtxOptions){.tf32 = true});
    assert_true(asks->tf32 && !plain->tf32 && !host->tf32);
    ctx_free(asks), ctx_free(plain), ctx_free(host);
}

/* Before Ampere there is none. */
static void an_older_card_has_none(void **state)
{
    (void)state;
    Ctx *asks = ctx_new(gpu, &(CtxOptions){.tf32 = true});
    assert_false(asks->tf32);
    ctx_free(asks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(convolutions),
        cmocka_unit_test(attention_of_all_widths),
        cmocka_unit_test(contexts),
    };
    const struct CMUnitTest older[] = {cmocka_unit_test(an_older_card_has_none)};
    gpu = device_cuda("cuda");
    if (!gpu) {
        fprintf(stderr, "no GPU: %s\n", status_message());
        return 1;
    }
    return gpu->has_tf32 ? cmocka_run_group_tests(tests, NULL, NULL)
                         : cmocka_run_group_tests(older, NULL, NULL);
}
