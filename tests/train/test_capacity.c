/* What works in how much memory: ways that each take less than the one before, of which the first that fits
 * both memories is taken. Breaks if somebody is told settings that do not fit, or that nothing fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/far/far.h"
#include "train/plan/capacity.h"

static void assert_found(const char *model, const Device *dev, Capacity *c)
{
    if (capacity_of(model, dev, c) != STATUS_OK)
        fail_msg("%s", status_message());
    for (int work = 0; work < CAPACITY_WORKS; work++) {
        assert_true(c->count[work] >= 1);
        for (int i = 0; i < c->count[work]; i++) {
            const CapacityWay *w = &c->ways[work][i];
            assert_true(w->bytes > 0 && w->flop > 0);
            assert_true(i == 0 || w->bytes < w[-1].bytes || w->host < w[-1].host);
            assert_true(dev->host_memory ? w->host == 0 && w->moved == 0 : w->host > 0);
        }
    }
}

static void the_processor_has_one_memory(void **state)
{
    (void)state;
    Capacity c;
    assert_found("builtin:tiny", device_cpu(), &c);
    const CapacityWay *lora = c.ways[CAPACITY_LORA];
    assert_string_equal(lora[0].settings, "train.mode=speed");
    assert_ptr_equal(capacity_within(&c, CAPACITY_LORA, SIZE_MAX, 0), lora);
    assert_ptr_equal(capacity_within(&c, CAPACITY_LORA, lora[0].bytes, 0), lora);
    assert_ptr_equal(capacity_within(&c, CAPACITY_LORA, lora[0].bytes - 1, 0), lora + 1);
    assert_null(capacity_within(&c, CAPACITY_LORA, capacity_least(&c, CAPACITY_LORA)->bytes - 1, 0));
    /* the same network, with every activation computed twice */
    assert_true(lora[1].flop > 1.2 * lora[0].flop && lora[1].flop < 1.6 * lora[0].flop);
}

static void what_waits_is_the_machines_and_has_to_be_moved(void **state)
{
    (void)state;
    Capacity c;
    assert_found(TEST_GOLDEN "/models/sdxl", device_far(), &c);
    for (int work = 0; work < CAPACITY_WORKS; work++) {
        const CapacityWay *first = c.ways[work], *least = capacity_least(&c, (CapacityWork)work);
        assert_true(least->moved > first->moved);
        assert_true(least->moved > 0 && least->bytes < first->bytes);
        assert_null(capacity_within(&c, (CapacityWork)work, least->bytes, 1));
        assert_non_null(capacity_within(&c, (CapacityWork)work, first->bytes, SIZE_MAX));
    }
    /* the processor moves the weights; or, with fused updates, the device where they lie */
    const CapacityWay *fused = capacity_least(&c, CAPACITY_FULL), *full = fused - 1;
    assert_true(full->updated > 0 && c.ways[CAPACITY_LORA][0].updated == 0);
    assert_true(fused->updated == 0 && fused->host < full->host && fused->moved > full->moved);
}

static void moving_goes_on_beside_computing_and_updates_come_after(void **state)
{
    (void)state;
    const CapacityWay computing = {.flop = 3e12, .moved = 12e9}, moving = {.flop = 3e12, .moved = 60e9},
                      updating = {.flop = 3e12, .updated = 40e9};
    assert_float_equal(capacity_seconds(&computing, 1e12), 3, 1e-9);
    assert_float_equal(capacity_seconds(&moving, 1e12), 5, 1e-9);
    assert_float_equal(capacity_seconds(&updating, 1e12), 5, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_processor_has_one_memory),
        cmocka_unit_test(what_waits_is_the_machines_and_has_to_be_moved),
        cmocka_unit_test(moving_goes_on_beside_computing_and_updates_come_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
