/* Exact ends of memory under AddressSanitizer (bounds.c): bytes that no kernel may touch are poisoned, and
 * its reports say which kernel, block and thread it was. Without it these do nothing. */
#ifndef TESTS_CUDA_BOUNDS_H
#define TESTS_CUDA_BOUNDS_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define BOUNDS_EXACT 1
void bounds_close(const void *p, size_t bytes);
void bounds_open(const void *p, size_t bytes);
/* Reports are of kernels from now on. */
void bounds_report(void);
#else
#define BOUNDS_EXACT 0
static inline void bounds_close(const void *p, size_t bytes)
{
    (void)p, (void)bytes;
}
static inline void bounds_open(const void *p, size_t bytes)
{
    (void)p, (void)bytes;
}
static inline void bounds_report(void)
{
}
#endif

#endif
