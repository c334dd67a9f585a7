/* How functions of Atelier fail.
 *
 * A function that can fail returns Status; 0 is success and the other values are the exit status that the
 * program ends with when nobody handles the failure. The message (what, where, what to do about it) is kept
 * in one thread-local place and grows to the left on the way up: status_in() prefixes the context that only
 * the caller knows (the file, the layer, the configuration key). */
#ifndef ATL_STATUS_H
#define ATL_STATUS_H

#include <stdbool.h>

typedef enum Status {
    STATUS_OK = 0,
    STATUS_FAILED = 1,       /* failed while working: I/O, memory, bad data */
    STATUS_REFUSED = 2,      /* the request was wrong: options, configuration, missing file */
    STATUS_INTERRUPTED = 130 /* SIGINT or SIGTERM, after the state was saved */
} Status;

/* Keep the message, replacing an earlier one, and return STATUS_FAILED / STATUS_REFUSED. */
Status status_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
Status status_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
Status status_interrupted(void);
/* The same as status_fail where memory (or the number of files that may be open) ran out, whatever the work
 * was about: status_is_memory() is true until the next failure, through status_in(). So that, say, a good
 * picture is not taken for a bad one. */
Status status_memory(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool status_is_memory(void);

/* If s is a failure, prefixes "CONTEXT: " to its message. Returns s. */
Status status_in(Status s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define STATUS_MESSAGE_SIZE 2048 /* bytes, with the 0 at the end */
/* The message of this thread's last failure, "" if there was none; valid until the next failure. */
const char *status_message(void);

/* A result and its message, put by while something else is done that may fail too, and say so. */
typedef struct KeptStatus {
    Status status;
    bool memory;
    char message[STATUS_MESSAGE_SIZE];
} KeptStatus;
KeptStatus status_keep(Status s);
/* Where it was a failure, the message is as it was then. Returns the result. */
Status status_again(const KeptStatus *kept);

/* Evaluate x; if it failed, return its status from the enclosing function. The only macro that returns. */
#define TRY(x)                                                                                               \
    do {                                                                                                     \
        const Status try_status_ = (x);                                                                      \
        if (try_status_ != STATUS_OK)                                                                        \
            return try_status_;                                                                              \
    } while (0)

#endif
