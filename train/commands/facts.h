/* Facts that a command prints, as text for people or as JSON for programs: made once, as JSON, so that both
 * say the same. */
#ifndef ATL_FACTS_H
#define ATL_FACTS_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <stdbool.h>

/* Prints facts (an object; taken over) to standard output. As text each member is a line "name  value": an
 * object's members, or each object's of a list, stand indented below it, a list of words on one line,
 * integers with thousands separated, members named "…bytes" in MB or GB, null not at all; below "metadata"
 * names stand as they are. facts NULL: out of memory. */
Status facts_print(json_t *facts, bool as_json);

#endif
