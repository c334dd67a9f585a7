/* Weights in 8 bits on the processor. Breaks if a scale belongs to another row, if a product of 8 bits sums
 * up other numbers than those that its operands were rounded to, if what is added gets lost, or if NaN does.
 */
#include "isa_devices.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned seed;

static double number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 23) - 1;
}

static Tensor *filled(DType type, int ndim, const int64_t *shape)
{
    Tensor *t = tensor_new(type, ndim, shape);
    assert_non_null(t);
    for (int64_t i = 0; i < tensor_count(t); i++)
        tensor_set_at(t, i, number());
    return t;
}

/* Multiples of 1/2 from -50 to 77.5, both of which are in each row of n: rounding to 256 steps keeps them. */
static Tensor *on_steps(DType type, int ndim, const int64_t *shape, int64_t n)
{
    Tensor *t = tensor_new(type, ndim, shape);
    assert_non_null(t);
    for (int64_t i = 0; i < tensor_count(t); i++) {
        const int q = i % n == 0 ? 0 : i % n == 1 ? 255 : (int)((number() + 1) * 127);
        tensor_set_at(t, i, (q - 100) * 0.5);
    }
    return t;
}

/* Of numbers up to `most`. */
static Tensor *narrow_weight(int ndim, const int64_t *shape, int most)
{
    Tensor *w = tensor_new(DTYPE_I8, ndim, shape);
    assert_non_null(w);
    w->scales = tensor_new(DTYPE_F32, 1, shape);
    assert_non_null(w->scales);
    for (int64_t i = 0; i < tensor_count(w); i++)
        ((int8_t *)w->data)[i] = (int8_t)lrint(number() * most);
    for (int64_t r = 0; r < shape[0]; r++)
        tensor_set_at(w->scales, r, 0.001 * (double)(r + 1));
    return w;
}

static Tensor *decoded(const Tensor *w)
{
    Tensor *t = tensor_new(DTYPE_F32, w->ndim, w->shape);
    assert_non_null(t);
    assert_int_equal(device_cpu()->decode(w, w->scales, t), STATUS_OK);
    return t;
}

static void same(const Device *d, const char *what, const Tensor *got, const Tensor *want, double limit)
{
    double largest = 0;
    for (int64_t i = 0; i < tensor_count(want); i++)
        largest = fmax(largest, fabs(tensor_at(want, i)));
    for (int64_t i = 0; i < tensor_count(want); i++)
        if (!(fabs(tensor_at(got, i) - tensor_at(want, i)) <= limit * largest))
            fail_msg("%s: %s: %d %s [%lld] is %g, should be %g, largest %g", d->name, what,
                     (int)got->shape[got->ndim - 1], dtype_name(got->dtype), (long long)i, tensor_at(got, i),
                     tensor_at(want, i), largest);
    assert_true(largest > 0);
}

/* Products ------------------------------------------------------------------------------------------------
 */

