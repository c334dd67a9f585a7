/* `atelier bench --profile` and `--against`: where the time of a piece of work goes, and what has changed. */
#ifndef ATL_BENCH_PROFILE_H
#define ATL_BENCH_PROFILE_H

#include "kernels/base/json.h"
#include "kernels/profile.h"

/* A list of objects, operations of one kind and size together, those that take longest first:
 * {op, weight (its shape, or ""), calls, seconds, flop, bytes}. NULL: out of memory. */
json_t *bench_operations(const Profile *p);
/* What `atelier bench --json` wrote into a file; caller: json_decref. Refuses what is not that, or was
 * measured of other work than `now`. */
Status bench_before(const char *path, const json_t *now, json_t **before);
/* The operations of `now` as a table, beside those of `before` (or NULL). */
void bench_print_operations(const json_t *now, const json_t *before);

#endif
