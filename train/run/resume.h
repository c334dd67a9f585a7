/* Starting over, going on, or refusing to: what a run's folder says before a run begins. */
#ifndef ATL_RESUME_H
#define ATL_RESUME_H

#include "checkpoint.h"

/* What --resume names: "RUN", "RUN@STEP". Returns how many of its bytes name the run; *step: CHECKPOINT_ANY
 * where none is given. A folder that is there under the whole name is that folder. */
size_t resume_split(const char *resume, int64_t *step);
/* Sets config->output.dir to the run that --resume names; NULL and "auto" leave it. *step: resume_split's. */
Status resume_folder(Config *config, const char *resume, int64_t *step);
/* Without resume, a folder that holds a run is refused. With it, takes over what `auto` settings the run
 * chose, and refuses a configuration that would change the result of what has been done already, unless
 * allow_changes. step: the checkpoint that is asked for, or CHECKPOINT_ANY: the last. *finished: the run is
 * complete, as long as it is to be, and its results are there, which has been said. *begun: it has a
 * checkpoint. */
Status resume_check(Config *config, const char *resume, int64_t step, bool allow_changes, bool *finished,
                    bool *begun);
/* Restores the checkpoint, if there is one, and says so. state has made_with and origins of now; other
 * origins are refused, unless allow_changes. One that is damaged is named, and how to go on from the one
 * before. */
Status resume_state(const char *folder, const Setup *s, int64_t step, bool allow_changes,
                    CheckpointState *state, int64_t *saved_step);
/* Writes RUN/config.yaml: every key, as the run uses it. */
Status resume_write_config(const Config *config, const char *folder);

#endif
