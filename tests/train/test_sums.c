/* The order in which micro-batches' gradients are added. Breaks if it is not the binary tree over their
 * numbers, so that another share-out between processes would give other bytes, or if the plan does not know
 * what memory that takes. */
#include "kernels/base/mem.h"
#include "kernels/base/random.h"
#include "train/step/sums.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#define NUMBERS (3 * FLAT_STEP)
#define MOST 33

/* Gradient k of micro-batch i: of very different size, so that another order gives other bits. */
static float gradient(int i, int k)
{
    const RandomKey key = {.seed = 7, .step = (uint32_t)i};
    return (float)((random_uniform(key, (uint32_t)k) - 0.5) * (double)(1 << (7 * i % 19)));
}

/* The formula: node (level, index) is the sum of its two halves, as far as there are any. */
static float node(int level, int index, int total, int k)
{
    if (level == 0)
        return gradient(index, k);
    const float left = node(level - 1, 2 * index, total, k);
    return (2 * index + 1) << (level - 1) < total ? left + node(level - 1, 2 * index + 1, total, k) : left;
}

static float root(int total, int k)
{
    int level = 0;
    while (1 << level < total)
        level++;
    return node(level, 0, total, k);
}

static Parameters parameters_of(void)
{
    Parameters p = {.dev = device_cpu()};
    assert_int_equal(flat_new(&p.flat, device_cpu(), NULL, NUMBERS, false), STATUS_OK);
    return p;
}

/* As a backward pass: adds to what is there. */
static void add_gradients(Parameters *p, int i)
{
    float *g = p->flat.gradients->data;
    for (int k = 0; k < NUMBERS; k++)
        g[k] += gradient(i, k);
}

static void sum_all(Parameters *p, int total, bool exact)
{
    Sums *s;
    int first, count;
    const size_t before = mem_in_use();
    assert_int_equal(sums_new(comm_alone(), p, total, exact, NULL, NULL, &s), STATUS_OK);
    const size_t taken = mem_in_use() - before, told = sums_bytes(comm_alone(), NUMBERS, total, exact);
    assert_in_range(taken, told, told + 4096); /* the lists, beside the blocks */
    sums_share(s, &first, &count);
    assert_true(first == 0 && count == total);
    for (int i = 0; i < total; i++) {
        assert_int_equal(sums_before(s, i), STATUS_OK);
        add_gradients(p, i);
        assert_int_equal(sums_after(s, i), STATUS_OK);
    }
    assert_int_equal(sums_finish(s), STATUS_OK);
    sums_free(s);
}

static void exact_sums_follow_the_tree(void **state)
{
    (void)state;
    int other = 0;
    for (int total = 1; total <= MOST; total++) {
        Parameters p = parameters_of();
        const float *g = p.flat.gradients->data;
        for (int step = 0; step < 2; step++) { /* nothing of the step before is left */
            sum_all(&p, total, true);
            for (int k = 0; k < NUMBERS; k++)
                if (g[k] != root(total, k))
                    fail_msg("%d micro-batches, number %d: %a, not %a", total, k, (double)g[k],
                             (double)root(total, k));
        }
        sum_all(&p, total, false);
        for (int k = 0; k < NUMBERS; k++)
            other += g[k] != root(total, k);
        flat_free(&p.flat);
    }
    assert_true(other > 100); /* or the tree would not matter, and this test see nothing */
}

/* Every share-out gives nodes of the same tree: blocks in memory grow with its height alone. */
static void memory_grows_with_the_height(void **state)
{
    (void)state;
    const size_t block = NUMBERS * sizeof(float);
    assert_int_equal(sums_bytes(comm_alone(), NUMBERS, 1, true), 0);
    assert_int_equal(sums_bytes(comm_alone(), NUMBERS, 2, true), block);
    assert_int_equal(sums_bytes(comm_alone(), NUMBERS, 4096, true), 12 * block);
    assert_int_equal(sums_bytes(comm_alone(), NUMBERS, 4096, false), 0);
    const Comm four = comm_planned(4);
    assert_in_range(sums_bytes(&four, NUMBERS, 4096, true), 10 * block, 12 * block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_sums_follow_the_tree),
        cmocka_unit_test(memory_grows_with_the_height),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
