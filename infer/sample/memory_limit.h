/* What of type, tiles and 8-bit weights is taken so that pictures fit into so much memory (--max-memory). */
#ifndef ATL_MEMORY_LIMIT_H
#define ATL_MEMORY_LIMIT_H

#include "options.h"

/* Chooses among what was not asked for by name, the least change first, fills it into a, and says what was
 * taken. *dtype is what would be taken otherwise. Nothing is loaded: shapes are planned. Refused where
 * nothing fits, with what the least needs. */
Status memory_limit_apply(SampleArguments *a, const Device *dev, DType *dtype);
/* "2G", "1500M", "2147483648". */
Status memory_limit_parse(const char *text, size_t *bytes);

#endif
