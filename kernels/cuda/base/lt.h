/* Products by cuBLASLt, which is opened when the first is wanted: libraries of half a gigabyte are for who
 * needs them. NVIDIA's cuBLASLt documentation, "Matmul". */
#ifndef ATL_CUDA_LT_H
#define ATL_CUDA_LT_H

#include "queue.h"

#ifdef __cplusplus
extern "C" {
#endif

/* d = alpha op(a) op(b) + beta c + bias, rows of matrices one after the other (ld elements apart): op(a)
 * (m,k), op(b) (k,n), c and d (m,n), bias (n) of d's type. a and b have one type, f32 or 16 bits, and c and d
 * another or the same. Sums are f32. tf32: f32 operands may be rounded to TF32. */
typedef struct LtProduct {
    int64_t m, n, k, lda, ldb, ldd;
    bool trans_a, trans_b, has_bias, tf32;
    DType type, d_type;
} LtProduct;
typedef struct LtOperands {
    float alpha, beta;
    const void *a, *b, *bias, *c; /* c: NULL is d */
    void *d;
} LtOperands;
/* Whether the library is there. Rehearsal asks, so that a missing library is known before the first step. */
Status lt_open(void);
Status lt_product(const LtProduct *p, const LtOperands *o);
/* Of the device's memory that it takes for its work: as PyTorch gives it. */
static inline size_t lt_workspace_bytes(int major)
{
    return (size_t)(major >= 9 ? 32 : 4) << 20;
}
/* 120500 is 12.5; 0: not opened. Results are the same for one version, architecture and number of processors.
 */
size_t lt_version(void);

#ifdef __cplusplus
}
#endif
#endif
