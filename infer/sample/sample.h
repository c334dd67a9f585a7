/* `atelier sample`: the command that makes pictures from a prompt. argv[0] is the command's own name; returns
 * the exit status and has printed its failure. */
#ifndef ATL_SAMPLE_COMMAND_H
#define ATL_SAMPLE_COMMAND_H

#include "infer/axes/words.h"

/* What a run's folder says of its previews, as options. */
typedef Status (*SampleOfRun)(const char *run, Words *out);
/* of_run: for sheets over a run's checkpoints that say no more; NULL: they have to. */
int command_sample(int argc, char **argv, SampleOfRun of_run);

#endif
