/* What `atelier model info MODEL --fits` says: what works in how much memory, and how long it takes. */
#ifndef ATL_CARDS_H
#define ATL_CARDS_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

/* Adds to facts; device: as --device has it. */
Status cards_facts(const char *model, const char *device, json_t *facts);

#endif
