/* Products and 3×3 convolutions of whole numbers in 8 bits (int8.cu). */
#ifndef ATL_CUDA_INT8_H
#define ATL_CUDA_INT8_H

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/device.h"

/* Whether the product or the convolution goes this way: its b or w is in 8 bits, `narrow` is asked for, the
 * card multiplies such numbers fast, and the shape suits. A product's t and up, and what is done under a
 * GEGLU, are left to the caller: y is (m,n) then. */
bool cuda_int8_takes_product(const Product *p);
bool cuda_int8_takes_conv(const Conv *a);
size_t cuda_int8_product_scratch(const Product *p);
size_t cuda_int8_conv_scratch(const Conv *a);
Status cuda_int8_product(const Product *p, void *scratch);
/* form: the weight's in 8 bits (bytes.h); NULL: it comes as files have it. */
Status cuda_int8_conv(const Conv *a, const signed char *form, void *scratch);

#ifdef __cplusplus
}
#endif
#endif
