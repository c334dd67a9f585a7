/* Being asked to stop. Breaks if the handler would run on the stack that a library's kernel may be using
 * beyond its end (kernels/base/stop.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/stop.h"

#include <signal.h>

static void a_signal_sets_the_flag_on_a_stack_of_its_own(void **state)
{
    (void)state;
    static const int SIGNALS[] = {SIGINT, SIGTERM};
    stop_catch();
    assert_int_equal(*stop_flag(), 0);
    for (int i = 0; i < 2; i++) {
        struct sigaction action;
        assert_int_equal(sigaction(SIGNALS[i], NULL, &action), 0);
        assert_true(action.sa_flags & SA_ONSTACK);
    }
    stack_t stack;
    assert_int_equal(sigaltstack(NULL, &stack), 0);
    assert_false(stack.ss_flags & SS_DISABLE);
    assert_true(stack.ss_size >= 32 << 10);
    raise(SIGTERM);
    assert_int_equal(*stop_flag(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_sets_the_flag_on_a_stack_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
