/* An update over whole blocks, on every instruction set: every element alike, tensors apart, the moving
 * average, the norm, and nothing at all where a gradient is not finite. That an optimizer's steps are
 * PyTorch's is tests/train/test_optimizers.c. */
#include "isa_devices.h"

#include "kernels/state8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 37

/* On the host. m8, v8: instead of m and v, where the optimizer keeps them in 8 bits */
typedef struct Blocks {
    int64_t n, room;
    float *w, *g, *m, *v, *average;
    uint8_t *m8, *v8;
} Blocks;

#define BLOCKS 5
static void blocks_of(Blocks *b, float **of[BLOCKS])
{
    float **const all[] = {&b->w, &b->g, &b->m, &b->v, &b->average};
    memcpy(of, all, sizeof all);
}

static Blocks blocks_new(int64_t n)
{
    Blocks b = {.n = n};
    float **of[BLOCKS];
    blocks_of(&b, of);
    for (int i = 0; i < BLOCKS; i++)
        assert_non_null(*of[i] = calloc((size_t)n, sizeof(float)));
    return b;
}

static void blocks_free(Blocks *b)
{
    float **of[BLOCKS];
    blocks_of(b, of);
    for (int i = 0; i < BLOCKS; i++)
        free(*of[i]);
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

static Tensor *on_device(const Device *d, const float *x, int64_t n)
{
    Tensor *t = tensor_new_on(d, DTYPE_F32, 1, &n);
    assert_non_null(t);
    assert_int_equal(tensor_put(t, x, DTYPE_F32), STATUS_OK);
    return t;
}

static Tensor *codes_on_device(const Device *d, const uint8_t *x, int64_t n)
{
    Tensor *t = tensor_new_on(d, DTYPE_U8, 1, &n);
    assert_non_null(t);
    assert_int_equal(tensor_put(t, x, DTYPE_U8), STATUS_OK);
    return t;
}

/* An update in the device's memory; the blocks and the numbers are there before and back afterwards. */
static void run_with(const Device *d, const Update *on_host, Blocks *b, StepNumbers *numbers, int64_t samples)
{
    Update u = *on_host;
    const bool codes = u.kind == UPDATE_ADAMW8BIT;
    Tensor *t[BLOCKS], *m8 = codes ? codes_on_device(d, b->m8, b->room) : NULL,
                       *v8 = codes ? codes_on_device(d, b->v8, b->room) : NULL;
    Tensor *from = samples ? on_device(d, u.from, samples) : NULL;
    float **of[BLOCKS];
    size_t bytes;
    blocks_of(b, of);
    for (int i = 0; i < BLOCKS; i++)
        t[i] = on_device(d, *of[i], b->n);
    u.from = from ? from->data : NULL;
    StepNumbers *there = d->memory_new(sizeof *there);
    assert_int_equal(d->update_scratch(&u, &bytes), STATUS_OK);
    void *scratch = d->memory_new(bytes);
    assert_true(there && scratch);
    assert_int_equal(d->put(there, numbers, sizeof *there), STATUS_OK);
    if (d->update(&u, t[0], t[1], codes ? m8 : t[2], codes ? v8 : t[3], t[4], there, scratch) != STATUS_OK)
        fail_msg("%s: %s", d->name, status_message());
    assert_int_equal(d->get(numbers, there, sizeof *there), STATUS_OK);
    assert_int_equal(d->settle(), STATUS_OK);
    for (int i = 0; i < BLOCKS; i++) {
        assert_int_equal(tensor_get(t[i], *of[i], DTYPE_F32), STATUS_OK);
        tensor_free(t[i]);
    }
    if (codes) {
        assert_int_equal(tensor_get(m8, b->m8, DTYPE_U8), STATUS_OK);
        assert_int_equal(tensor_get(v8, b->v8, DTYPE_U8), STATUS_OK);
    }
    tensor_free(m8);
    tensor_free(v8);
    tensor_free(from);
    d->memory_free(there, sizeof *there);
    d->memory_free(scratch, bytes);
}

static StepNumbers run(const Device *d, const Update *u, Blocks *b)
{
    StepNumbers numbers = {0};
    run_with(d, u, b, &numbers, 0);
    return numbers;
}

/* A tensor large enough for the parallel loops gives what its elements give alone. */
static void every_element_is_treated_alike(void **state)
{
    enum { LARGE = 50003 };
    Device table[ALL_DEVICES_MAX];
    const Segment whole = {0, LARGE, 0};
    (void)state;
    for (int d = all_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(LARGE);
        const Update u = update_of(&whole, 1);
        for (int64_t i = 0; i < LARGE; i++)
            b.g[i] = i % 2 ? 1.5f : -0.25f;
        const StepNumbers numbers = run(&table[d], &u, &b);
        assert_float_equal(numbers.moved[0] / (LARGE * 1e-4), 1, 1e-4);
        for (int64_t i = 0; i < LARGE; i++) /* the first step is lr against the gradient's sign */
            assert_float_equal((double)b.w[i], (i % 2 ? -1e-2 : 1e-2), 1e-7);
        blocks_free(&b);
    }
}

/* Two tensors with a gap between them, each with the rate of its group; scaled gradients; the way from the
 * start by every third weight. */
static void segments_have_their_rates_and_the_gap_stays(void **state)
{
    Device table[ALL_DEVICES_MAX];
    const Segment two[] = {{0, 5, 1}, {64, 4, 0}};
    const float from[] = {0, 0, 0, 0};
    (void)state;
    for (int d = all_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(128);
        Update u = update_of(two, 2);
        u.unscale = 1.0 / 1024;
        StepNumbers numbers = {0};
        u.from = from;
        u.stride = 3;
        for (int i = 0; i < 128; i++) {
            b.g[i] = i < 5 || (i >= 64 && i < 68) ? 1024 : 0;
            b.average[i] = 1;
        }
        run_with(&table[d], &u, &b, &numbers, 4);
        assert_float_equal(numbers.norm, 3, 1e-12); /* nine ones */
        assert_int_equal(numbers.segment, -1);
        assert_float_equal(numbers.moved[1], 5 * 1e-6, 1e-11);
        assert_float_equal(numbers.moved[0], 4 * 1e-4, 1e-9);
        assert_float_equal(numbers.change, 5 * 1e-6 + 4 * 1e-4, 1e-9);
        for (int i = 0; i < 128; i++) {
            const double w = i < 5 ? -1e-3 : i >= 64 && i < 68 ? -1e-2 : 0;
            assert_float_equal((double)b.w[i], w, 1e-7);
            assert_float_equal((double)b.average[i], 0.75 + 0.25 * w, 1e-7);
            assert_float_equal((double)b.m[i], w != 0 ? 0.1 : 0, 1e-6); /* the gradient itself, unscaled */
        }
        u.clip = 1.5; /* half of the norm */
        u.from = NULL;
        run(&table[d], &u, &b);
        assert_float_equal((double)b.m[0], 0.9 * 0.1 + 0.1 * 0.5, 1e-6);
        blocks_free(&b);
    }
}

/* One that is not finite stops the whole update, and every later one until that has been seen. */
static void nothing_moves_where_a_gradient_is_not_finite(void **state)
{
    Device table[ALL_DEVICES_MAX];
    const Segment two[] = {{0, 64, 0}, {64, 64, 0}};
    const float bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    for (int d = all_devices(table) - 1; d >= 0; d--)
        for (int k = 0; k < 3; k++) {
            Blocks b = blocks_new(128);
            const Update u = update_of(two, 2);
            StepNumbers numbers = {0};
            for (int i = 0; i < 128; i++)
                b.g[i] = 1;
            b.g[70] = bad[k];
            for (int turn = 0; turn < 3; turn++) { /* bad; good, and still not cleared; cleared */
                run_with(&table[d], &u, &b, &numbers, 0);
                assert_true(numbers.skipped == (turn < 2));
                assert_int_equal(numbers.segment, turn < 2 ? 1 : -1);
                for (int i = 0; i < 128; i++)
                    assert_true((b.w[i] != 0 && b.m[i] != 0) == (turn == 2));
                b.g[70] = 1;
                if (turn == 1)
                    numbers = (StepNumbers){0};
            }
            blocks_free(&b);
        }
}

/* What was too large for f32 names its tensor; the gradients were finite. */
static void a_weight_that_is_lost_is_named(void **state)
{
    Device table[ALL_DEVICES_MAX];
    const Segment two[] = {{0, 64, 0}, {64, 64, 1}};
    (void)state;
    for (int d = all_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(128);
        Update u = update_of(two, 2);
        b.w[100] = 3e38f;
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
    Device table[ALL_DEVICES_MAX];
    const Segment whole = {0, N, 0};
    (void)state;
    for (int d = all_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(N);
        Update u = update_of(&whole, 1);
        u.rates[0] = 0;
        for (int64_t i = 0; i < N; i++) {
            b.average[i] = (float)i;
            b.w[i] = -2;
        }
        run(&table[d], &u, &b);
        for (int64_t i = 0; i < N; i++)
            assert_true(b.average[i] == 0.75f * (float)i - 0.5f);
        Tensor *w = on_device(&table[d], b.w, N), *average = on_device(&table[d], b.average, N);
        assert_int_equal(table[d].exchange(w, average), STATUS_OK);
        assert_int_equal(tensor_get(w, b.w, DTYPE_F32), STATUS_OK);
        assert_int_equal(tensor_get(average, b.average, DTYPE_F32), STATUS_OK);
        for (int64_t i = 0; i < N; i++) {
            assert_true(b.w[i] == 0.75f * (float)i - 0.5f);
            assert_true(b.average[i] == -2);
        }
        tensor_free(w);
        tensor_free(average);
        blocks_free(&b);
    }
}

/* In double, and the same bits on every instruction set: what clips a gradient must not depend on either. A
 * GPU adds in another order. */
static void the_norm_is_exact_and_the_same_everywhere(void **state)
{
    Device table[ALL_DEVICES_MAX];
    const int count = all_devices(table);
    static const int64_t sizes[] = {1, 7, 8, 37, 8192, 8193, 700001};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        const Segment whole = {0, n, 0};
        const Update u = update_of(&whole, 1);
        Blocks b = blocks_new(n);
        long double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            b.g[i] = i == n / 2 ? 1e4f : 1e-3f * (float)(i % 1000 - 500);
            sum += (long double)b.g[i] * (long double)b.g[i];
        }
        const double first = run(&table[0], &u, &b).norm;
        assert_true(fabsl(first - sqrtl(sum)) <= 1e-13L * sqrtl(sum));
        for (int d = 1; d < count; d++)
            assert_true(run(&table[d], &u, &b).norm == first);
        blocks_free(&b);
    }
}

