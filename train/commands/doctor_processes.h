/* `atelier doctor`'s part on several processes: what is there for them, and, from several processes, how fast
 * what a step asks of them is. */
#ifndef ATL_DOCTOR_PROCESSES_H
#define ATL_DOCTOR_PROCESSES_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"
#include "kernels/comm/comm.h"

#include <stdbool.h>

/* Which Open MPI can be loaded here, or what to do where none can. */
json_t *doctor_libraries(void);
/* All processes of comm together: process 0 prints who they are and what the exchanges of a step take. A
 * whole model's are measured with fewer numbers where memory is short. device: as --device has it, "auto"
 * giving each process a GPU of its own. */
Status doctor_together(Comm *comm, const char *device, bool as_json);

#endif
