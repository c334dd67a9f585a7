/* Every operation that models are made of: one commented prototype each.
 *
 * kernels/ops/FAMILY.c has an operation's shape rule, what it keeps and its backward; kernels/cpu/FAMILY.c
 * its arithmetic; tests/kernels/FAMILY.c its gradient test. Letters: B pictures, H W height and width, C K
 * channels in and out, T tokens, D width of a token, N rows. x is (…,C) unless said otherwise; feature maps
 * are NHWC. Activations have the context's dtype; arithmetic is f32 or better inside, whatever they are
 * stored in. All are no-ops after a failure and return a tensor of the right shape. */
#ifndef ATL_OPS_H
#define ATL_OPS_H

#include "ctx.h"

/* The table of operations: tests/kernels has a gradient test for each, and does not link without it. */
/* clang-format off */
#define ATL_OPS(X)                                                                                              \
    X(linear) X(linear_add) X(linear_geglu) X(conv2d) X(conv2d_add) X(group_norm) X(group_norm_silu)    \
    X(layer_norm) X(silu) X(gelu) X(quick_gelu) X(geglu) X(attention) X(embedding) X(take_rows) X(concat) X(add)  \
    X(add_rows) X(multiply) X(reshape) X(slice_batch) X(cast) X(mse_loss)
/* clang-format on */

/* linear family ---------------------------------------------------------------------------------------- */

/* y = x W^T + b + adapters; x (…,in) -> (…,out). Also takes a 1×1 convolution's weight (out,in,1,1). */
Tensor *linear(Ctx *c, const Layer *l, Tensor *x);
/* The same + residual (…,out). */
Tensor *linear_add(Ctx *c, const Layer *l, Tensor *x, Tensor *residual);
/* The same under a GEGLU (Shazeer 2020): h = linear(x) (…,2C) -> (…,C): a * gelu(b), a = first half, b =
 * second half of the last dimension. h is in memory only where the backward pass needs it. */
Tensor *linear_geglu(Ctx *c, const Layer *l, Tensor *x);

/* conv family ------------------------------------------------------------------------------------------ */

typedef struct ConvShape {
    int stride; /* 1 or 2 */
    int pad_top, pad_left, pad_bottom, pad_right;
    bool upsample; /* of x doubled in height and width (nearest), which never exists; only 3×3 that keeps the
                      size */
} ConvShape;
#define CONV_SAME ((ConvShape){1, 1, 1, 1, 1, false})      /* 3×3, keeps the size */
#define CONV_UP ((ConvShape){1, 1, 1, 1, 1, true})         /* 3×3 after doubling the size */
#define CONV_POINTWISE ((ConvShape){1, 0, 0, 0, 0, false}) /* 1×1 */
#define CONV_DOWN ((ConvShape){2, 1, 1, 1, 1, false})      /* UNet's downsampling */
#define CONV_DOWN_ASYMMETRIC                                                                                 \
    ((ConvShape){2, 0, 0, 1, 1, false}) /* VAE encoder's: pads right and bottom only */

/* x (B,H,W,C), weight (K,C,kh,kw) -> (B,H',W',K), with adapters. */
Tensor *conv2d(Ctx *c, const Layer *l, ConvShape s, Tensor *x);
/* The same + per_picture (B,K), at every position, + residual (B,H',W',K); either may be NULL. */
Tensor *conv2d_add(Ctx *c, const Layer *l, ConvShape s, Tensor *x, Tensor *per_picture, Tensor *residual);

/* norm family ------------------------------------------------------------------------------------------ */

/* Wu & He 2018. x (B,…,C): groups of C/groups channels over all positions; weight, bias (C). */
Tensor *group_norm(Ctx *c, const Layer *l, int groups, float eps, Tensor *x);
Tensor *group_norm_silu(Ctx *c, const Layer *l, int groups, float eps, Tensor *x);
/* In a step on parts of a map, group norms can go by other statistics than those of each picture in x
 * (ctx_set_statistics): by given ones, or by what the pictures have together. The norms are counted in the
 * order in which the step comes to them; of each there are two rows of numbers for its groups. */
typedef struct GroupStatistics {
    Tensor *given; /* f32 (2·norms,groups): means, 1/deviations; NULL: those of all pictures together */
    Tensor
        *correction;  /* of the latter: what is added to means, what 1/deviations are times; NULL: nothing */
    Tensor *measured; /* as given, written: those of x, uncorrected; NULL: nothing is */
    /* What of x, one picture, is measured where they are given: so many rows and columns from (top,left), in
     * a measure in which x has height and width. */
    int height, width, top, left, rows, columns;
    int next; /* norm; 0 at the beginning */
} GroupStatistics;
/* Ba et al. 2016. Over the last dimension. */
Tensor *layer_norm(Ctx *c, const Layer *l, float eps, Tensor *x);

