/* Products and 3×3 convolutions of whole numbers in 8 bits (int8.c). */
#ifndef ATL_CPU_INT8_H
#define ATL_CPU_INT8_H

#include "isa.h"

/* Whether the product or the convolution goes this way: its b or w is in 8 bits, `narrow` is asked for, the
 * processor multiplies such numbers, and the shape suits. A product's t and up are left to the caller. */
bool ISA(int8_takes_product)(const Product *p);
bool ISA(int8_takes_conv)(const Conv *a);
size_t ISA(int8_product_scratch)(const Product *p);
size_t ISA(int8_conv_scratch)(const Conv *a);
void ISA(int8_product)(const Product *p, void *scratch);
void ISA(int8_conv)(const Conv *a, void *scratch);

#endif
