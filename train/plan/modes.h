/* Memory modes: names for the settings that trade memory for time.
 *
 *              checkpointing        packed weights                                offload (GPU)
 *   speed      off                  kept, for the forward and the backward pass   off
 *   balanced   on                   kept for the forward pass (wherever           idle
 *                                   checkpointing is on)
 *   minimal    on, of whole blocks  not kept                                      all
 *
 * None of them changes a byte of the result. A setting given by itself stands; the mode says what was left
 * open. */
#ifndef ATL_MODES_H
#define ATL_MODES_H

#include "setup.h"

/* Fills in what the configuration leaves open. mode is not MODE_AUTO. */
void mode_settle(Config *c, TrainMode mode);
const char *mode_name(TrainMode mode);

/* What the run would take in each mode, by TrainMode; [MODE_AUTO] stays empty. */
typedef struct ModeTable {
    MemoryNeed need[MODE_COUNT];
} ModeTable;
Status mode_table(const Setup *s, ModeTable *out);

#endif
