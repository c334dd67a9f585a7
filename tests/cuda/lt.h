/* cuBLASLt's descriptors, and the product that they describe. */
#ifndef TESTS_CUDA_LT_H
#define TESTS_CUDA_LT_H

#include "runtime.h"

#include <cublasLt.h>

typedef struct LtLayout {
    cudaDataType type;
    bool rows_first; /* CUBLASLT_ORDER_ROW */
    uint64_t rows, columns;
    int64_t ld;
    int batch;
    int64_t batch_stride;
} LtLayout;

typedef struct LtOperation {
    cublasComputeType_t compute;
    cudaDataType scale;
    cublasLtPointerMode_t pointers;
    cublasOperation_t a, b, c;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int64_t bias_stride;
    int bias_type; /* −1: as D */
} LtOperation;

/* D = alpha op(A) op(B) + beta C + bias, as it was asked for. */
typedef struct LtCall {
    LtOperation operation;
    LtLayout layout_a, layout_b, layout_c, layout_d;
    const void *a, *b, *c;
    void *d;
    float alpha, beta;
    void *workspace; /* what the algorithm takes of it */
    size_t workspace_bytes;
} LtCall;
void lt_multiply(const LtCall *c); /* lt_multiply.c */

size_t lt_size(cudaDataType type); /* bytes of an element; 0: none of these */

#endif