/* States in 8 bits --------------------------------------------------------------------------------------- */

/* A state's part of one tensor: number i. */
static double decoded(const uint8_t *part, int64_t count, const float *map, int64_t i)
{
    if (count < STATE8_SMALL)
        return (double)((const float *)(const void *)part)[i];
    const float *most = (const float *)(const void *)(part + state8_aligned(count));
    return (double)map[part[i]] * (double)most[i / STATE8_BLOCK];
}

/* Number i of a state is as near to x as a code can be, in a block whose largest magnitude is `most`. */
static void check_nearest(const uint8_t *part, int64_t count, const float *map, int64_t i, double x,
                          double most)
{
    double nearest = INFINITY;
    for (int k = 0; k < STATE8_CODES; k++)
        nearest = fmin(nearest, fabs((double)map[k] * most - x));
    if (count < STATE8_SMALL)
        nearest = 0;
    assert_true(fabs(decoded(part, count, map, i) - x) <= nearest + 1e-6 * most);
}

/* A step of one tensor in double, from what the states were. */
static void check_step8(const Update *u, const Segment *at, int64_t room, const Blocks *before,
                        const Blocks *after)
{
    float m_map[STATE8_CODES], v_map[STATE8_CODES];
    const int64_t n = at->count;
    const double lr = u->rates[at->group];
    double *m = calloc((size_t)n, sizeof *m), *v = calloc((size_t)n, sizeof *v);
    assert_true(m && v);
    state8_map(true, m_map);
    state8_map(false, v_map);
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)before->g[at->first + i], w = (double)before->w[at->first + i];
        m[i] = u->beta1 * decoded(before->m8 + room, n, m_map, i) + (1 - u->beta1) * g;
        v[i] = u->beta2 * decoded(before->v8 + room, n, v_map, i) + (1 - u->beta2) * g * g;
        const double m_hat = m[i] / (1 - pow(u->beta1, (double)u->step));
        const double v_hat = v[i] / (1 - pow(u->beta2, (double)u->step));
        assert_float_equal((double)after->w[at->first + i],
                           w * (1 - lr * u->weight_decay) - lr * m_hat / (sqrt(v_hat) + u->eps), 1e-6);
    }
    for (int64_t i = 0; i < n; i++) {
        double m_most = 0, v_most = 0;
        const int64_t block = i / STATE8_BLOCK * STATE8_BLOCK;
        for (int64_t k = block; k < n && k < block + STATE8_BLOCK; k++) {
            m_most = fmax(m_most, fabs(m[k]));
            v_most = fmax(v_most, v[k]);
        }
        check_nearest(after->m8 + room, n, m_map, i, m[i], m_most);
        check_nearest(after->v8 + room, n, v_map, i, v[i], v_most);
    }
    free(m);
    free(v);
}

