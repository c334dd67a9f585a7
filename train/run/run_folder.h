/* A run's folder: config.yaml, log.jsonl, samples/, checkpoints/, and the results.
 *
 * log.jsonl only grows, one whole line at a time; a checkpoint knows how long it was, and going on from there
 * cuts it back to that length. */
#ifndef ATL_RUN_FOLDER_H
#define ATL_RUN_FOLDER_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"
#include "train/events/events.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct RunFolder {
    char *path;
    int log;           /* file descriptor */
    int64_t log_bytes; /* written so far */
    EventFile *events; /* what is logged is told there too; NULL: nowhere */
} RunFolder;

/* True if the folder holds a run: its log, or a checkpoint; or if that cannot be found out. */
bool run_exists(const char *path);
/* True if the log's last line says "done": true; *steps: how many it did. */
bool run_finished(const char *path, int64_t *steps);

/* Removes what killed runs left half written, checkpoints apart (checkpoint_clean). */
void run_clean(const char *path);

/* Makes the folder, and opens the log cut back to log_bytes (0: a new one). */
Status run_open(const char *path, int64_t log_bytes, RunFolder **out);
void run_close(RunFolder *r); /* NULL allowed */
/* Appends one line; frees line. */
Status run_log(RunFolder *r, json_t *line);
/* Previews of a step have been drawn: they are told of where the log is told too. */
Status run_previews(RunFolder *r, int64_t step);
/* What has been logged is on the disk when this returns: before a checkpoint says how long the log is. */
Status run_log_sync(RunFolder *r);

/* One process a run's folder: two would spoil both. The lock is the kernel's, on the folder itself, and ends
 * with the process however it ends. */

/* Makes the folder and takes it for this process; refused, naming the other process, where it is taken. File
 * systems without locks go without. *lock: for run_unlock. */
Status run_lock(const char *path, int *lock);
void run_unlock(int lock); /* −1 allowed */

#endif
