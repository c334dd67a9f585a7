/* What this process finds on its machine: how much memory it has and can still take, on how many cores it may
 * compute, and what the control groups that it is in allow of either. */
#ifndef ATL_MACHINE_H
#define ATL_MACHINE_H

#include <stddef.h>

/* The process's own peak of resident memory in bytes (VmHWM), and what it has now (VmRSS); 0: not known. */
size_t machine_peak_bytes(void);
size_t machine_current_bytes(void);

/* How much more memory the process can take: the smaller of what the kernel calls available and what the
 * control groups leave; 0: not known. */
size_t machine_available_bytes(void);
/* Of the whole machine. */
size_t machine_total_bytes(void);

/* Physical cores the process may use, by its affinity and its control groups: one at least. */
int machine_cores(void);

/* Control groups: the process's own and every one above it count, in both versions of the interface. groups:
 * "/proc/self/cgroup"; mount: "/sys/fs/cgroup" (version 2, and version 1 with its controllers in mount/memory
 * and mount/cpu). */
size_t machine_bytes_left_by_groups(const char *groups, const char *mount); /* SIZE_MAX: no limit */
int machine_cores_by_groups(const char *groups, const char *mount);         /* rounded up; 0: no limit */

#endif
