/* AdamW against PyTorch's steps (tests/golden/ops.safetensors), the moving average, and the norm of
 * gradients, on every instruction set. */
#include "infer/files/safetensors.h"
#include "isa_devices.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 37

static Tensor *golden_tensor(const TensorFile *f, const char *name)
{
    const TensorEntry *e = tensorfile_find(f, name);
    assert_non_null(e);
    assert_int_equal(e->bytes, N * sizeof(float));
    Tensor *t = tensor_new(DTYPE_F32, 1, (const int64_t[]){N});
    assert_non_null(t);
    memcpy(t->data, e->data, e->bytes);
    return t;
}

static Tensor *tensor_of(int64_t n)
{
    Tensor *t = tensor_new(DTYPE_F32, 1, &n);
    assert_non_null(t);
    return t;
}

/* Each value within 1e-6 of itself and 1e-7 of the largest: a few roundings. */
static void check_close(const Tensor *got, const TensorFile *f, const char *name, const char *isa)
{
    Tensor *want = golden_tensor(f, name);
    double largest = 0;
    for (int64_t i = 0; i < N; i++)
        largest = fmax(largest, fabs(tensor_at(want, i)));
    for (int64_t i = 0; i < N; i++) {
        const double x = tensor_at(got, i), y = tensor_at(want, i);
        if (!(fabs(x - y) <= 1e-6 * fabs(y) + 1e-7 * largest))
            fail_msg("%s: %s[%lld] is %.9g, PyTorch has %.9g", isa, name, (long long)i, x, y);
    }
    tensor_free(want);
}

static void adamw_takes_pytorchs_steps(void **state)
{
    Device table[ISA_DEVICES_MAX];
    TensorFile *f;
    (void)state;
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/ops.safetensors", &f), STATUS_OK);
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *w = golden_tensor(f, "adamw.before"), *m = tensor_of(N), *v = tensor_of(N);
        AdamW o = {.lr = 3e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1};
        for (o.step = 1; o.step <= 5; o.step++) {
            char name[32];
            snprintf(name, sizeof name, "adamw.grad%d", (int)o.step);
            Tensor *grad = golden_tensor(f, name);
            assert_int_equal(table[d].adamw(&o, w, grad, 0.5f, m, v, &(double){0}), STATUS_OK);
            snprintf(name, sizeof name, "adamw.after%d", (int)o.step);
            check_close(w, f, name, table[d].name);
            tensor_free(grad);
        }
        check_close(m, f, "adamw.m", table[d].name);
        check_close(v, f, "adamw.v", table[d].name);
        tensor_free(w);
        tensor_free(m);
        tensor_free(v);
    }
    tensorfile_close(f);
}

/* A tensor large enough for the parallel loops gives what its elements give alone. */
static void adamw_treats_every_element_alike(void **state)
{
    enum { LARGE = 50003 };
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *w = tensor_of(LARGE), *g = tensor_of(LARGE), *m = tensor_of(LARGE), *v = tensor_of(LARGE);
        const AdamW o = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .step = 1};
        for (int64_t i = 0; i < LARGE; i++)
            tensor_set_at(g, i, i % 2 ? 1.5 : -0.25);
        double moved;
        assert_int_equal(table[d].adamw(&o, w, g, 1, m, v, &moved), STATUS_OK);
        assert_float_equal(moved / (LARGE * 1e-4), 1, 1e-4);
        for (int64_t i = 0; i < LARGE; i++) /* the first step is lr against the gradient's sign */
            assert_float_equal(tensor_at(w, i), (i % 2 ? -1e-2 : 1e-2), 1e-7);
        tensor_free(w);
        tensor_free(g);
        tensor_free(m);
        tensor_free(v);
    }
}

static void average_moves_by_the_rest_of_the_decay(void **state)
{
    Device table[ISA_DEVICES_MAX];
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Tensor *average = tensor_of(N), *w = tensor_of(N);
        for (int64_t i = 0; i < N; i++) {
            tensor_set_at(average, i, (double)i);
            tensor_set_at(w, i, -2.0);
        }
        assert_int_equal(table[d].ema(average, w, 0.75f), STATUS_OK);
        for (int64_t i = 0; i < N; i++)
            assert_true(tensor_at(average, i) == 0.75 * (double)i - 0.5);
        tensor_free(average);
        tensor_free(w);
    }
}

/* In double, and the same bits on every instruction set: what clips a gradient must not depend on either. */
static void sum_of_squares_is_exact_and_the_same_everywhere(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const int count = isa_devices(table);
    static const int64_t sizes[] = {1, 7, 8, 37, 8192, 8193, 700001};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        Tensor *t = tensor_of(n);
        long double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            ((float *)t->data)[i] = i == n / 2 ? 1e4f : 1e-3f * (float)(i % 1000 - 500);
            sum += (long double)((float *)t->data)[i] * (long double)((float *)t->data)[i];
        }
        const double first = table[0].sum_of_squares(t);
        assert_true(fabsl(first - sum) <= 1e-13L * sum);
        for (int d = 1; d < count; d++)
            assert_true(table[d].sum_of_squares(t) == first);
        tensor_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw_takes_pytorchs_steps),
        cmocka_unit_test(adamw_treats_every_element_alike),
        cmocka_unit_test(average_moves_by_the_rest_of_the_decay),
        cmocka_unit_test(sum_of_squares_is_exact_and_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
