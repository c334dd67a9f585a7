#include "log.h"

#include "buffer.h"
#include "mem.h"
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LEAST_COLUMNS 20 /* of a terminal that is worth going by */

static LogLevel level_now = LOG_INFO;
static LogSink sink_now;
static void *sink_arg;
static _Thread_local LogTarget own;

void log_set_level(LogLevel level)
{
    level_now = level;
}

void log_to(LogSink sink, void *arg)
{
    sink_now = sink;
    sink_arg = arg;
}

LogTarget log_target(void)
{
    return own;
}

LogTarget log_redirect(LogTarget to)
{
    const LogTarget before = own;
    own = to;
    return before;
}

/* An error or warning is one line, whatever names and texts it quotes: line ends and other control characters
 * are shown as \n and \x1B. A line end before two spaces is the message's own, of a list of ways out. */
static void print_in_one_line(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '\n' && p[1] == ' ' && p[2] == ' ')
            fputc('\n', stderr);
        else if (*p == '\n')
            fputs("\\n", stderr);
        else if (*p < 0x20 || *p == 0x7F)
            fprintf(stderr, "\\x%02X", *p);
        else
            fputc(*p, stderr);
    }
}

void log_terminal(void *unused, LogLevel level, const char *text)
{
    static const char *const PREFIX[] = {"atelier: error: ", "atelier: warning: ", ""};
    (void)unused;
    flockfile(stderr);
    fputs(PREFIX[level], stderr);
    if (level <= LOG_WARN)
        print_in_one_line(text);
    else
        fputs(text, stderr);
    fputc('\n', stderr);
    funlockfile(stderr);
}

static void say(LogLevel level, const char *format, va_list args)
{
    char text[LOG_LONGEST];
    if (level > level_now || (!own.sink && !sink_now))
        return;
    vsnprintf(text, sizeof text, format, args);
    if (own.sink)
        own.sink(own.arg, level, text);
    else
        sink_now(sink_arg, level, text);
}

#define DEFINE_LOG(name, level)                                                                              \
    void name(const char *format, ...)                                                                       \
    {                                                                                                        \
        va_list args;                                                                                        \
        va_start(args, format);                                                                              \
        say(level, format, args);                                                                            \
        va_end(args);                                                                                        \
    }

DEFINE_LOG(log_error, LOG_ERROR)
DEFINE_LOG(log_warn, LOG_WARN)
DEFINE_LOG(log_info, LOG_INFO)

int terminal_columns(int fd)
{
    struct winsize w;
    return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col >= LEAST_COLUMNS ? w.ws_col : 0;
}

/* Of what rows go to. */
static int row_columns(FILE *out)
{
    if (out)
        return terminal_columns(fileno(out));
    return !own.sink && sink_now == log_terminal ? terminal_columns(STDERR_FILENO) : 0;
}

/* The row in lines of so many columns, without an end; NULL: it fits as it is. Caller: mem_free. */
static char *wrap_row(const char *row, int indent, int columns)
{
    Buffer b = {0};
    char *text = NULL;
    const size_t length = strlen(row);
    if (!columns || text_columns(row, length) < columns || length <= (size_t)indent)
        return NULL;
    buffer_add(&b, "%.*s", indent, row);
    buffer_add_within(&b, columns - 1, indent, indent, row + indent);
    if (buffer_take(&b, &text) == STATUS_OK)
        text[strlen(text) - 1] = 0;
    return text;
}

void log_row(FILE *out, int indent, const char *format, ...)
{
    char row[LOG_LONGEST];
    va_list args;
    va_start(args, format);
    vsnprintf(row, sizeof row, format, args);
    va_end(args);
    char *wrapped = wrap_row(row, indent, row_columns(out));
    if (out)
        fprintf(out, "%s\n", wrapped ? wrapped : row);
    else
        log_info("%s", wrapped ? wrapped : row);
    mem_free(wrapped);
}
