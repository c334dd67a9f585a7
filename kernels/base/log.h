/* Messages to the user, on standard error, each starting with "atelier: ". Level and colour are the only
 * global state: log_set_level() and NO_COLOR. */
#ifndef ATL_LOG_H
#define ATL_LOG_H

typedef enum LogLevel { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG } LogLevel;

void log_set_level(LogLevel level);                                            /* default LOG_INFO */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "atelier: error: …" */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* "atelier: warning: …" */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* "…" */
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
