/* The end of a run: exports, the last line of the log, and the names of what was written. */
#ifndef ATL_FINISH_H
#define ATL_FINISH_H

#include "train/plan/setup.h"
#include "checkpoint.h"
#include "run_folder.h"

/* The results, of the weights as they stand. */
Status finish_export(const Setup *s, const char *run);
Status finish_run(Setup *s, RunFolder *run, const CheckpointState *state, bool listed);

#endif