/* pointwise family ------------------------------------------------------------------------------------- */

Tensor *silu(Ctx *c, Tensor *x);       /* x σ(x) */
Tensor *gelu(Ctx *c, Tensor *x);       /* x Φ(x), exact (erf) */
Tensor *quick_gelu(Ctx *c, Tensor *x); /* x σ(1.702 x), CLIP ViT-L */
/* Shazeer 2020: x (…,2C) -> (…,C): a * gelu(b), a = first half, b = second half of the last dimension. */
Tensor *geglu(Ctx *c, Tensor *x);
Tensor *add(Ctx *c, Tensor *a, Tensor *b);      /* same shape */
Tensor *multiply(Ctx *c, Tensor *a, Tensor *b); /* same shape */
/* x (B,T,D) + the first T rows of layer's weight (N,D): CLIP's position embedding. */
Tensor *add_rows(Ctx *c, const Layer *l, Tensor *x);
Tensor *cast(Ctx *c, Tensor *x, DType dtype);

/* attention family ------------------------------------------------------------------------------------- */

/* softmax(q k^T / sqrt(d)) v per head, without the score matrix in memory; q (B,N,heads*d), k v (B,M,heads*d)
 * -> (B,N,heads*d). Dao et al. 2022 (the idea), Rabe & Staats 2021. */
typedef enum AttentionFlags {
    ATTENTION_CAUSAL = 1, /* query i sees keys 0…i */
    ATTENTION_NARROW =
        2, /* products may be of 8 bits where nothing is trained, as of a Layer that is narrow */
} AttentionFlags;
Tensor *attention(Ctx *c, int heads, unsigned flags, Tensor *q, Tensor *k, Tensor *v);

/* shape family ----------------------------------------------------------------------------------------- */

Tensor *reshape(Ctx *c, Tensor *x, int ndim, const int64_t *shape); /* a view */
Tensor *concat(Ctx *c, Tensor *a, Tensor *b);                       /* along the last dimension */
/* Rows [first, first+count) of the first dimension; a view. */
Tensor *slice_batch(Ctx *c, Tensor *x, int64_t first, int64_t count);
/* No gradient: (B,H,W,C) -> (B,height,width,C), each position its nearest of x's. */
Tensor *upsample_to(Ctx *c, Tensor *x, int64_t height, int64_t width);
/* No gradient: x (1,H,W,C) -> (1,rows,columns,C), from (top,left) on; a view where it has x's columns. */
Tensor *crop(Ctx *c, Tensor *x, int64_t top, int64_t left, int64_t rows, int64_t columns);
/* No gradient: (B,C,H,W) f32 -> (B,H,W,C) in the context's dtype or in `dtype`, and back to f32. */
Tensor *from_nchw(Ctx *c, Tensor *x);
Tensor *from_nchw_as(Ctx *c, Tensor *x, DType dtype);
Tensor *to_nchw(Ctx *c, Tensor *x);

/* embedding family ------------------------------------------------------------------------------------- */

/* ids i32 (B,T), weight (N,D) -> (B,T,D) in the context's dtype. */
Tensor *embedding(Ctx *c, const Layer *l, Tensor *ids);
/* x (B,T,D), rows i32 (B) -> (B,D): token rows[b] of each b. A text's first end token is what SDXL pools. */
Tensor *take_rows(Ctx *c, Tensor *x, Tensor *rows);
/* Vaswani et al. 2017 as diffusers has it: t f32 (B) -> (B,dim); flip_sin_to_cos and downscale_freq_shift as
 * in the UNet's config. No gradient. */
Tensor *timestep_embedding(Ctx *c, Tensor *t, int64_t dim, bool flip_sin_to_cos, float downscale_freq_shift);

/* loss family ------------------------------------------------------------------------------------------ */

/* mean(weight (prediction − target)²); both (B,…,C), weight f32 (B), one for each position (B,…), or NULL ->
 * f32 (1). Per-sample means (unweighted) go to per_sample f32 (B) if it is not NULL. */
Tensor *mse_loss(Ctx *c, Tensor *prediction, Tensor *target, Tensor *weight, Tensor **per_sample);

#endif
