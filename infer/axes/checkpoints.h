/* Places of an axis that are a run's states: its checkpoints in the order of their steps, or its result. */
#ifndef ATL_CHECKPOINTS_H
#define ATL_CHECKPOINTS_H

#include "axes.h"

/* value: a run's folder (all of its checkpoints, or its LoRA where none are kept), a checkpoint's folder, or
 * a file of a LoRA. Each becomes one more LoRA. */
Status checkpoints_add(Axis *a, const char *value);

#endif
