/* What is known of oneDNN, in the two shapes that distributions ship: 2.x with operation descriptors
 * and 3.x without. Everything else sees primitives by what they compute, made once and kept.
 *
 * A primitive is looked up by its whole description (shapes, types, layouts, threads); the first look-up
 * makes its plan (sizes of operands and scratch memory), the first run its code. Threads that compute with
 * contexts of their own may call it; never from inside of a parallel region, but for onednn_sgemm(). Weights
 * of convolutions are in oneDNN's own order: onednn_pack() makes it from the files' (K,C,kh,kw),
 * onednn_unpack_add() adds a gradient back. */
#ifndef ATL_CPU_ONEDNN_H
#define ATL_CPU_ONEDNN_H

#include "kernels/tensor.h"

typedef struct OnePrimitive OnePrimitive;

/* "2.6.3" */
const char *onednn_version(void);
/* Lets oneDNN use no more than avx2 or sse41, in the whole process; before the first primitive only. */
void onednn_cap_isa(bool avx2);
/* Whether it multiplies bf16 in bf16 here: a user may have capped it, too (ONEDNN_MAX_CPU_ISA). No cap after
 * this. */
bool onednn_has_bf16(void);

/* y = alpha op(a) op(b) + beta y, all f32, row-major; single-threaded inside a parallel region. */
Status onednn_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *y, int64_t ldy);

/* Tells that it will be called like this. */
void onednn_expect_sgemm(bool trans_a, bool trans_b, float beta);

/* y = alpha op(a) op(b) + beta y + bias (f32, (n)) + add (laid out like y); beta is 0 or 1; alpha is 1 where
 * there is a bias; with add, alpha is 1 and beta 0. */
typedef struct OneMatmul {
    int64_t m, n, k, lda, ldb, ldy;
    DType type, y_type; /* of a and b; of y and add */
    bool trans_a, trans_b, bias, add;
    float alpha, beta;
} OneMatmul;

typedef enum OneConvKind { ONE_FORWARD, ONE_BACKWARD_DATA, ONE_BACKWARD_WEIGHT } OneConvKind;

/* x (B,H,W,C), y (B,OH,OW,K), both of type `type` and NHWC, or blocked: (B,C/8,H,W,8). Weights are of `type`,
 * bias f32; the weight's gradient is f32. ONE_BACKWARD_WEIGHT with bias also gives the bias's gradient. The
 * forward's y is of y_type, and is added to with sum. */
typedef struct OneConv {
    OneConvKind kind;
    int64_t b, h, w, c, k, kh, kw, oh, ow;
    int64_t stride, pad_top, pad_left, pad_bottom, pad_right;
    DType type, y_type;
    bool bias, blocked, sum;
} OneConv;

Status onednn_matmul(const OneMatmul *d, OnePrimitive **out);
Status onednn_conv(const OneConv *d, OnePrimitive **out);

size_t onednn_scratch_bytes(const OnePrimitive *p);
size_t
onednn_weight_bytes(const OnePrimitive *p);      /* the packed weight (or weight gradient) of a convolution */
int onednn_weight_format(const OnePrimitive *p); /* equal numbers: one packed weight serves both */

/* a, b (weights), bias (or NULL) and y; for ONE_BACKWARD_DATA a is grad x (written) and y is grad y; for
 * ONE_BACKWARD_WEIGHT b and bias are written. scratch has onednn_scratch_bytes(). */
Status onednn_run(OnePrimitive *p, void *a, void *b, void *bias, void *y, void *scratch);
/* The same with what a matrix product adds. */
Status onednn_run_add(OnePrimitive *p, void *a, void *b, void *bias, void *y, void *add, void *scratch);

/* weight (K,C,kh,kw) f32 or bf16 -> packed, in the order and type of p. */
Status onednn_pack(OnePrimitive *p, const void *weight, DType type, void *packed);
/* weight gradient (K,C,kh,kw) f32 += packed, in the order of p. */
Status onednn_unpack_add(OnePrimitive *p, const void *packed, float *gradient);

/* Makes now what the first runs would make: the code of every primitive that has been looked up, and sgemm's
 * where it is expected. Runs one small product with all threads, for what else comes to be touched. */
Status onednn_warm_up(void);

#endif
