/* What libatelier exports (atelier.map): all that a host program can call. The library changes nothing that
 * belongs to the whole process: no library's allocator, no exit or signal handler, no standard stream; where
 * it has to for a while, it puts back what was there. What the program `atelier` wants otherwise for a
 * process of its own is atl_own_process, which the launcher calls and a host does not. */
#ifndef ATL_ATELIER_H
#define ATL_ATELIER_H

#include <stdint.h>

const char *atl_version(void); /* "0.1.0" */

/* Runs a command as the shell would, argv[0] being the program's name: what is asked for goes to standard
 * output, everything else to the functions below. Returns the exit status: 0 done, 1 failed, 2 refused. */
int atl_main(int argc, char **argv);

/* Messages. level: 0 an error, 1 a warning, 2 what is going on, 3 more of that. Called by any thread. NULL,
 * as it is at first: they go nowhere. */
typedef void (*AtlLog)(void *arg, int level, const char *text);
void atl_set_log(AtlLog log, void *arg);

/* How far long work has come: "train", "step", 250 of 1000 (0: not known), "loss 0.1234". Called whenever
 * another unit is done, by the thread that called atl_main. NULL, as it is at first: not told. */
typedef void (*AtlProgress)(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                            const char *note);
void atl_set_progress(AtlProgress progress, void *arg);

/* Makes the process Atelier's own, once, before anything else: messages and progress go to standard error,
 * SIGINT and SIGTERM end a run in order, running out of memory inside a library is noticed. */
void atl_own_process(void);

#endif
