/* Winograd's way to compute 3×3 convolutions of stride 1 (winograd.c) and the gradient of their weight
 * (winograd_weight.c). */
#ifndef ATL_CPU_WINOGRAD_H
#define ATL_CPU_WINOGRAD_H

#include "isa.h"

/* Whether the convolution a and its gradients go this way: by shape and storage alone. */
bool ISA(winograd_takes)(const Conv *a);
/* Bytes of scratch memory: of the forward, or of the gradient of the input; of the gradient of the weight. */
size_t ISA(winograd_scratch)(const Conv *a, bool backward);
size_t ISA(winograd_weight_scratch)(const Conv *a);
/* The forward writes y, all that is added included; the gradient of the input reads y and writes x. */
void ISA(winograd_run)(const Conv *a, bool backward, void *scratch);
/* a->w, f32, += the gradient of the weight by y's gradient a->y; a->bias, f32 or NULL, += that of the bias.
 */
void ISA(winograd_weight_run)(const Conv *a, void *scratch);

#endif
