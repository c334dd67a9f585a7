/* How much memory this process can still take. */
#ifndef ATL_AVAILABLE_H
#define ATL_AVAILABLE_H

#include <stddef.h>

/* The smaller of what the kernel calls available and what the control groups leave; 0: not known. */
size_t memory_available(void);

/* What the process's control group and those above it leave; SIZE_MAX: no limit. groups: "/proc/self/cgroup";
 * mount:
 * "/sys/fs/cgroup" (version 2, and version 1 with its memory controller in mount/memory). */
size_t memory_left_by_groups(const char *groups, const char *mount);

#endif
