/* Which samples a step has: of one size, every picture equally often, the same from wherever one starts. */
#include "pictures.h"

#include "data/loader/order.h"
#include "kernels/base/random.h"

#include <math.h>

#define SEED 42

/* count positions whose sizes come in these numbers, mixed. */
static void mix(const int *counts, int groups, Size *sizes)
{
    int left[16], n = 0, total = 0;
    for (int g = 0; g < groups; g++)
        total += left[g] = counts[g];
    for (int g = 0; n < total; g = (g + 1) % groups)
        if (left[g] > 0) {
            left[g]--;
            sizes[n++] = (Size){64 + 8 * g, 64};
        }
}

static Order *order_of(const Size *sizes, int count, int batch)
{
    Order *o;
    assert_ok(order_new(&(OrderOptions){.sizes = sizes, .count = count, .batch = batch, .seed = SEED}, &o));
    return o;
}

/* After every epoch each has come as often as there were epochs, give or take one. */
static void check_counts(const int *counts, int groups, int batch, int epochs)
{
    Size sizes[512];
    int total = 0, seen[512] = {0};
    for (int g = 0; g < groups; g++)
        total += counts[g];
    mix(counts, groups, sizes);
    Order *o = order_of(sizes, total, batch);
    assert_int_equal(order_groups(o), groups);
    int64_t shown = 0;
    for (int64_t step = 1, epoch = 1; epoch <= epochs; step++) {
        const OrderTurn turn = order_turn(o, step);
        for (int i = 0; i < batch; i++, shown++) {
            const int64_t p = order_position(o, &turn, i);
            assert_true(p >= 0 && p < total);
            assert_true(size_equal(sizes[p], turn.size));
            seen[p]++;
        }
        for (; shown >= epoch * total && epoch <= epochs; epoch++)
            for (int p = 0; p < total; p++)
                if (abs(seen[p] - (int)epoch) > 1)
                    fail_msg("position %d came %d times in %d epochs of %d, batch %d", p, seen[p], (int)epoch,
                             total, batch);
    }
    order_free(o);
}

static void every_picture_comes_equally_often(void **state)
{
    (void)state;
    check_counts((int[]){7}, 1, 4, 50);
    check_counts((int[]){10, 10}, 2, 3, 50);
    check_counts((int[]){31, 4, 9, 17, 5}, 5, 4, 60);
    check_counts((int[]){200, 8, 8, 8, 8, 8, 8, 8, 60}, 9, 8, 60);
    check_counts((int[]){1, 1, 1, 1, 97}, 5, 1, 60);
    check_counts((int[]){8, 9, 10, 11}, 4, 8, 60);
}

/* A size with fewer pictures than a step is filled with them again, and in the long run has no more than its
 * share. */
static void small_sizes_get_their_share(void **state)
{
    (void)state;
    enum { STEPS = 4000, BATCH = 8, RARE = 2, REST = 50 };
    Size sizes[RARE + REST];
    int rare = 0;
    mix((int[]){RARE, REST}, 2, sizes);
    Order *o = order_of(sizes, RARE + REST, BATCH);
    for (int step = 1; step <= STEPS; step++)
        rare += order_turn(o, step).group == 0;
    assert_true(fabs(rare - (double)STEPS * RARE / (RARE + REST)) <= 1);
    order_free(o);
}

static void a_step_is_the_same_from_wherever_one_starts(void **state)
{
    (void)state;
    static const int counts[] = {31, 4, 9, 17, 5};
    Size sizes[66];
    mix(counts, 5, sizes);
    Order *all = order_of(sizes, 66, 4);
    for (int64_t step = 1; step <= 90; step++) {
        Order *from = order_of(sizes, 66, 4);
        const OrderTurn a = order_turn(all, step), b = order_turn(from, step);
        assert_true(a.group == b.group && a.first == b.first);
        for (int i = 0; i < 4; i++)
            assert_int_equal(order_position(all, &a, i), order_position(from, &b, i));
        order_free(from);
    }
    const OrderTurn back = order_turn(all, 3);
    Order *from = order_of(sizes, 66, 4);
    assert_true(back.first == order_turn(from, 3).first);
    order_free(from);
    order_free(all);
}

/* Turns are shuffled: sizes neither alternate nor come in blocks, and no two epochs are alike. */
static void turns_are_shuffled(void **state)
{
    (void)state;
    enum { STEPS = 100 };
    Size sizes[2 * STEPS];
    int changes = 0, equal = 0, groups[2 * STEPS];
    mix((int[]){STEPS, STEPS}, 2, sizes);
    Order *o = order_of(sizes, 2 * STEPS, 2);
    for (int step = 1; step <= 2 * STEPS; step++)
        groups[step - 1] = order_turn(o, step).group;
    for (int i = 1; i < STEPS; i++) {
        changes += groups[i] != groups[i - 1];
        equal += groups[i] == groups[i + STEPS];
    }
    assert_in_range(changes, 30, 70);
    assert_in_range(equal, 30, 70);
    order_free(o);
}

/* With one size it is what runs have always done: a permutation of everything for each epoch. */
static void one_size_is_a_permutation_each_epoch(void **state)
{
    (void)state;
    enum { N = 23, BATCH = 4 };
    Size sizes[N];
    uint32_t places[N];
    for (int i = 0; i < N; i++)
        sizes[i] = size_square(64);
    Order *o = order_of(sizes, N, BATCH);
    for (int64_t g = 0; g < 5 * N; g++) {
        random_permutation((RandomKey){.seed = SEED, .step = (uint32_t)(g / N + 1), .purpose = RANDOM_ORDER},
                           places, N);
        const OrderTurn turn = order_turn(o, g / BATCH + 1);
        assert_int_equal(order_position(o, &turn, g % BATCH), places[g % N]);
    }
    order_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_picture_comes_equally_often),
        cmocka_unit_test(small_sizes_get_their_share),
        cmocka_unit_test(a_step_is_the_same_from_wherever_one_starts),
        cmocka_unit_test(turns_are_shuffled),
        cmocka_unit_test(one_size_is_a_permutation_each_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
