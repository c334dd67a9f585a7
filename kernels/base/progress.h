/* How far every long piece of work has come. That goes to one function: the program's start names
 * progress_terminal, a host program one of its own; until then nobody is told.
 *
 *     Progress p;
 *     progress_begin(&p, "train", "step", first, total);      // first > 0: resumed there
 *     for (…)
 *         progress_update(&p, done, "loss %.4f", loss);       // as often as you like
 *     progress_end(&p);
 *
 * progress_terminal writes to standard error. On a terminal the line is rewritten in place, at most ten times
 * a second and never wider than the terminal, nor cut inside of a number: train  250/1000  25%  1.83 steps/s
 * 6:49 left  loss 0.1234 In a log it is a plain line at the beginning, at growing intervals (5 s, 15 s, 60 s)
 * and at the end. The rate is that of the last half minute or so. NO_COLOR leaves out colour. A Progress owns
 * nothing: there is nothing to free. Only one is shown at a time, and only the main thread may call. */
#ifndef ATL_PROGRESS_H
#define ATL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PROGRESS_NOTE 160

typedef struct Progress {
    const char *label, *unit; /* borrowed: "train", "step" */
    int64_t first, total, done;
    char note[PROGRESS_NOTE];
    /* set by progress_begin; a test may change them after it */
    FILE *out; /* stderr */
    bool terminal, color;
    int width;                 /* columns of the terminal */
    double (*clock)(void);     /* seconds, monotonic */
    double beside;             /* seconds to come besides the units */
    double quiet;              /* seconds that nothing is shown for */
    double began, recent_time; /* by that clock: when the work began, when the rate was last measured */
    /* private */
    double shown;
    double known_seconds, known_units; /* fading sums */
    double seconds_per_unit;           /* their ratio; 0: not known yet */
    int64_t recent_done;
    bool line_open; /* the cursor stands at the end of a progress line */
} Progress;

typedef enum ProgressEvent { PROGRESS_UPDATE, PROGRESS_CLEAR, PROGRESS_END } ProgressEvent;
typedef void (*ProgressSink)(void *arg, Progress *p, ProgressEvent event);

void progress_to(ProgressSink sink, void *arg); /* NULL: to nobody */

typedef struct ProgressTarget {
    ProgressSink sink; /* NULL: whom progress_to says */
    void *arg;
} ProgressTarget;
/* Who is told of this thread's work from now on. Returns who was before. */
ProgressTarget progress_redirect(ProgressTarget to);
void progress_terminal(void *unused, Progress *p, ProgressEvent event);

/* total 0: not known (no share, no time left). unit is singular. */
void progress_begin(Progress *p, const char *label, const char *unit, int64_t first, int64_t total);
/* done counts from 0 to total. note_format NULL: no note; it is what stands after the time left: parts with
 * two spaces between them, the most important first, of which as many are shown as there is room for. */
void progress_update(Progress *p, int64_t done, const char *note_format, ...)
    __attribute__((format(printf, 3, 4)));
/* After each unit's own time something else may follow that is no part of it (a preview): it does not count
 * for the rate, and so many seconds of it that are still to come count for the time left. */
void progress_beside(Progress *p, double seconds_left);
/* In a log nothing is shown of work that is over within so many seconds. After progress_begin. */
void progress_quiet(Progress *p, double seconds);
/* Takes the line off the terminal so that something else can be printed; the next update draws it again. */
void progress_clear(Progress *p);
/* The last state as a line of its own, with the time that the whole took. */
void progress_end(Progress *p);

/* "6:49", "1:02:03", "2d 4h" into buf; returns buf. */
const char *progress_time(double seconds, char *buf, size_t size);

#endif
