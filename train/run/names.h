/* The names that a run will give to what it makes in its folder, looked at before anything is done: whatever
 * of them somebody else has there already is refused then, and not when the result is to be written. */
#ifndef ATL_NAMES_H
#define ATL_NAMES_H

#include "train/config/config.h"

/* Refuses the first that is there and was not made by this run (train/pictures/owned.h). */
Status names_check(const Config *config, const char *folder);

#endif