/* Tensors of whole blocks and not, and one that is too small for codes; each step against the formula, from
 * the states that the device left. */
static void states_in_8_bits_are_the_nearest_codes(void **state)
{
    (void)state;
    Device table[ALL_DEVICES_MAX];
    enum { N0 = 4500, N1 = 100, N2 = 8192 + 512, ALL = 4544 + 128 + N2 };
    const Segment three[] = {{0, N0, 0}, {4544, N1, 1}, {4544 + 128, N2, 0}};
    for (int d = all_devices(table) - 1; d >= 0; d--) {
        Blocks b = blocks_new(ALL);
        Update u = update_of(three, 3);
        u.kind = UPDATE_ADAMW8BIT;
        u.weight_decay = 0.1;
        for (int i = 0; i < 3; i++)
            b.room += state8_room(three[i].count);
        assert_non_null(b.m8 = calloc(1, (size_t)b.room));
        assert_non_null(b.v8 = calloc(1, (size_t)b.room));
        for (u.step = 1; u.step <= 3; u.step++) {
            for (int64_t i = 0; i < ALL; i++)
                b.g[i] = (float)((i * 7919 + u.step * 131) % 2003 - 1001) * (i % 5 ? 1e-3f : 1e-7f);
            for (int64_t i = N0; i < 4544; i++)
                b.g[i] = 0; /* between tensors */
            Blocks before = b;
            assert_non_null(before.w = malloc(sizeof *b.w * ALL));
            assert_non_null(before.m8 = malloc((size_t)b.room));
            assert_non_null(before.v8 = malloc((size_t)b.room));
            memcpy(before.w, b.w, sizeof *b.w * ALL);
            memcpy(before.m8, b.m8, (size_t)b.room);
            memcpy(before.v8, b.v8, (size_t)b.room);
            run(&table[d], &u, &b);
            int64_t room = 0;
            for (int i = 0; i < 3; i++) {
                check_step8(&u, &three[i], room, &before, &b);
                room += state8_room(three[i].count);
            }
            free(before.w);
            free(before.m8);
            free(before.v8);
        }
        free(b.m8);
        free(b.v8);
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
        cmocka_unit_test(states_in_8_bits_are_the_nearest_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
