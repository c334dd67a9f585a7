/* What a run comes to, said before its first step: for people on standard error, for programs as JSON. */
#ifndef ATL_SUMMARY_H
#define ATL_SUMMARY_H

#include "train/plan/modes.h"
#include "estimate.h"

/* Says what the numbers come to. */
void setup_print(const Setup *s);
void modes_print(const ModeTable *table);
/* --plan's JSON, on standard output. time NULL: not measured. */
Status setup_print_json(const Setup *s, const ModeTable *modes, const Estimate *time);

#endif
