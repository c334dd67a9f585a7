/* Messages to the user. They go to one function: the program's start names log_terminal, a host program one
 * of its own; until then they go nowhere. That function and the level are all the global state there is. A
 * thread that works for one of the library's handles is redirected to that handle's. */
#ifndef ATL_LOG_H
#define ATL_LOG_H

typedef enum LogLevel { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG } LogLevel;

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
/* To standard error, "atelier: error: …", "atelier: warning: …", "…" and "atelier: debug: …". */
void log_terminal(void *unused, LogLevel level, const char *text);

void log_set_level(LogLevel level); /* default LOG_INFO */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
