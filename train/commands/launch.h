/* Several processes of this program on this machine, for `--processes` and `--gpus`: started, waited for, and
 * ended where one of them cannot go on. */
#ifndef ATL_LAUNCH_H
#define ATL_LAUNCH_H

#include "kernels/base/status.h"

#include <stdbool.h>

#define LAUNCH_MOST 256 /* processes */

/* The two options, for the commands that have them. */
#define LAUNCH_PROCESSES_HELP                                                                                \
    "Starts N processes on this machine that share the work; the result is the same. More than one "         \
    "machine: "                                                                                              \
    "docs/several-processes.md."
#define LAUNCH_GPUS_HELP                                                                                     \
    "The same with a GPU for each process: all that can be used, or the first N. Goes with --device cuda, "  \
    "which is taken where no --device is given."

/* This process was started by launch(). */
bool launch_was_here(void);

/* How many processes the options ask for: --processes (0: not given) and --gpus (NULL: not given). Refused
 * where there are not so many GPUs, and in a process that others have started as one of several. 1: none is
 * to be started. */
Status launch_count(int processes, const char *gpus, int *count);

/* Runs `atelier` with these words (argv[0] is the command's name) as `count` processes, which kernels/comm
 * finds by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Waits until all have
 * ended. patience: seconds that the others have to end by themselves once one has failed; then they are
 * ended.
 *
 * *status: the exit status of process 0; STATUS_FAILED where a signal has ended it, or where it went well for
 * process 0 and not for another. Who was ended by a signal is said. A failure to start them is returned. */
Status launch(int count, int argc, char **argv, double patience, int *status);

#endif
