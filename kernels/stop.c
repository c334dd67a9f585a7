#include "stop.h"

#include "status.h"

#include <unistd.h>

static volatile sig_atomic_t asked;

static void ask(int signal_number)
{
    (void)signal_number;
    if (asked)
        _exit(STATUS_INTERRUPTED);
    asked = 1;
}

/* The handler has a stack of its own. oneDNN 2.6's AVX-512 products keep numbers further below the stack
 * pointer than the 128 bytes that a signal leaves alone: a handler on the same stack wrote over them, and in
 * one of some thirty runs that were asked to stop the heap was found broken. With AVX-512 or AMX the
 * registers alone take 11 KB. */
#define STACK_SIZE (64 << 10)

void stop_catch(void)
{
    static char stack[STACK_SIZE];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_handler = ask, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

const volatile sig_atomic_t *stop_flag(void)
{
    return &asked;
}

void stop_outlive_terminal(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, NULL);
}
