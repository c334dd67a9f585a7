/* Matrix products in every mix of storage types and transpositions, at sizes beyond one panel, with bias,
 * alpha and beta; sums over rows; convolutions whose frozen weight stays packed in the layer. */
#include "gradcheck.h"

#include "kernels/base/mem.h"
#include "kernels/cpu/isa.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Device tables[3];
static int table_count;

static int find_tables(void **state)
{
    (void)state;
    const char *best = device_cpu_isa();
    cpu_table_baseline(&tables[table_count++]);
#ifdef ATL_X86
    if (strcmp(best, "baseline") != 0)
        cpu_table_avx2(&tables[table_count++]);
    if (strncmp(best, "avx512", 6) == 0)
        cpu_table_avx512(&tables[table_count++]);
#endif
    (void)best;
    return 0;
}

/* A matrix of small multiples of 1/8: exact in every storage type, and so are short sums of products. */
static Tensor *matrix(DType type, int64_t rows, int64_t columns, unsigned seed)
{
    const int64_t shape[] = {rows, columns};
    Tensor *t = tensor_new(type, 2, shape);
    assert_non_null(t);
    for (int64_t i = 0; i < rows * columns; i++) {
        seed = seed * 1664525u + 1013904223u;
        tensor_set_at(t, i, (double)((int)(seed >> 24) % 17 - 8) / 8);
    }
    return t;
}

static double at(const Tensor *t, bool transposed, int64_t row, int64_t column)
{
    return tensor_at(t, transposed ? column * t->shape[1] + row : row * t->shape[1] + column);
}

/* A product and its reference at sampled places. y may be 16 bits: its rounding is 2^-9 of the value. */
typedef struct Case {
    int64_t m, n, k;
    bool trans_a, trans_b, bias;
    float alpha, beta;
} Case;

