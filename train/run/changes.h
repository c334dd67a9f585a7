/* What of a configuration has changed since a run began, and whether that would change its result. */
#ifndef ATL_CHANGES_H
#define ATL_CHANGES_H

#include "train/config/config.h"

/* Keys with which the run would end in other bytes than it began for: "optimizer.lr is 2e-4 and was 1e-4; …",
 * the first few, into text. Returns how many there are. Changes that do no harm are said (log_info) where
 * they are not about where things lie. */
int changes_find(const Config *now, const Config *then, char *text, size_t size);

#endif
