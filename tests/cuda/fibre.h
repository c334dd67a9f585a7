/* Fibres: functions with a stack of their own that hand the processor on to each other by name. */
#ifndef TESTS_CUDA_FIBRE_H
#define TESTS_CUDA_FIBRE_H

#include <stddef.h>

typedef struct Fibre Fibre;

/* The fibre that this thread began with. */
Fibre *fibre_main(void);
/* A new one, which calls body() when it is switched to for the first time; body never returns. It is never
 * freed, but used again by whoever keeps it. */
Fibre *fibre_new(void (*body)(void));
/* Goes on with `to`; returns when somebody switches back to `from`, which is the one that runs now. */
void fibre_switch(Fibre *from, Fibre *to);
/* The lowest address of f's stack. */
const char *fibre_stack(const Fibre *f, size_t *bytes);
/* Whether p lies in the guard page of a stack. */
int fibre_overflow(const void *p);

#endif
