/* How much memory this process can still take. */
#ifndef ATL_AVAILABLE_H
#define ATL_AVAILABLE_H

#include <stddef.h>

/* The smaller of what the kernel calls available and what the control group leaves; 0: not known. */
size_t memory_available(void);

#endif
