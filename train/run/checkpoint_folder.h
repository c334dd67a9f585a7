/* The checkpoints in RUN/checkpoints as folders: which are there and whole, which go. What is in one is
 * checkpoint.h's matter; a folder is one by its state.json, and anything else in it is somebody's and stays.
 */
#ifndef ATL_CHECKPOINT_FOLDER_H
#define ATL_CHECKPOINT_FOLDER_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* "step-000250" -> 250, else -1. */
int64_t checkpoint_step(const char *name);
/* Gives a new checkpoint, part, its name; one of the same step may have it. all: RUN/checkpoints. */
Status checkpoint_place(const char *all, const char *part, const char *final);
/* Keeps the newest `keep` up to step `newest`. One that an interruption left between two multiples of `every`
 * goes as soon as a later one is there, so that an interrupted run ends with the same folders as one that was
 * not. That of step `best` stays besides (0: none). What cannot be removed is said and left. */
void checkpoint_prune(const char *run, int64_t newest, int keep, int64_t every, int64_t best);
#define CHECKPOINT_ANY INT64_MAX
/* Folder of the last whole checkpoint up to step `until`, *folder NULL: there is none. Caller: mem_free. */
Status checkpoint_last(const char *run, int64_t until, char **folder);
/* Removes what interrupted writers left, but for a checkpoint that was just losing its name to its successor:
 * that one is given it back. */
Status checkpoint_clean(const char *run);
/* What has a checkpoint's name and is none, a file or a folder without state.json, is nothing that a run
 * writes over: refused where the run begins. Where one is gone on with, such a folder is a checkpoint that
 * was damaged: it is told of and put aside as step-000250.damaged. */
Status checkpoint_check_names(const char *run, bool resumed);

#endif
