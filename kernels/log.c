#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static LogLevel level_now = LOG_INFO;

void log_set_level(LogLevel level)
{
    level_now = level;
}

static void say(LogLevel level, const char *prefix, const char *format, va_list args)
{
    if (level > level_now)
        return;
    flockfile(stderr);
    fputs(prefix, stderr);
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
