/* The progress line. The rate is the time of the last half minute or so over the units done in it, both
 * fading exponentially, so that a slow first step (planning, page faults) does not haunt the time left, and
 * one unit with a long pause in it (a preview) counts as one among many. */
#include "progress.h"

#include "clock.h"
#include "log.h"
#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RATE_MEMORY 30.0 /* seconds */
#define REDRAW_EVERY 0.1 /* seconds, on a terminal */
#define DEFAULT_WIDTH 80
#define LINE_MAX_BYTES 512

const char *progress_time(double seconds, char *buf, size_t size)
{
    const long long s = seconds < 0 ? 0 : seconds > 1e15 ? (long long)1e15 : (long long)(seconds + 0.5);
    if (s >= 2 * 86400)
        snprintf(buf, size, "%lldd %lldh", s / 86400, s % 86400 / 3600);
    else if (s >= 3600)
        snprintf(buf, size, "%lld:%02lld:%02lld", s / 3600, s % 3600 / 60, s % 60);
    else
        snprintf(buf, size, "%lld:%02lld", s / 60, s % 60);
    return buf;
}

void progress_begin(Progress *p, const char *label, const char *unit, int64_t first, int64_t total)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    memset(p, 0, sizeof *p);
    p->label = label;
    p->unit = unit;
    p->first = p->done = p->recent_done = first;
    p->total = total;
    p->out = stderr;
    p->terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    p->color = p->terminal && !(no_color && *no_color);
    p->width = terminal_columns(STDERR_FILENO);
    if (!p->width)
        p->width = DEFAULT_WIDTH;
    p->clock = seconds_now;
    p->began = p->recent_time = p->clock();
    p->shown = -1;
}

void progress_quiet(Progress *p, double seconds)
{
    p->quiet = seconds;
}

void progress_beside(Progress *p, double seconds_left)
{
    p->beside = seconds_left;
    p->recent_time = p->clock();
}

/* How long between two plain lines after `elapsed` seconds of work. */
static double plain_interval(double elapsed)
{
    return elapsed < 60 ? 5 : elapsed < 600 ? 15 : 60;
}

static void measure(Progress *p, double now)
{
    const int64_t units = p->done - p->recent_done;
    const double seconds = now - p->recent_time;
    if (units <= 0 || seconds <= 0)
        return;
    const double kept = RATE_MEMORY / (RATE_MEMORY + seconds); /* exp(-t/T), to first order */
    p->known_seconds = kept * p->known_seconds + seconds;
    p->known_units = kept * p->known_units + (double)units;
    p->seconds_per_unit = p->known_seconds / p->known_units;
    p->recent_done = p->done;
    p->recent_time = now;
}

/* Appends to line; what does not fit is cut. */
static void append(char *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(char *line, const char *format, ...)
{
    const size_t used = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + used, LINE_MAX_BYTES - used, format, args);
    va_end(args);
}

static void append_rate(char *line, const Progress *p)
{
    const double s = p->seconds_per_unit;
    if (s <= 0)
        return;
    if (s >= 1)
        append(line, "  %.*f s/%s", s < 10 ? 2 : 1, s, p->unit);
    else
        append(line, "  %.*f %ss/s", s > 0.1 ? 2 : s > 0.01 ? 1 : 0, 1 / s, p->unit);
}

static void compose(const Progress *p, double now, bool last, char line[LINE_MAX_BYTES])
{
    char buf[32];
    line[0] = 0;
    append(line, "%s  %lld", p->label, (long long)p->done);
    if (p->total > 0)
        append(line, "/%lld  %d%%", (long long)p->total, (int)(100.0 * (double)p->done / (double)p->total));
    else
        append(line, " %ss", p->unit);
    append_rate(line, p);
    if (last)
        append(line, "  took %s", progress_time(now - p->began, buf, sizeof buf));
    else if (p->total > p->done && p->seconds_per_unit > 0)
        append(
            line, "  %s left",
            progress_time((double)(p->total - p->done) * p->seconds_per_unit + p->beside, buf, sizeof buf));
    if (p->note[0])
        append(line, "  %s", p->note);
}

/* Takes whole parts off the end until at most `columns` characters are left; the label stays. */
static void cut(char *line, int columns)
{
    while (text_columns(line, strlen(line)) > columns) {
        char *last = NULL;
        for (char *at = strstr(line, "  "); at; at = strstr(at + 2, "  "))
            last = at;
        if (!last)
            return;
        *last = 0;
    }
}

static void draw(Progress *p, double now, bool last)
{
    char line[LINE_MAX_BYTES];
    compose(p, now, last, line);
    if (p->terminal) {
        const size_t label = strlen(p->label);
        cut(line, p->width - 1);
        if (p->color && strlen(line) > label)
            fprintf(p->out, "\r\033[36m%.*s\033[0m%s\033[K", (int)label, line, line + label);
        else
            fprintf(p->out, "\r%s\033[K", line);
        if (last)
            fputc('\n', p->out);
        p->line_open = !last;
    } else {
        fprintf(p->out, "%s\n", line);
    }
    fflush(p->out);
    p->shown = now;
}

/* Nothing has been shown so far, and nothing need be. A terminal's line goes again. */
static bool is_quiet(const Progress *p, double now)
{
    return !p->terminal && p->shown < 0 && now - p->began < p->quiet;
}

static void clear(Progress *p)
{
    if (!p->line_open)
        return;
    fputs("\r\033[K", p->out);
    fflush(p->out);
    p->line_open = false;
    p->shown = -1;
}

/* The line, when it is due. In a log progress_end alone writes the last one, with the time that it took. */
static void show(Progress *p, double now)
{
    const double wait = p->terminal ? REDRAW_EVERY : plain_interval(now - p->began);
    const bool last = !p->terminal && p->total > 0 && p->done >= p->total;
    if (!last && !is_quiet(p, now) && (p->shown < 0 || now - p->shown >= wait))
        draw(p, now, false);
}

void progress_terminal(void *unused, Progress *p, ProgressEvent event)
{
    (void)unused;
    if (event == PROGRESS_CLEAR)
        clear(p);
    else if (event == PROGRESS_END && !is_quiet(p, p->clock()))
        draw(p, p->clock(), true);
    else if (event == PROGRESS_UPDATE)
        show(p, p->clock());
}

/* What is called with it --------------------------------------------------------------------------------- */

static ProgressSink sink_now;
static void *sink_arg;
static _Thread_local ProgressTarget own;

void progress_to(ProgressSink sink, void *arg)
{
    sink_now = sink;
    sink_arg = arg;
}

ProgressTarget progress_redirect(ProgressTarget to)
{
    const ProgressTarget before = own;
    own = to;
    return before;
}

static void tell(Progress *p, ProgressEvent event)
{
    if (own.sink)
        own.sink(own.arg, p, event);
    else if (sink_now)
        sink_now(sink_arg, p, event);
}

void progress_update(Progress *p, int64_t done, const char *note_format, ...)
{
    p->done = done;
    p->note[0] = 0;
    if (note_format) {
        va_list args;
        va_start(args, note_format);
        vsnprintf(p->note, sizeof p->note, note_format, args);
        va_end(args);
    }
    measure(p, p->clock());
    tell(p, PROGRESS_UPDATE);
}

void progress_clear(Progress *p)
{
    if (p->label) /* it has begun */
        tell(p, PROGRESS_CLEAR);
}

void progress_end(Progress *p)
{
    tell(p, PROGRESS_END);
}
