/* An update over whole blocks, on every instruction set: every element alike, tensors apart, the moving
 * average, the norm, and nothing at all where a gradient is not finite. That an optimizer's steps are
 * PyTorch's is tests/train/test_optimizers.c. */
#include "isa_devices.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 37

static Tensor *tensor_of(int64_t n)
{
    Tensor *t = tensor_new(DTYPE_F32, 1, &n);
    assert_non_null(t);
    return t;
}

typedef struct Blocks {
    Tensor *w, *g, *m, *v, *average;
} Blocks;

static Blocks blocks_new(int64_t n)
{
    return (Blocks){tensor_of(n), tensor_of(n), tensor_of(n), tensor_of(n), tensor_of(n)};
}

static void blocks_free(Blocks *b)
{
    tensor_free(b->w);
    tensor_free(b->g);
    tensor_free(b->m);
    tensor_free(b->v);
    tensor_free(b->average);
}

/* One segment over n elements. */
static Update update_of(const Segment *segments, int count)
{
    return (Update){.kind = UPDATE_ADAMW,
                    .beta1 = 0.9,
                    .beta2 = 0.99,
                    .eps = 1e-8,
                    .step = 1,
                    .segments = segments,
                    .count = count,
                    .rates = {1e-2, 1e-3},
                    .unscale = 1,
                    .decay = 0.75f};
}

static StepNumbers run(const Device *d, const Update *u, const Blocks *b)
{
    StepNumbers numbers = {0};
    assert_int_equal(d->update(u, b->w, b->g, b->m, b->v, b->average, &numbers), STATUS_OK);
    return numbers;
}

/* A tensor large enough for the parallel loops gives what its elements give alone. */
static void every_element_is_treated_alike(void **state)
{
    enum { LARGE = 50003 };
    Device table[ISA_DEVICES_MAX];
    const Segment whole = {0, LARGE, 0};
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(LARGE);
        const Update u = update_of(&whole, 1);
        for (int64_t i = 0; i < LARGE; i++)
            tensor_set_at(b.g, i, i % 2 ? 1.5 : -0.25);
        const StepNumbers numbers = run(&table[d], &u, &b);
        assert_float_equal(numbers.moved[0] / (LARGE * 1e-4), 1, 1e-4);
        for (int64_t i = 0; i < LARGE; i++) /* the first step is lr against the gradient's sign */
            assert_float_equal(tensor_at(b.w, i), (i % 2 ? -1e-2 : 1e-2), 1e-7);
        blocks_free(&b);
    }
}

/* Two tensors with a gap between them, each with the rate of its group; scaled gradients; the way from the
 * start by every third weight. */
static void segments_have_their_rates_and_the_gap_stays(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const Segment two[] = {{0, 5, 1}, {64, 4, 0}};
    const float from[] = {0, 0, 0, 0};
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(128);
        Update u = update_of(two, 2);
        u.unscale = 1.0 / 1024;
        u.from = from;
        u.stride = 3;
        for (int i = 0; i < 128; i++) {
            tensor_set_at(b.g, i, i < 5 || (i >= 64 && i < 68) ? 1024 : 0);
            tensor_set_at(b.average, i, 1);
        }
        const StepNumbers numbers = run(&table[d], &u, &b);
        assert_float_equal(numbers.norm, 3, 1e-12); /* nine ones */
        assert_int_equal(numbers.segment, -1);
        assert_float_equal(numbers.moved[1], 5 * 1e-6, 1e-11);
        assert_float_equal(numbers.moved[0], 4 * 1e-4, 1e-9);
        assert_float_equal(numbers.change, 5 * 1e-6 + 4 * 1e-4, 1e-9);
        for (int i = 0; i < 128; i++) {
            const double w = i < 5 ? -1e-3 : i >= 64 && i < 68 ? -1e-2 : 0;
            assert_float_equal(tensor_at(b.w, i), w, 1e-7);
            assert_float_equal(tensor_at(b.average, i), 0.75 + 0.25 * w, 1e-7);
            assert_float_equal(tensor_at(b.m, i), w != 0 ? 0.1 : 0, 1e-6); /* the gradient itself, unscaled */
        }
        u.clip = 1.5; /* half of the norm */
        run(&table[d], &u, &b);
        assert_float_equal(tensor_at(b.m, 0), 0.9 * 0.1 + 0.1 * 0.5, 1e-6);
        blocks_free(&b);
    }
}

