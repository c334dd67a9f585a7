/* Matrix products for whoever computes with them: linear.c has the ways. */
#ifndef ATL_CPU_GEMM_H
#define ATL_CPU_GEMM_H

#include "isa.h"

/* y = alpha op(a) op(b) + beta y + bias + residual, as matrices with leading dimensions (elements between
 * rows as stored). b may be i8, with a scale for each row as stored. What follows, as Product has it,
 * is for panels_run() alone. */
typedef struct Gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha, beta;
    const void *a, *b, *residual; /* residual: laid out like y */
    const float *b_scales;
    const Tensor *bias;
    void *y;
    DType a_type, b_type, y_type, residual_type;
    bool adds; /* there is a residual (while rehearsed it has no data) */
    int64_t lda, ldb, ldy;
    const Tensor *t, *up; /* what follows */
    float scale;
    bool geglu;
    Tensor *keep_h;
} Gemm;

/* Bytes of scratch memory for these sizes, types and additions; data is not looked at. */
Status ISA(gemm_scratch)(const Gemm *g, size_t *bytes);
Status ISA(gemm)(const Gemm *g, void *scratch);

#endif
