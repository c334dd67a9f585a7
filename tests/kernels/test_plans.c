/* Plans that are kept: one for each key, not rehearsed again, and no more of them than there is room for.
 * Breaks if a step gets another's plan, or if a run over many sizes takes more and more memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "kernels/plans.h"

typedef struct Work {
    int64_t size;
    int runs;
} Work;

static void work(Ctx *c, void *arg)
{
    Work *w = arg;
    w->runs++;
    ctx_keep(c, add(c, ctx_zeros(c, DTYPE_F32, 1, &w->size), ctx_zeros(c, DTYPE_F32, 1, &w->size)));
}

static size_t peak_of(Plans *p, Ctx *c, Work *w)
{
    const Plan *plan;
    assert_int_equal(plans_get(p, c, &w->size, sizeof w->size, work, w, &plan), STATUS_OK);
    return plan_peak_bytes(plan);
}

static void a_key_is_rehearsed_once(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plans *p = plans_new(1 << 20);
    Work small = {.size = 64}, large = {.size = 6400};
    const size_t bytes = peak_of(p, c, &small);
    assert_true(peak_of(p, c, &large) > 50 * bytes);
    assert_int_equal(peak_of(p, c, &small), bytes);
    assert_int_equal(small.runs, 1);
    assert_int_equal(large.runs, 1);
    plans_free(p);
    ctx_free(c);
}

static void those_not_used_for_longest_go(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plans *p = plans_new(1);
    Work often = {.size = 1}, w[40] = {{0}};
    peak_of(p, c, &often);
    const size_t one = plans_bytes(p);
    plans_free(p);
    p = plans_new(4 * one + one / 2);
    const size_t before = mem_in_use();
    for (int i = 0; i < 40; i++) {
        w[i].size = 2 + i;
        peak_of(p, c, &w[i]);
        peak_of(p, c, &often);
        assert_true(plans_bytes(p) <= 4 * one + one / 2);
    }
    assert_int_equal(plans_bytes(p), 4 * one);
    assert_in_range(mem_in_use() - before, 4 * one, 5 * one - 1);
    assert_int_equal(often.runs, 2); /* in each of the two */
    peak_of(p, c, &w[39]);
    peak_of(p, c, &w[37]);
    assert_int_equal(w[39].runs, 1); /* still there */
    assert_int_equal(w[37].runs, 1);
    peak_of(p, c, &w[36]);
    assert_int_equal(w[36].runs, 2);
    plans_free(p);
    ctx_free(c);
}

/* The newest is there even where it takes more than all may. */
static void the_newest_is_kept(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plans *p = plans_new(1);
    Work w = {.size = 5}, other = {.size = 6};
    peak_of(p, c, &w);
    peak_of(p, c, &w);
    assert_int_equal(w.runs, 1);
    peak_of(p, c, &other);
    peak_of(p, c, &w);
    assert_int_equal(w.runs, 2);
    plans_free(p);
    ctx_free(c);
}

static void fail_step(Ctx *c, void *arg)
{
    (void)arg;
    reshape(c, ctx_zeros(c, DTYPE_F32, 1, (int64_t[]){4}), 1, (int64_t[]){5});
}

static void a_step_that_fails_leaves_nothing(void **state)
{
    (void)state;
    Ctx *c = ctx_new(device_cpu(), NULL);
    Plans *p = plans_new(1 << 20);
    const Plan *plan = NULL;
    const int key = 1;
    assert_int_not_equal(plans_get(p, c, &key, sizeof key, fail_step, NULL, &plan), STATUS_OK);
    assert_null(plan);
    assert_int_equal(plans_bytes(p), 0);
    plans_free(p);
    ctx_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_rehearsed_once),
        cmocka_unit_test(those_not_used_for_longest_go),
        cmocka_unit_test(the_newest_is_kept),
        cmocka_unit_test(a_step_that_fails_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
