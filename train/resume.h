/* Starting over, going on, or refusing to: what a run's folder says before a run begins. */
#ifndef ATL_RESUME_H
#define ATL_RESUME_H

#include "checkpoint.h"

/* Without resume, a folder that holds a run is refused. With it ("auto": the configuration's folder, else a
 * run's), sets config->output.dir, takes over what `auto` settings the run chose, and says where the
 * configuration differs from the run's. *finished: the run is complete, which has been said. */
Status resume_check(Config *config, const char *resume, bool *finished);
/* Restores the last whole checkpoint, if there is one, and says so. */
Status resume_state(const char *folder, Parameters *p, CheckpointState *state, int64_t *saved_step);
/* Writes RUN/config.yaml: every key, as the run uses it. */
Status resume_write_config(const Config *config, const char *folder);

#endif