static void run_product(const Device *d, const Product *p)
{
    size_t bytes;
    assert_int_equal(d->product_scratch(p, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    if (d->product(p, scratch) != STATUS_OK)
        fail_msg("%s: %s", d->name, status_message());
    mem_free(scratch);
}

typedef struct Sizes {
    int64_t m, n, k;
    DType type;
    bool geglu, narrow, low_rank;
} Sizes;

static void check_product(const Device *d, const Sizes *s)
{
    const int64_t a_shape[] = {s->m, s->k}, w_shape[] = {s->n, s->k},
                  y_shape[] = {s->m, s->geglu ? s->n / 2 : s->n}, t_shape[] = {s->m, 4},
                  up_shape[] = {s->n, 4};
    Tensor *a = on_steps(s->type, 2, a_shape, s->k), *w = narrow_weight(2, w_shape, 127), *wide = decoded(w),
           *bias = filled(DTYPE_F32, 1, &s->n), *residual = filled(s->type, 2, y_shape),
           *t = filled(s->type, 2, t_shape), *up = filled(DTYPE_F32, 2, up_shape),
           *want = tensor_new(s->type, 2, y_shape), *got = tensor_new(s->type, 2, y_shape);
    for (int r = 0; s->geglu && r < s->n; r++) /* so that what is under the GELU is about 1 */
        tensor_set_at(w->scales, r, 1e-4), tensor_set_at(bias, r, 0.5);
    if (s->geglu)
        assert_int_equal(d->decode(w, w->scales, wide), STATUS_OK);
    Product p = {.m = s->m,
                 .n = s->n,
                 .k = s->k,
                 .trans_b = true,
                 .alpha = 1,
                 .a = a,
                 .b = wide,
                 .bias = bias,
                 .residual = s->geglu ? NULL : residual,
                 .t = s->low_rank ? t : NULL,
                 .up = s->low_rank ? up : NULL,
                 .scale = 0.5f,
                 .geglu = s->geglu,
                 .y = want};
    run_product(d, &p);
    p.b = w, p.y = got, p.narrow = s->narrow;
    run_product(d, &p);
    same(d, s->narrow ? "product of 8 bits" : "product with 8 bits", got, want,
         s->type == DTYPE_F32 ? 1e-5 : 1.0 / 64);
    Tensor *all[] = {a, w, wide, bias, residual, t, up, want, got};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
}

static void a_product_is_the_one_with_the_weight_decoded(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {
        {16, 32, 4}, {40, 70, 36}, {101, 96, 132}, {3, 64, 64}, {700, 132, 200}};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int i = 0; i < 5; i++)
            for (DType type = DTYPE_F32; type <= DTYPE_F16; type++)
                for (int bits = 0; bits < 8; bits++)
                    check_product(&table[d], &(Sizes){.m = sizes[i][0],
                                                      .n = sizes[i][1],
                                                      .k = sizes[i][2],
                                                      .type = type,
                                                      .geglu = bits & 1,
                                                      .narrow = bits & 2,
                                                      .low_rank = bits & 4});
}

/* grad x = g W */
static void a_product_with_the_weight_as_it_lies(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    const int64_t g_shape[] = {70, 90}, w_shape[] = {90, 52}, x_shape[] = {70, 52};
    Tensor *g = filled(DTYPE_F32, 2, g_shape), *w = narrow_weight(2, w_shape, 127), *wide = decoded(w),
           *want = tensor_new(DTYPE_F32, 2, x_shape), *got = tensor_new(DTYPE_F32, 2, x_shape);
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Product p = {.m = 70, .n = 52, .k = 90, .alpha = 1, .a = g, .b = wide, .y = want};
        run_product(&table[d], &p);
        p.b = w, p.y = got;
        run_product(&table[d], &p);
        same(&table[d], "gradient", got, want, 1e-5);
    }
    Tensor *all[] = {g, w, wide, want, got};
    for (int i = 0; i < 5; i++)
        tensor_free(all[i]);
}

/* Convolutions ----------------------------------------------------------------------------------------------
 */

typedef Status (*ScratchFn)(const Conv *, size_t *);
typedef Status (*RunFn)(const Conv *, void *);

