/* Memory for oneDNN's small objects, which it asks for at every run of a primitive, in two ways.
 *
 * Some come from C++: where there is no memory for one it throws an exception that nobody can catch, and the
 * process ends by abort. But C++ calls a handler first, and tries again after it: ours gives back what was
 * put by. So the primitive comes to its end, the operation then fails in order, and a run ends with a message
 * and its checkpoints. Only when the reserve is not enough, or was never got, the handler ends the process,
 * with a message. The handler is one for the whole process: a host program's is its own matter, and there
 * nothing is put by.
 *
 * Others it takes from posix_memalign and uses without a look at whether it got them (c_compatible in its
 * sources; 3.x has one of 56 bytes for each primitive that another runs). Nobody is asked before that crash,
 * so oneDNN is not called where there is no room for such objects. */
#ifndef ATL_CPU_RESERVE_H
#define ATL_CPU_RESERVE_H

#include "kernels/base/status.h"

/* Installs the handler; the program's start calls it (train/atelier.c). */
void reserve_own_process(void);
/* Before oneDNN is called: the reserve is there (again), and so is room for what it does not check. */
Status reserve_keep(void);
/* After it: the reserve was not needed. */
Status reserve_check(void);

#endif
