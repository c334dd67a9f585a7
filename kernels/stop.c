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

void stop_catch(void)
{
    struct sigaction action = {.sa_handler = ask};
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