static void check_product(const Device *d, const Case *c, DType a_type, DType b_type, DType y_type)
{
    Tensor *a = matrix(a_type, c->trans_a ? c->k : c->m, c->trans_a ? c->m : c->k, 1);
    Tensor *b = matrix(b_type, c->trans_b ? c->n : c->k, c->trans_b ? c->k : c->n, 2);
    Tensor *y = matrix(y_type, c->m, c->n, 3), *before = matrix(y_type, c->m, c->n, 3),
           *bias = matrix(b_type, 1, c->n, 4);
    const Product p = {.m = c->m,
                       .n = c->n,
                       .k = c->k,
                       .trans_a = c->trans_a,
                       .trans_b = c->trans_b,
                       .alpha = c->alpha,
                       .beta = c->beta,
                       .a = a,
                       .b = b,
                       .bias = c->bias ? bias : NULL,
                       .y = y};
    size_t bytes;
    assert_int_equal(d->product_scratch(&p, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    assert_int_equal(d->product(&p, scratch), STATUS_OK);
    const double limit = (y_type == DTYPE_F32 ? 1e-5 : 8e-3) * sqrt((double)c->k);
    for (int64_t s = 0; s < 400; s++) {
        const int64_t i = s == 0   ? 0
                          : s == 1 ? c->m - 1
                                   : s * 7919 % c->m,
                      j = s == 1 ? c->n - 1 : s * 104729 % c->n;
        double want = (double)c->beta * tensor_at(before, i * c->n + j) + (c->bias ? tensor_at(bias, j) : 0),
               sum = 0;
        for (int64_t l = 0; l < c->k; l++)
            sum += at(a, c->trans_a, i, l) * at(b, c->trans_b, l, j);
        want += (double)c->alpha * sum;
        const double got = tensor_at(y, i * c->n + j);
        if (!(fabs(got - want) <= limit))
            fail_msg("%lldx%lldx%lld %s %s -> %s, transposed %d %d: [%lld,%lld] is %g, should be %g",
                     (long long)c->m, (long long)c->n, (long long)c->k, dtype_name(a_type),
                     dtype_name(b_type), dtype_name(y_type), c->trans_a, c->trans_b, (long long)i,
                     (long long)j, got, want);
    }
    mem_free(scratch);
    Tensor *all[] = {a, b, y, before, bias};
    for (int i = 0; i < 5; i++)
        tensor_free(all[i]);
}

static void check_products(const Case *c)
{
    for (int t = 0; t < table_count; t++)
        for (DType a = DTYPE_F32; a <= DTYPE_F16; a++)
            for (DType b = DTYPE_F32; b <= DTYPE_F16; b++)
                for (DType y = DTYPE_F32; y <= DTYPE_F16; y++)
                    check_product(&tables[t], c, a, b, y);
}

static void every_mix_of_types_and_transpositions_multiplies(void **state)
{
    (void)state;
    for (int ta = 0; ta < 2; ta++)
        for (int tb = 0; tb < 2; tb++)
            for (int bias = 0; bias < 2; bias++)
                check_products(&(Case){21, 35, 19, ta, tb, bias, 1, (float)(ta ^ bias)});
    check_products(&(Case){5, 3, 7, false, true, true, 0.5f, 0.25f});
    check_products(&(Case){1, 1, 1, false, false, false, 2, 1});
}

static void products_larger_than_a_panel_multiply(void **state)
{
    (void)state;
    static const Case large[] = {
        {2100, 70, 520, false, true, true, 1, 0},   /* several panels of a */
        {40, 2200, 530, false, true, true, 1, 1},   /* several panels of b */
        {70, 66, 4200, true, false, false, 2, 1},   /* several panels along k */
        {150, 300, 8300, false, true, false, 1, 0}, /* all three */
    };
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        for (int t = 0; t < table_count; t++) {
            check_product(&tables[t], &large[i], DTYPE_BF16, DTYPE_BF16, DTYPE_F32);
            check_product(&tables[t], &large[i], DTYPE_F16, DTYPE_F16, DTYPE_F16);
            check_product(&tables[t], &large[i], DTYPE_F32, DTYPE_F16, DTYPE_F32);
            check_product(&tables[t], &large[i], DTYPE_F16, DTYPE_F32, DTYPE_BF16);
        }
}

static void column_sums_add_every_row_once(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {3, 70}, {1000, 131}, {17, 64}};
    for (int t = 0; t < table_count; t++)
        for (int s = 0; s < 4; s++)
            for (DType type = DTYPE_F32; type <= DTYPE_F16; type++) {
                Tensor *g = matrix(type, sizes[s][0], sizes[s][1], 5),
                       *out = matrix(DTYPE_F32, 1, sizes[s][1], 6);
                Tensor *before = matrix(DTYPE_F32, 1, sizes[s][1], 6);
                for (int accumulate = 1; accumulate >= 0; accumulate--) {
                    assert_int_equal(tables[t].column_sum(g, out, accumulate), STATUS_OK);
                    for (int64_t j = 0; j < sizes[s][1]; j++) {
                        double want = accumulate ? tensor_at(before, j) : 0;
                        for (int64_t i = 0; i < sizes[s][0]; i++)
                            want += at(g, false, i, j);
                        assert_true(fabs(tensor_at(out, j) - want) < 1e-3);
                    }
                }
                tensor_free(g), tensor_free(out), tensor_free(before);
            }
}

/* A convolution of x (1,size,size,C) with a weight (K,C,3,3); returns y, the caller's. */
static Tensor *convolve(const Device *d, Layer *l, int64_t size)
{
    const int64_t xs[] = {1, size, size, l->weight->shape[1]}, ys[] = {1, size, size, l->weight->shape[0]};
    Tensor *x = tensor_new(DTYPE_F32, 4, xs), *y = tensor_new(DTYPE_F32, 4, ys);
    for (int64_t i = 0; i < tensor_count(x); i++)
        tensor_set_at(x, i, (double)(i % 13 - 6) / 8);
    const Conv a = {.s = CONV_SAME, .x = x, .w = l->weight, .y = y, .layer = l};
    size_t bytes;
    assert_int_equal(d->conv2d_scratch(&a, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    assert_int_equal(d->conv2d(&a, scratch), STATUS_OK);
    mem_free(scratch);
    tensor_free(x);
    return y;
}

/* One layer goes through all instruction sets, which want different orders: what the first packed must not be
 * taken for another's. */
static void a_packed_weight_serves_every_size_and_can_be_dropped(void **state)
{
    (void)state;
    const int64_t ws[] = {40, 32, 3, 3};
    static const int64_t sizes[] = {4, 16, 5};
    Tensor *w = tensor_new(DTYPE_F32, 4, ws);
    for (int64_t i = 0; i < tensor_count(w); i++)
        tensor_set_at(w, i, (double)(i % 11 - 5) / 8);
    Layer l = {.name = "frozen", .weight = w};
    for (int t = 0; t < table_count; t++)
        for (int i = 0; i < 3; i++) {
            Tensor *with = convolve(&tables[t], &l, sizes[i]);
            assert_non_null(l.packed);
            assert_true(tables[t].packed_bytes(&l) >= (size_t)tensor_count(w) * 2);
            Layer fresh = {.name = "fresh", .weight = w};
            Tensor *without = convolve(&tables[t], &fresh, sizes[i]);
            assert_memory_equal(with->data, without->data, tensor_bytes(with));
            tables[t].unpack(&fresh);
            tensor_free(with), tensor_free(without);
        }
    tables[0].unpack(&l);
    assert_null(l.packed);
    assert_int_equal(tables[0].packed_bytes(&l), 0);
    tensor_free(w);
}

/* Whether oneDNN's order of the weight, which the layer has noted, has room in the gradient: for some
 * processors it rounds channels up, for others not. */
static bool order_fits(const Device *d, const Layer *l)
{
    const size_t bytes = d->packed_bytes(l);
    return bytes > 0 && bytes <= tensor_bytes(l->weight->grad);
}

/* A trained weight that is held still is packed once, into its gradient; where that has no room, at each
 * call. Not from 32 channels: Winograd's way packs nothing. */
static void a_still_weight_is_packed_into_its_gradient(void **state)
{
    (void)state;
    const int64_t shapes[][4] = {{64, 16, 3, 3}, {3, 16, 3, 3}}; /* 3 channels may be rounded up */
    for (int t = 0; t < table_count; t++)
        for (int k = 0; k < 2; k++) {
            Tensor *w = tensor_new(DTYPE_F32, 4, shapes[k]);
            for (int64_t i = 0; i < tensor_count(w); i++)
                tensor_set_at(w, i, (double)(i % 11 - 5) / 8);
            w->requires_grad = true;
            w->grad = tensor_new(DTYPE_F32, 4, shapes[k]);
            Layer still = {.name = "still", .weight = w, .still = true},
                  fresh = {.name = "fresh", .weight = w};
            for (int change = 0; change < 2; change++) {
                tensor_set_at(w, 7, 3 - change);
                for (int again = 0; again < 2; again++) {
                    Tensor *with = convolve(&tables[t], &still, 8),
                           *without = convolve(&tables[t], &fresh, 8);
                    assert_memory_equal(with->data, without->data, tensor_bytes(with));
                    assert_true((*(float *)w->grad->data != 0) == order_fits(&tables[t], &fresh));
                    assert_true(k > 0 || order_fits(&tables[t], &fresh));
                    assert_int_equal(tables[t].packed_bytes(&still), 0); /* none of its own */
                    tables[t].unpack(&fresh);
                    tensor_free(with), tensor_free(without);
                }
                tables[t].unpack(&still); /* gives nothing back: the gradient has an owner */
                assert_null(still.packed);
            }
            tensor_free(w); /* and its gradient */
        }
}

/* grad x (1,size,size,C) of a convolution whose grad y is made up; the caller's. */
static Tensor *convolve_back(const Device *d, Layer *l, const Tensor *w, int64_t size)
{
    const int64_t xs[] = {1, size, size, w->shape[1]}, ys[] = {1, size, size, w->shape[0]};
    Tensor *x = tensor_new(DTYPE_F32, 4, xs), *y = tensor_new(DTYPE_F32, 4, ys);
    for (int64_t i = 0; i < tensor_count(y); i++)
        tensor_set_at(y, i, (double)(i % 13 - 6) / 8);
    const Conv a = {.s = CONV_SAME, .x = x, .w = w, .y = y, .layer = l};
    size_t bytes;
    assert_int_equal(d->conv2d_backward_data_scratch(&a, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    assert_int_equal(d->conv2d_backward_data(&a, scratch), STATUS_OK);
    mem_free(scratch);
    tensor_free(y);
    return x;
}

/* A frozen weight is packed for the backward once as well: a change that nobody may make is not seen before
 * unpack(). Its memory is known before it is taken. */
static void a_frozen_weight_stays_packed_for_the_backward_too(void **state)
{
    (void)state;
    const int64_t ws[] = {40, 32, 3, 3};
    for (int t = 0; t < table_count; t++) {
        Tensor *w = tensor_new(DTYPE_F32, 4, ws);
        for (int64_t i = 0; i < tensor_count(w); i++)
            tensor_set_at(w, i, (double)(i % 11 - 5) / 8);
        Layer l = {.name = "frozen", .weight = w};
        tensor_free(convolve(&tables[t], &l, 8));
        const size_t forward = tables[t].packed_bytes(&l);
        Tensor *first = convolve_back(&tables[t], &l, w, 8), *fresh = convolve_back(&tables[t], NULL, w, 8);
        assert_true(tables[t].packed_bytes(&l) >= forward + (size_t)tensor_count(w) * 2);
        tensor_set_at(w, 0, 7);
        Tensor *kept = convolve_back(&tables[t], &l, w, 8), *changed = convolve_back(&tables[t], NULL, w, 8);
        assert_memory_equal(first->data, fresh->data, tensor_bytes(first));
        assert_memory_equal(first->data, kept->data, tensor_bytes(first));
        assert_memory_not_equal(first->data, changed->data, tensor_bytes(first));
        tables[t].unpack(&l);
        Layer short_of_memory = {.name = "frozen", .weight = w, .pack_forward_only = true};
        tensor_free(convolve(&tables[t], &short_of_memory, 8));
        Tensor *anew = convolve_back(&tables[t], &short_of_memory, w, 8);
        assert_int_equal(tables[t].packed_bytes(&short_of_memory), forward);
        assert_memory_equal(anew->data, changed->data, tensor_bytes(anew));
        tables[t].unpack(&short_of_memory);
        tensor_free(anew);
        tensor_free(first), tensor_free(fresh), tensor_free(kept), tensor_free(changed);
        tensor_free(w);
    }
}

/* What is stored in fewer bits than it is multiplied in may go another way, and comes to the same. */
static void a_weight_of_16_bits_convolves_as_in_f32(void **state)
{
    (void)state;
    const int64_t ws[] = {40, 32, 3, 3};
    for (int t = 0; t < table_count; t++)
        for (DType type = DTYPE_BF16; type <= DTYPE_F16; type++) {
            Tensor *narrow = tensor_new(type, 4, ws), *wide = tensor_new(DTYPE_F32, 4, ws);
            for (int64_t i = 0; i < tensor_count(wide); i++) {
                tensor_set_at(narrow, i, (double)(i % 11 - 5) / 8);
                tensor_set_at(wide, i, (double)(i % 11 - 5) / 8);
            }
            Layer a = {.name = "narrow", .weight = narrow}, b = {.name = "wide", .weight = wide};
            Tensor *y[] = {convolve(&tables[t], &a, 8), convolve(&tables[t], &b, 8),
                           convolve_back(&tables[t], &a, narrow, 8), convolve_back(&tables[t], &b, wide, 8)};
            for (int k = 0; k < 4; k += 2)
                for (int64_t i = 0; i < tensor_count(y[k]); i++)
                    assert_true(fabs(tensor_at(y[k], i) - tensor_at(y[k + 1], i)) <= 1e-2);
            tables[t].unpack(&a);
            tables[t].unpack(&b);
            for (int k = 0; k < 4; k++)
                tensor_free(y[k]);
            tensor_free(narrow), tensor_free(wide);
        }
}

static void add_product(const Device *d, Product p, Tensor *y)
{
    size_t bytes;
    p.y = y;
    assert_int_equal(d->product_scratch(&p, &bytes), STATUS_OK);
    void *scratch = mem_alloc(bytes);
    assert_int_equal(d->product(&p, scratch), STATUS_OK);
    mem_free(scratch);
}

/* x is y but for a few roundings in their type: what follows a product may be added before the first. */
static void assert_near(const Tensor *x, const Tensor *y)
{
    const double rounding = x->dtype == DTYPE_F32 ? 1e-6 : x->dtype == DTYPE_BF16 ? 1.0 / 256 : 1.0 / 2048;
    double largest = 0;
    for (int64_t i = 0; i < tensor_count(y); i++)
        largest = fmax(largest, fabs(tensor_at(y, i)));
    for (int64_t i = 0; i < tensor_count(y); i++)
        assert_true(fabs(tensor_at(x, i) - tensor_at(y, i)) <= 4 * rounding * largest);
}

/* What a product p comes to on d; the caller's. h: p's own is wanted too, is near this one, and y is made of
 * it. */
static Tensor *multiplied(const Device *d, Product p, DType type, const Tensor *h)
{
    Tensor *y = matrix(type, p.m, p.geglu ? p.n / 2 : p.n, 9);
    p.keep_h = h ? matrix(type, p.m, p.n, 9) : NULL;
    add_product(d, p, y);
    if (h) {
        Tensor *apart = matrix(type, p.m, p.n / 2, 9);
        assert_near(p.keep_h, h);
        assert_int_equal(d->geglu(p.keep_h, apart), STATUS_OK);
        assert_memory_equal(y->data, apart->data, tensor_bytes(y));
        tensor_free(apart);
    }
    tensor_free(p.keep_h);
    return y;
}

/* Cut into several panels of rows in every storage type, and into one that is not full; with a trained weight
 * or a frozen one. */
static void what_follows_a_product_is_what_would_be_done_after_it(void **state)
{
    (void)state;
    const int64_t m = 600, n = 1040, k = 19, r = 3;
    for (int t = 0; t < table_count; t++)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type++)
            for (int trained = 0; trained < 2; trained++) {
                const DType weight = trained ? DTYPE_F32 : type;
                Tensor *a = matrix(type, m, k, 1), *b = matrix(weight, n, k, 2),
                       *bias = matrix(DTYPE_F32, 1, n, 4), *down = matrix(type, m, r, 5),
                       *up = matrix(weight, n, r, 6), *apart = matrix(type, m, n / 2, 9);
                Product p = {
                    .m = m, .n = n, .k = k, .trans_b = true, .alpha = 1, .a = a, .b = b, .bias = bias};
                const Product low = {
                    .m = m, .n = n, .k = r, .trans_b = true, .alpha = 0.75f, .beta = 1, .a = down, .b = up};
                Tensor *h = multiplied(&tables[t], p, type, NULL);
                add_product(&tables[t], low, h);
                assert_int_equal(tables[t].geglu(h, apart), STATUS_OK);
                p.t = down, p.up = up, p.scale = low.alpha;
                Tensor *sum = multiplied(&tables[t], p, type, NULL);
                assert_near(sum, h);
                p.geglu = true;
                Tensor *y = multiplied(&tables[t], p, type, NULL), *kept = multiplied(&tables[t], p, type, h);
                assert_near(y, apart);
                assert_memory_equal(kept->data, y->data, tensor_bytes(y));
                Tensor *all[] = {a, b, bias, down, up, apart, h, sum, y, kept};
                for (int i = 0; i < 10; i++)
                    tensor_free(all[i]);
            }
}

/* A residual is added before the one rounding to y's type. */
static void a_residual_is_added_before_rounding(void **state)
{
    (void)state;
    const int64_t m = 70, n = 131, k = 33;
    for (int t = 0; t < table_count; t++)
        for (DType type = DTYPE_F32; type <= DTYPE_F16; type++)
            for (DType other = DTYPE_F32; other <= DTYPE_F16; other++) {
                Tensor *a = matrix(type, m, k, 1), *b = matrix(type, n, k, 2),
                       *bias = matrix(DTYPE_F32, 1, n, 4), *residual = matrix(other, m, n, 5);
                Product p = {
                    .m = m, .n = n, .k = k, .trans_b = true, .alpha = 1, .a = a, .b = b, .bias = bias};
                p.residual = residual;
                Tensor *y = multiplied(&tables[t], p, type, NULL);
                const double unit = type == DTYPE_F32 ? 1e-6 : type == DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
                for (int64_t i = 0; i < m * n; i++) {
                    double want = tensor_at(bias, i % n) + tensor_at(residual, i), largest = fabs(want);
                    for (int64_t l = 0; l < k; l++) {
                        const double part = at(a, false, i / n, l) * at(b, true, l, i % n);
                        want += part;
                        largest += fabs(part);
                    }
                    assert_true(fabs(tensor_at(y, i) - want) <= 1.001 * unit * fabs(want) + 1e-6 * largest);
                }
                Tensor *all[] = {a, b, bias, residual, y};
                for (int i = 0; i < 5; i++)
                    tensor_free(all[i]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mix_of_types_and_transpositions_multiplies),
        cmocka_unit_test(products_larger_than_a_panel_multiply),
        cmocka_unit_test(what_follows_a_product_is_what_would_be_done_after_it),
        cmocka_unit_test(a_residual_is_added_before_rounding),
        cmocka_unit_test(column_sums_add_every_row_once),
        cmocka_unit_test(a_packed_weight_serves_every_size_and_can_be_dropped),
        cmocka_unit_test(a_still_weight_is_packed_into_its_gradient),
        cmocka_unit_test(a_frozen_weight_stays_packed_for_the_backward_too),
        cmocka_unit_test(a_weight_of_16_bits_convolves_as_in_f32),
    };
    return cmocka_run_group_tests_name("products", tests, find_tables, NULL);
}
