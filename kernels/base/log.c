#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#define LONGEST 4096

static LogLevel level_now = LOG_INFO;

void log_set_level(LogLevel level)
{
    level_now = level;
}

/* An error or warning is one line, whatever names and texts it quotes: line ends and other control characters
 * are shown as \n and \x1B. A line end before two spaces is the message's own, of a list of ways out. */
static void say_in_one_line(const char *format, va_list args)
{
    char text[LONGEST];
    vsnprintf(text, sizeof text, format, args);
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

static void say(LogLevel level, const char *prefix, const char *format, va_list args)
{
    if (level > level_now)
        return;
    flockfile(stderr);
    fputs(prefix, stderr);
    if (level <= LOG_WARN)
        say_in_one_line(format, args);
    else
        vfprintf(stderr, format, args);
    fputc('\n', stderr);
    funlockfile(stderr);
}

#define DEFINE_LOG(name, level, prefix)                                                                      \
    void name(const char *format, ...)                                                                       \
    {                                                                                                        \
        va_list args;                                                                                        \
        va_start(args, format);                                                                              \
        say(level, prefix, format, args);                                                                    \
        va_end(args);                                                                                        \
    }

DEFINE_LOG(log_error, LOG_ERROR, "atelier: error: ")
DEFINE_LOG(log_warn, LOG_WARN, "atelier: warning: ")
DEFINE_LOG(log_info, LOG_INFO, "")
DEFINE_LOG(log_debug, LOG_DEBUG, "atelier: debug: ")
