/* A command that several processes run together, where a starter has started several. */
#ifndef ATL_TOGETHER_H
#define ATL_TOGETHER_H

#include "kernels/comm/comm.h"

/* Finds the others; from here on process 0 alone speaks. plan: nothing is to be done together; *out only
 * says how many there are. */
Status together_begin(bool plan, Comm **out);
/* True: a plan, which process 0 makes for all. */
bool together_idle(const Comm *c, bool plan);
/* Tells the others how this process has ended. Where process 0 is gone, the next one speaks. NULL allowed. */
void together_end(Comm *c, Status how);

#endif
