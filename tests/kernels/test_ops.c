/* Every operation of ATL_OPS and every kind of adapter of ATL_ADAPTERS: tests of each, from the table of
 * cases optest_NAME or optest_adapter_NAME. One without it does not link.
 *
 *     test_kernels_ops [NAMES [PART…]]
 *
 * NAMES: only operations of these names, in which * and ? stand for any letters. PART: only this one, of
 * "operations", "not finite" and "wrong type". */
#include "gradcheck.h"

#include "kernels/adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DECLARE(name) const OpTest *optest_##name(int *count);
#define DECLARE_ADAPTER(name) DECLARE(adapter_##name)
ATL_OPS(DECLARE)
ATL_ADAPTERS(DECLARE_ADAPTER)

typedef struct Entry {
    const char *name;
    const OpTest *(*cases)(int *count);
} Entry;

static void operation_agrees_with_its_twin_and_its_gradient_with_differences(void **state)
{
    const Entry *e = *state;
    int count = 0;
    const OpTest *tests = e->cases(&count);
    assert_true(count > 0);
    optest_check(e->name, tests, count);
}

static void operation_loses_no_nan_or_infinity(void **state)
{
    const Entry *e = *state;
    int count = 0;
    const OpTest *tests = e->cases(&count);
    optest_check_not_finite(e->name, tests, count);
}

static void operation_refuses_a_type_that_it_does_not_read(void **state)
{
    const Entry *e = *state;
    int count = 0;
    const OpTest *tests = e->cases(&count);
    optest_check_wrong_type(e->name, tests, count);
}

#define ENTRY(name) {#name, optest_##name},
#define ADAPTER_ENTRY(name) ENTRY(adapter_##name)
static Entry entries[] = {ATL_OPS(ENTRY) ATL_ADAPTERS(ADAPTER_ENTRY)};
#define COUNT (sizeof entries / sizeof *entries)

static const struct {
    const char *name;
    CMUnitTestFunction test;
} parts[] = {
    {"operations", operation_agrees_with_its_twin_and_its_gradient_with_differences},
    {"not finite", operation_loses_no_nan_or_infinity},
    {"wrong type", operation_refuses_a_type_that_it_does_not_read},
};

static bool is_among(const char *name, char **list, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, list[i]) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    int failed = 0, run = 0;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        if (argc > 2 && !is_among(parts[p].name, argv + 2, argc - 2))
            continue;
        struct CMUnitTest tests[COUNT];
        for (size_t i = 0; i < COUNT; i++)
            tests[i] = (struct CMUnitTest){
                .name = entries[i].name, .test_func = parts[p].test, .initial_state = &entries[i]};
        failed += cmocka_run_group_tests_name(parts[p].name, tests, NULL, NULL);
        run++;
    }
    return failed + !run;
}
