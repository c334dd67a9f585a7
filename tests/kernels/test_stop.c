/* Being asked to stop. Breaks if the handler would run on the stack that a library's kernel may be using
 * beyond its end (kernels/base/stop.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/stop.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where the process is a host program's. */
static void signals_are_left_alone_until_the_process_is_ours(void **state)
{
    (void)state;
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction before[3], after;
    for (int i = 0; i < 3; i++)
        assert_int_equal(sigaction(SIGNALS[i], NULL, &before[i]), 0);
    stop_catch();
    stop_outlive_terminal();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sigaction(SIGNALS[i], NULL, &after), 0);
        assert_ptr_equal(after.sa_handler, before[i].sa_handler);
    }
}

static void a_signal_sets_the_flag_on_a_stack_of_its_own(void **state)
{
    (void)state;
    static const int SIGNALS[] = {SIGINT, SIGTERM};
    stop_own_process();
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

/* As a starter of several processes and the terminal send them, in any order. What ends a process is tested
 * in tests/faults/signals.sh and tests/train/processes.sh. */
static void the_signal_of_starters_counts_once(void **state)
{
    (void)state;
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* has had a SIGTERM, above: that was the one that counts */
        raise(SIGUSR1);
        raise(SIGUSR1);
        _exit(*stop_flag() == 1 ? 0 : 1);
    }
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_left_alone_until_the_process_is_ours),
        cmocka_unit_test(a_signal_sets_the_flag_on_a_stack_of_its_own),
        cmocka_unit_test(the_signal_of_starters_counts_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
