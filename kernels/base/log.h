/* Messages to the user. They go to one function: the program's start names log_terminal, a host program one
 * of its own; until then they go nowhere. That function and the level are all the global state there is. A
 * thread that works for one of the library's handles is redirected to that handle's. */
#ifndef ATL_LOG_H
#define ATL_LOG_H

#include <stdio.h>

typedef enum LogLevel { LOG_ERROR = 0, LOG_WARN, LOG_INFO } LogLevel;

/* text has no line end, nor the level's name; what is longer than LOG_LONGEST is cut. Any thread may call. */
typedef void (*LogSink)(void *arg, LogLevel level, const char *text);
#define LOG_LONGEST 4096

void log_to(LogSink sink, void *arg); /* NULL: nowhere */

typedef struct LogTarget {
    LogSink sink; /* NULL: where log_to says */
    void *arg;
} LogTarget;
/* Where this thread's messages go from now on. Returns where they went before. Threads that it starts are
 * given its own, log_target(). */
LogTarget log_redirect(LogTarget to);
LogTarget log_target(void);
/* To standard error, "atelier: error: …", "atelier: warning: …" and "…". */
void log_terminal(void *unused, LogLevel level, const char *text);

void log_set_level(LogLevel level); /* default LOG_INFO */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A row of a table, of which `indent` columns are its label: to out, or where that is NULL as log_info. On a
 * terminal that is too narrow for it the rest stands below, so far in. */
void log_row(FILE *out, int indent, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Columns of the terminal that fd is; 0: it is none. */
int terminal_columns(int fd);

#endif
