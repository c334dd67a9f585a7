/* 3×3 convolutions by the processor's products of bf16 (conv_bf16.c). */
#ifndef ATL_CPU_CONV_BF16_H
#define ATL_CPU_CONV_BF16_H

#include "isa.h"

/* Whether the convolution a, or the gradient of its input, goes this way: by shape and storage alone. */
bool ISA(bf16_takes_conv)(const Conv *a, bool backward);
size_t ISA(bf16_conv_scratch)(const Conv *a, bool backward);
/* The forward writes y, all that is added included; the gradient of the input reads y and writes x. */
void ISA(bf16_conv)(const Conv *a, bool backward, void *scratch);

#endif
