/* What the library's handles have in common: who is told, the stop flag, and that one thing is done at a
 * time. */
#ifndef ATL_HANDLE_H
#define ATL_HANDLE_H

#include "kernels/base/log.h"
#include "kernels/base/progress.h"
#include "kernels/base/status.h"
#include "train/atelier.h"
#include "train/host.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct Handle {
    AtlListener listener;
    volatile sig_atomic_t stop;
    atomic_flag busy;
    bool on_card; /* works on what a process has once: calls take turns */
    /* of the thread that is in, put back when it leaves */
    LogTarget log_before;
    ProgressTarget progress_before;
    HostThread host;
} Handle;

/* Before and after the work of each public function: messages and progress go to the listener, the
 * host's thread is as it was (host.h). Refused while another thread is in. */
Status handle_enter(Handle *h, const char *what);
int handle_leave(Handle *h, Status s);
/* Raises the flag if the listener wants an end. Returns false then. */
bool handle_progress(Handle *h, const char *label, const char *unit, int64_t done, int64_t total,
                     const char *note);
void handle_stop(Handle *h);
/* From here on until handle_leave the thread alone works on the card. */
void handle_take_card(Handle *h);
void handle_release_card(Handle *h); /* nothing where it was not taken */

/* Fills `own`, which is cleared first, with as much as the caller's struct has; given NULL: with nothing.
 * Refuses a size that no version had. least: bytes of the first version. */
Status handle_read_struct(const char *name, const void *given, size_t least, void *own, size_t size);

#endif
