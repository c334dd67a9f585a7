/* Own products (product.cu), beside the library's. */
#ifndef ATL_CUDA_PRODUCT_H
#define ATL_CUDA_PRODUCT_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether the fused product computes p, by shapes and types, and is the faster way. It needs no scratch
 * memory. */
bool cuda_product_fused_fits(const Product *p);
Status cuda_product_fused(const Product *p);

#ifdef __cplusplus
}
#endif
#endif
