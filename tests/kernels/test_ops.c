/* Every operation of ATL_OPS and every kind of adapter of ATL_ADAPTERS: a test each, from the table of cases
 * optest_NAME or optest_adapter_NAME. One without it does not link. */
#include "gradcheck.h"

#include "kernels/adapter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

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

int main(int argc, char **argv)
{
    struct CMUnitTest tests[COUNT], not_finite[COUNT], wrong_type[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        tests[i] = (struct CMUnitTest){
            .name = entries[i].name,
            .test_func = operation_agrees_with_its_twin_and_its_gradient_with_differences,
            .initial_state = &entries[i],
        };
        not_finite[i] = wrong_type[i] = tests[i];
        not_finite[i].test_func = operation_loses_no_nan_or_infinity;
        wrong_type[i].test_func = operation_refuses_a_type_that_it_does_not_read;
    }
    if (argc > 1) /* those of this name; * and ? stand for any letters */
        cmocka_set_test_filter(argv[1]);
    int failed = cmocka_run_group_tests_name("operations", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("not finite", not_finite, NULL, NULL);
    return failed + cmocka_run_group_tests_name("wrong type", wrong_type, NULL, NULL);
}
