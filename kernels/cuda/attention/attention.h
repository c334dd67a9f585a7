/* What the files of attention share: the sizes as kernels get them, and who computes what.
 *
 * attention.cu has the table, the choice and the way for any types and any head size, in f32 without tensor
 * cores; attention_forward.cu and attention_backward.cu the tiles on tensor cores, for tensors of 16 bits,
 * or of f32 that may be rounded to TF32, that lie on 16 bytes, with heads of up to TILES_WIDEST columns; the
 * forward for any. */
#ifndef ATL_CUDA_ATTENTION_H
#define ATL_CUDA_ATTENTION_H

#include "kernels/cuda/base/kernel.h"

/* One head's rows: element (row,i) of picture b, head h lies at (b*tokens + row)*stride + h*d + i. An
 * argument of kernels: begin it as {}. */
typedef struct HeadSizes {
    int64_t stride; /* columns of a row: heads*d */
    int N, M;       /* queries, keys */
    int padded;     /* queries, up to a multiple of SAVED_QUERIES */
    int heads, d;   /* of one head */
    int causal;     /* query i meets keys 0…i */
    float scale, c; /* 1/√d, and that in powers of two: log2(e)/√d */
    int range; /* queries of each range that gradients of keys and values are made from, one after the other
                */
} HeadSizes;

/* What the backward keeps of each query beside the tensors. */
typedef struct __align__(8) SavedQuery
{
    float lse; /* in powers of two; +infinity where there is no query, so that its weights are 0 */
    float D;   /* Σ do∘out; 0 there */
}
SavedQuery;
#define SAVED_QUERIES 128

/* Of the backward, in its scratch memory: saved (B,heads,padded), and where the queries are cut into ranges
 * each range's gradients of keys and values in f32, (ranges,B,M,heads*d). */
typedef struct BackwardPlan {
    HeadSizes sizes;
    int pictures, ranges;
    SavedQuery *saved;
    float *part_k, *part_v; /* NULL: one range writes the gradients themselves */
} BackwardPlan;

HeadSizes attention_sizes(const Attention *a);

/* attention_forward.cu, attention_backward.cu: on tensor cores. */
#define TILES_WIDEST 160
#define TILES_WIDEST_F32 80                    /* whose operands take twice the registers */
bool attention_fits_tiles(const Attention *a); /* types, head size, alignment */
Status attention_forward_tiles(const Attention *a);
Status attention_backward_tiles(const Attention *a, const BackwardPlan *plan);

#define LOG2_E 1.44269504088896341f
#define LN_2 0.693147180559945309f

#endif
