#include "stop.h"

#include "log.h"
#include "status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t asked, signalled; /* signalled: by one that counts */
static bool own, silent;

void stop_own_process(void)
{
    own = true;
}

bool stop_process_is_own(void)
{
    return own;
}

/* The line for the second signal: a handler may not compose one. Two places, so that the one which is shown
 * is never the one that is written to. */
static char words[2][LOG_LONGEST];
static volatile sig_atomic_t words_now;

void stop_last_words(const char *format, ...)
{
    const sig_atomic_t next = !words_now;
    va_list args;
    va_start(args, format);
    vsnprintf(words[next], sizeof words[next] - 1, format, args);
    va_end(args);
    if (words[next][0])
        strcat(words[next], "\n");
    words_now = next;
}

void stop_silently(void)
{
    silent = true;
}

static void write_words(void)
{
    static const char over_progress[] = "\r\033[K";
    const char *text = words[words_now];
    if (silent)
        return;
    if (*text && isatty(STDERR_FILENO) && write(STDERR_FILENO, over_progress, sizeof over_progress - 1) < 0)
        return;
    if (*text && write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* nobody reads, and nothing is left to be done */
}

static void end_at_once(int signal_number)
{
    (void)signal_number;
    write_words();
    _exit(STATUS_INTERRUPTED);
}

/* Another thread may be looking (kernels/comm/life.c). */
static void ask_once(int signal_number)
{
    (void)signal_number;
    __atomic_store_n(&asked, 1, __ATOMIC_RELAXED);
}

static void ask(int signal_number)
{
    if (signalled)
        end_at_once(signal_number);
    signalled = 1;
    ask_once(signal_number);
}

/* The handler has a stack of its own. On the common one the heap was found broken in 3 to 12 of 150 runs that
 * were asked to stop while oneDNN 2.6's AVX-512 kernels worked, in none of 450 with this, in none with AVX2:
 * it seems that generated code uses the stack pointer's register, or memory further below it than the 128
 * bytes that a signal leaves alone. The main thread alone gets signals that are sent to the process, as long
 * as it blocks none. With AVX-512 or AMX the registers alone take 11 KB. */
#define STACK_SIZE (64 << 10)

void stop_catch(void)
{
    static char stack[STACK_SIZE];
    if (!own)
        return;
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    static const struct {
        int number;
        void (*handler)(int);
    } ACTIONS[] = {{SIGINT, ask}, {SIGTERM, ask}, {SIGUSR1, ask_once}, {SIGUSR2, end_at_once}};
    sigset_t all;
    sigemptyset(&all);
    for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++) {
        struct sigaction action = {.sa_handler = ACTIONS[i].handler, .sa_flags = SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        sigaction(ACTIONS[i].number, &action, NULL);
        sigaddset(&all, ACTIONS[i].number);
    }
    pthread_sigmask(SIG_UNBLOCK, &all, NULL); /* a starter has blocked some until here */
}

const volatile sig_atomic_t *stop_flag(void)
{
    return &asked;
}

void stop_outlive_terminal(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    if (!own)
        return;
    sigemptyset(&action.sa_mask);
    sigaction(SIGHUP, &action, NULL);
}
