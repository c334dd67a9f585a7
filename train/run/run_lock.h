/* One process a run's folder: two would spoil both. The lock is the kernel's, on the folder itself, and ends
 * with the process however it ends. */
#ifndef ATL_RUN_LOCK_H
#define ATL_RUN_LOCK_H

#include "kernels/base/status.h"

/* Makes the folder and takes it for this process; refused, naming the other process, where it is taken. File
 * systems without locks go without. *lock: for run_unlock. */
Status run_lock(const char *path, int *lock);
void run_unlock(int lock); /* −1 allowed */

#endif