/* One that is not finite stops the whole update, and every later one until that has been seen. */
static void nothing_moves_where_a_gradient_is_not_finite(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const Segment two[] = {{0, 64, 0}, {64, 64, 0}};
    const double bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--)
        for (int k = 0; k < 3; k++) {
            Blocks b = blocks_new(128);
            const Update u = update_of(two, 2);
            StepNumbers numbers = {0};
            for (int i = 0; i < 128; i++)
                tensor_set_at(b.g, i, 1);
            tensor_set_at(b.g, 70, bad[k]);
            for (int turn = 0; turn < 3; turn++) { /* bad; good, and still not cleared; cleared */
                assert_int_equal(table[d].update(&u, b.w, b.g, b.m, b.v, b.average, &numbers), STATUS_OK);
                assert_true(numbers.skipped == (turn < 2));
                assert_int_equal(numbers.segment, turn < 2 ? 1 : -1);
                for (int i = 0; i < 128; i++)
                    assert_true((tensor_at(b.w, i) != 0 && tensor_at(b.m, i) != 0) == (turn == 2));
                tensor_set_at(b.g, 70, 1);
                if (turn == 1)
                    numbers = (StepNumbers){0};
            }
            blocks_free(&b);
        }
}

/* What was too large for f32 names its tensor; the gradients were finite. */
static void a_weight_that_is_lost_is_named(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const Segment two[] = {{0, 64, 0}, {64, 64, 1}};
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(128);
        Update u = update_of(two, 2);
        tensor_set_at(b.w, 100, 3e38);
        u.rates[1] = 10;
        u.weight_decay = 10;
        const StepNumbers numbers = run(&table[d], &u, &b);
        assert_false(numbers.skipped);
        assert_int_equal(numbers.segment, 1);
        assert_false(isfinite(numbers.moved[1]));
        assert_true(numbers.moved[0] == 0);
        blocks_free(&b);
    }
}

static void average_moves_by_the_rest_of_the_decay(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const Segment whole = {0, N, 0};
    (void)state;
    for (int d = isa_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(N);
        Update u = update_of(&whole, 1);
        u.rates[0] = 0;
        for (int64_t i = 0; i < N; i++) {
            tensor_set_at(b.average, i, (double)i);
            tensor_set_at(b.w, i, -2.0);
        }
        run(&table[d], &u, &b);
        for (int64_t i = 0; i < N; i++)
            assert_true(tensor_at(b.average, i) == 0.75 * (double)i - 0.5);
        assert_int_equal(table[d].exchange(b.w, b.average), STATUS_OK);
        for (int64_t i = 0; i < N; i++) {
            assert_true(tensor_at(b.w, i) == 0.75 * (double)i - 0.5);
            assert_true(tensor_at(b.average, i) == -2);
        }
        blocks_free(&b);
    }
}

/* In double, and the same bits on every instruction set: what clips a gradient must not depend on either. */
static void the_norm_is_exact_and_the_same_everywhere(void **state)
{
    Device table[ISA_DEVICES_MAX];
    const int count = isa_devices(table);
    static const int64_t sizes[] = {1, 7, 8, 37, 8192, 8193, 700001};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        const Segment whole = {0, n, 0};
        const Update u = update_of(&whole, 1);
        Blocks b = blocks_new(n);
        long double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            ((float *)b.g->data)[i] = i == n / 2 ? 1e4f : 1e-3f * (float)(i % 1000 - 500);
            sum += (long double)((float *)b.g->data)[i] * (long double)((float *)b.g->data)[i];
        }
        const double first = run(&table[0], &u, &b).norm;
        assert_true(fabsl(first - sqrtl(sum)) <= 1e-13L * sqrtl(sum));
        for (int d = 1; d < count; d++)
            assert_true(run(&table[d], &u, &b).norm == first);
        blocks_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_is_treated_alike),
        cmocka_unit_test(segments_have_their_rates_and_the_gap_stays),
        cmocka_unit_test(nothing_moves_where_a_gradient_is_not_finite),
        cmocka_unit_test(a_weight_that_is_lost_is_named),
        cmocka_unit_test(average_moves_by_the_rest_of_the_decay),
        cmocka_unit_test(the_norm_is_exact_and_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
