/* Being asked to stop, by Ctrl-C (SIGINT) or a shutdown (SIGTERM): a flag goes up, which work looks at
 * between its pieces; the second signal ends the process at once, with a line that was prepared for it. For
 * starters of several processes and batch systems the two are signals of their own as well: SIGUSR1 raises
 * the flag and counts once however often it comes, SIGUSR2 ends the process at once. */
#ifndef ATL_STOP_H
#define ATL_STOP_H

#include <signal.h>
#include <stdbool.h>

/* The process is the program's own (train/atelier.c); without this, the two functions that change what
 * signals do change nothing: in a host program's process that is the host's. */
void stop_own_process(void);
bool stop_process_is_own(void);
/* Catches the signals from here on, for the whole process. */
void stop_catch(void);
/* What the second signal leaves on standard error: one line of what was kept and how to go on. "": nothing.
 * Too long for one line of a message (LOG_LONGEST): cut. */
void stop_last_words(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* It leaves no line: another process speaks for this one. */
void stop_silently(void);
/* Not 0 once one has come. */
const volatile sig_atomic_t *stop_flag(void);
/* SIGHUP does nothing from here on: work goes on after the terminal is gone. */
void stop_outlive_terminal(void);

/* Whether a flag like that is up; it may be raised by a signal or by another thread. NULL: never. */
static inline bool stop_asked(const volatile sig_atomic_t *flag)
{
    return flag && __atomic_load_n(flag, __ATOMIC_RELAXED);
}

#endif
