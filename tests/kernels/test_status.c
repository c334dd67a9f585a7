/* Messages of failures: context grows on the left, one that is put by comes back, and what failed for want of
 * memory is told from other failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/status.h"

#include <string.h>

static void context_grows_on_the_left(void **state)
{
    (void)state;
    char long_name[3 * STATUS_MESSAGE_SIZE];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    assert_int_equal(status_in(status_refuse("%s is wrong", "steps"), "%s:%d", "cat.yaml", 3),
                     STATUS_REFUSED);
    assert_string_equal(status_message(), "cat.yaml:3: steps is wrong");
    status_fail("%s, again", status_message()); /* which the new one replaces */
    assert_string_equal(status_message(), "cat.yaml:3: steps is wrong, again");
    assert_int_equal(status_in(STATUS_OK, "nothing"), STATUS_OK);
    assert_string_equal(status_message(), "cat.yaml:3: steps is wrong, again");
    status_in(STATUS_FAILED, "%s", long_name);
    assert_int_equal(strlen(status_message()), STATUS_MESSAGE_SIZE - 1);
}

static void a_failure_comes_back_as_it_was(void **state)
{
    (void)state;
    const KeptStatus memory = status_keep(status_memory("out of memory"));
    const KeptStatus refused = status_keep(status_refuse("no such file"));
    const KeptStatus fine = status_keep(STATUS_OK);
    status_fail("another");
    assert_int_equal(status_again(&memory), STATUS_FAILED);
    assert_string_equal(status_message(), "out of memory");
    assert_true(status_is_memory());
    assert_int_equal(status_again(&refused), STATUS_REFUSED);
    assert_string_equal(status_message(), "no such file");
    assert_false(status_is_memory());
    assert_int_equal(status_again(&fine), STATUS_OK);
    assert_string_equal(status_message(), "no such file");
}

/* Else a picture at hand when a run is stopped would be taken for one that there was no memory for. */
static void an_interruption_is_no_want_of_memory(void **state)
{
    (void)state;
    status_memory("out of memory");
    assert_true(status_is_memory());
    assert_int_equal(status_in(status_interrupted(), "step 3"), STATUS_INTERRUPTED);
    assert_false(status_is_memory());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_grows_on_the_left),
        cmocka_unit_test(a_failure_comes_back_as_it_was),
        cmocka_unit_test(an_interruption_is_no_want_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
