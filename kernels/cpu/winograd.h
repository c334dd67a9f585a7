/* Winograd's way to compute 3×3 convolutions of stride 1 and their gradients of the input (winograd.c). */
#ifndef ATL_CPU_WINOGRAD_H
#define ATL_CPU_WINOGRAD_H

#include "isa.h"

/* Whether the convolution a, or with `backward` the gradient of its input, goes this way: by its shape alone.
 */
bool ISA(winograd_takes)(const Conv *a, bool backward);
/* Bytes of scratch memory. */
size_t ISA(winograd_scratch)(const Conv *a, bool backward);
/* The forward writes y, all that is added included; the gradient reads y and writes x. */
void ISA(winograd_run)(const Conv *a, bool backward, void *scratch);

#endif
