/* What a run comes to, said before its first step, or, asked for by --plan, on standard output. */
#ifndef ATL_SUMMARY_H
#define ATL_SUMMARY_H

#include "train/plan/modes.h"
#include "estimate.h"

#include <stdio.h>

/* Says what the numbers come to: to out, or where that is NULL as messages. */
void setup_print(const Setup *s, FILE *out);
void modes_print(const ModeTable *table, FILE *out);
/* --plan's JSON, on standard output. time NULL: not measured. */
Status setup_print_json(const Setup *s, const ModeTable *modes, const Estimate *time);

#endif