static void convolve(const Device *d, const Conv *a, ScratchFn scratch_of, RunFn run)
{
    size_t bytes;
    assert_int_equal(scratch_of(a, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    if (run(a, scratch) != STATUS_OK)
        fail_msg("%s: %s", d->name, status_message());
    mem_free(scratch);
}

typedef struct Map {
    int64_t H, W, C, K;
    ConvShape s;
} Map;

static const Map maps[] = {
    {9, 13, 8, 40, {1, 1, 1, 1, 1, false}},   {8, 8, 64, 64, {1, 1, 1, 1, 1, false}},
    {16, 16, 32, 64, {1, 1, 1, 1, 1, false}}, {10, 12, 12, 33, {2, 1, 1, 1, 1, false}},
    {10, 12, 12, 33, {2, 0, 0, 1, 1, false}}, {5, 7, 36, 20, {1, 1, 1, 1, 1, true}},
    {4, 9, 20, 70, {1, 1, 1, 1, 1, true}},    {16, 16, 32, 32, {1, 1, 1, 1, 1, true}},
    {6, 6, 300, 8, {1, 1, 1, 1, 1, false}},
};

/* A doubled map's weights are sums of up to four, which are rounded again if they leave 8 bits. */
static void check_conv(const Device *d, const Map *m, DType type, bool narrow, int most)
{
    const int64_t times = m->s.upsample ? 2 : 1,
                  H = (m->H * times + m->s.pad_top + m->s.pad_bottom - 3) / m->s.stride + 1,
                  W = (m->W * times + m->s.pad_left + m->s.pad_right - 3) / m->s.stride + 1;
    const int64_t x_shape[] = {2, m->H, m->W, m->C}, w_shape[] = {m->K, m->C, 3, 3},
                  y_shape[] = {2, H, W, m->K}, v_shape[] = {2, m->K};
    Tensor *x = on_steps(type, 4, x_shape, m->H * m->W * m->C), *w = narrow_weight(4, w_shape, most),
           *wide = decoded(w), *bias = filled(DTYPE_F32, 1, &m->K), *v = filled(type, 2, v_shape),
           *residual = filled(type, 4, y_shape), *want = tensor_new(type, 4, y_shape),
           *got = tensor_new(type, 4, y_shape), *grad = filled(type, 4, y_shape),
           *want_x = tensor_new(type, 4, x_shape), *got_x = tensor_new(type, 4, x_shape);
    const bool again = narrow && m->s.upsample && most > 31;
    const double limit = type == DTYPE_F32 ? 2e-5 : 1.0 / 64;
    Conv a = {.s = m->s, .x = x, .w = wide, .bias = bias, .per_picture = v, .residual = residual, .y = want};
    convolve(d, &a, d->conv2d_scratch, d->conv2d);
    a.w = w, a.y = got, a.narrow = narrow;
    convolve(d, &a, d->conv2d_scratch, d->conv2d);
    same(d, narrow ? "convolution of 8 bits" : "convolution with 8 bits", got, want,
         again ? 1.0 / 32 : limit);
    Conv back = {.s = m->s, .x = want_x, .w = wide, .y = grad};
    convolve(d, &back, d->conv2d_backward_data_scratch, d->conv2d_backward_data);
    back.w = w, back.x = got_x;
    convolve(d, &back, d->conv2d_backward_data_scratch, d->conv2d_backward_data);
    same(d, "gradient of a convolution's input", got_x, want_x, limit);
    Tensor *all[] = {x, w, wide, bias, v, residual, want, got, grad, want_x, got_x};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_free(all[i]);
}

static void a_convolution_is_the_one_with_the_weight_decoded(void **state)
{
    (void)state;
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
            for (int bits = 0; bits < 8; bits++)
                check_conv(&table[d], &maps[i], bits & 1 ? DTYPE_BF16 : DTYPE_F32, bits & 2,
                           bits & 4 ? 31 : 127);
}

/* What is rounded is rounded: to within half a step, and not kept as it is; NaN and infinity stay in their
 * row and their picture. */
static void rounding_is_by_row_and_by_picture(void **state)
{
    (void)state;
    enum { M = 20, K = 64, N = 32 };
    const int64_t a_shape[] = {M, K}, w_shape[] = {N, K}, y_shape[] = {M, N};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d > 0; d--) {
        if (!cpu_has_int8(strcmp(table[d].name, "avx512") ? 256 : 512))
            continue;
        Tensor *a = filled(DTYPE_F32, 2, a_shape), *w = narrow_weight(2, w_shape, 127), *wide = decoded(w),
               *want = tensor_new(DTYPE_F32, 2, y_shape), *got = tensor_new(DTYPE_F32, 2, y_shape);
        for (int i = 0; i < K; i++)
            tensor_set_at(a, 3 * K + i, 0); /* a row of nothing */
        Product p = {.m = M, .n = N, .k = K, .trans_b = true, .alpha = 1, .a = a, .b = wide, .y = want};
        run_product(&table[d], &p);
        p.b = w, p.y = got, p.narrow = true;
        run_product(&table[d], &p);
        double worst = 0;
        for (int64_t i = 0; i < M * N; i++) {
            const double scale = tensor_at(w->scales, i % N);
            const double apart = fabs(tensor_at(got, i) - tensor_at(want, i)) / (scale * 127);
            worst = fmax(worst, apart);
            assert_true(apart <= K * 0.5 * 2 / 255 && (i / N != 3 || apart == 0));
        }
        assert_true(worst > 1e-3);
        tensor_set_at(a, 5 * K + 63, (double)NAN);
        tensor_set_at(a, 7 * K, (double)-INFINITY);
        run_product(&table[d], &p);
        for (int64_t i = 0; i < M * N; i++)
            assert_int_equal(isfinite(tensor_at(got, i)), i / N != 5 && i / N != 7);
        Tensor *all[] = {a, w, wide, want, got};
        for (int i = 0; i < 5; i++)
            tensor_free(all[i]);
    }
}

static void not_finite_stays_in_its_picture(void **state)
{
    (void)state;
    const int64_t x_shape[] = {2, 6, 6, 4}, w_shape[] = {16, 4, 3, 3}, y_shape[] = {2, 6, 6, 16};
    Device table[ISA_DEVICES_MAX];
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *x = filled(DTYPE_F32, 4, x_shape), *w = narrow_weight(4, w_shape, 127),
               *y = tensor_new(DTYPE_F32, 4, y_shape);
        tensor_set_at(x, tensor_count(x) - 1, (double)NAN);
        const Conv a = {.s = {1, 1, 1, 1, 1, false}, .x = x, .w = w, .y = y, .narrow = true};
        convolve(&table[d], &a, table[d].conv2d_scratch, table[d].conv2d);
        const int64_t n = tensor_count(y) / 2;
        for (int64_t i = 0; i < n; i++)
            assert_true(isfinite(tensor_at(y, i)));
        assert_false(isfinite(tensor_at(y, 2 * n - 1)));
        Tensor *all[] = {x, w, y};
        for (int i = 0; i < 3; i++)
            tensor_free(all[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_the_one_with_the_weight_decoded),
        cmocka_unit_test(a_product_with_the_weight_as_it_lies),
        cmocka_unit_test(a_convolution_is_the_one_with_the_weight_decoded),
        cmocka_unit_test(rounding_is_by_row_and_by_picture),
        cmocka_unit_test(not_finite_stays_in_its_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
