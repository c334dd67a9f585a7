/* A device: a table of functions over raw tensors, one file per family in kernels/cpu and kernels/cuda.
 *
 * A function gets tensors with data and returns a Status; shapes have been checked by the operation. What it
 * computes may be queued: it has happened once settle() returns, in the order of the calls, so tensors and
 * descriptors are read at the call, and what their data points to later. A process drives one device, so the
 * queue is the device's own. Whatever the storage dtypes (f32, bf16, f16, mixed), sums are f32 or better.
 * Where memory is needed beyond the arguments, the matching …_scratch function says how many bytes for these
 * shapes (data pointers are NULL then), or that they cannot be computed, and `scratch` is that memory, of the
 * device's alignment. Results depend on shapes, instruction set and threads alone. */
#ifndef ATL_DEVICE_H
#define ATL_DEVICE_H

#include "ops.h"

/* y = alpha op(a) op(b) + beta y + bias; op(a) (m,k), op(b) (k,n), y (m,n), as they lie row by row, whatever
 * their number of dimensions. bias (n) or NULL, added when beta is 0 or 1 alike.
 *
 * With alpha 1 and beta 0 more may follow while y is at hand, each in its turn or NULL: the residual (m,n) is
 * added; scale t up^T is added, t (m,r), up (n,r). And last, with geglu, what is above is h (m,n), and y
 * (m,n/2) its first half times gelu of its second; keep_h, or NULL, is where h is wanted, of y's type. h is
 * rounded to y's type either way. */
typedef struct Product {
    int64_t m, n, k;
    bool trans_a, trans_b; /* a is (k,m), b is (n,k) */
    float alpha, beta;
    const Tensor *a, *b, *bias, *residual, *t, *up;
    float scale;
    bool geglu;
    bool narrow; /* b in 8 bits may be multiplied as it is, with a rounded to 8 bits too */
    bool tf32;   /* f32 operands may be rounded to TF32 */
    Tensor *y, *keep_h;
} Product;

/* x (B,H,W,C), w (K,C,kh,kw), y (B,H',W',K). The forward adds bias (K) and per_picture (B,K), the same at
 * every position, and residual, like y; each may be NULL. */
typedef struct Conv {
    ConvShape s;
    const Tensor *x, *w, *bias, *per_picture, *residual,
        *y;       /* forward: writes y->data. backward data: reads y's grad, writes x's grad */
    Layer *layer; /* whose weight does not change for now and may be kept packed, or NULL */
    bool narrow;  /* forward: w in 8 bits may be multiplied as it is, with x rounded to 8 bits too */
    bool tf32;    /* f32 operands may be rounded to TF32 */
} Conv;

/* q (B,N,heads*d), k v (B,M,heads*d), out like q. lse f32 (B,heads,N): log of the sum of exponentials, kept
 * for the backward. */
typedef struct Attention {
    int heads, threads;
    bool causal;
    bool narrow; /* forward: q, k and v may be rounded to 8 bits, and lse be left as it is */
    bool tf32;   /* f32 operands may be rounded to TF32 */
    const Tensor *q, *k, *v;
    Tensor *out, *lse;
    const Tensor *grad_out;           /* backward */
    Tensor *grad_q, *grad_k, *grad_v; /* any may be NULL */
} Attention;

/* Group norm: x (B,…,C), mean and rstd f32 (B,groups). Layer norm: rows (N,C), groups 0, mean and rstd f32
 * (N). w, b (C). mean and rstd are made by the forward and read by the backward. */
typedef struct Norm {
    int groups;
    float eps;
    bool silu;  /* group norm: y = silu of it */
    bool given; /* group norm: by the mean and rstd that are there, instead of x's own */
    const Tensor *x, *w, *b;
    Tensor *y, *mean, *rstd; /* group norm: no y, mean and rstd alone */
    const Tensor *grad_y;
    Tensor *grad_x, *grad_w, *grad_b; /* backward: any may be NULL; those of w and b, f32, are added to */
} Norm;

/* A tensor's part of a flat block (kernels/flat.h): sums are taken tensor by tensor, in the order of the
 * list. */
typedef struct Segment {
    int64_t first, count;
    int group; /* which of an update's rates is its own */
} Segment;

#define UPDATE_GROUPS 4
#define UPDATE_STATES 2 /* blocks that an optimizer may keep: m and v below */

typedef enum UpdateKind {
    UPDATE_ADAMW,     /* Loshchilov & Hutter 2019, as torch.optim.AdamW */
    UPDATE_ADAMW8BIT, /* the same with m and v in 8 bits: kernels/state8.h */
} UpdateKind;

/* One step of an optimizer over whole blocks. What numbers it has may differ from step to step of a
 * recording; the list, and what `from` points to, stay. */
typedef struct Update {
    UpdateKind kind;
    double beta1, beta2, eps, weight_decay;
    int64_t step; /* from 1; updates that were skipped do not count */
    const Segment *segments;
    int count;
    double rates[UPDATE_GROUPS];
    double unscale; /* factor that takes the loss scaling out of the gradients; 1: there is none */
    double clip;    /* most that the gradients' norm may be; 0: no limit */
    float decay;    /* average = decay average + (1 - decay) w */
    const float
        *from; /* of each segment every stride-th weight, as it was at the start, one after the other */
    int64_t stride;
    bool measure_only; /* nothing moves: the norm alone is wanted */
    double
        other_squares; /* of gradients that are somewhere else and belong to the norm; as they are, scaled */
    bool more;  /* of a step's updates, each of some of its tensors, not the first: clipped by their own norm;
                   all but the list is as it was at the first, and in the same scratch memory, and the numbers
                   are added to those that are there */
    int number; /* what the first segment is called in StepNumbers.segment */
} Update;

/* What an update has to say. */
typedef struct StepNumbers {
    double norm;                 /* of all gradients, unscaled and before clipping */
    double moved[UPDATE_GROUPS]; /* sums of squares of what the weights changed by, for each group */
    double change;               /* square of what they differ by from the start, by the weights in `from` */
    int segment;  /* the first whose gradient, or else whose weight by now, is not finite; −1 */
    bool skipped; /* the norm is not finite: nothing was changed, nor is until this is cleared */
} StepNumbers;

struct Device {
    const char *name; /* "cpu", "cuda" */
    const char
        *chip; /* "avx2"; "NVIDIA GeForce RTX 3060, 8.6, 28 processors, CUDA 13.0": bytes depend on it */

    /* memory and the queue */
    size_t alignment;                           /* of tensors and scratch memory, bytes: 64 on the CPU */
    bool lacks_bf16;                            /* neither stores it nor computes in it */
    bool has_tf32;                              /* products of f32 rounded to TF32, where they may be */
    bool host_memory;                           /* its memory is the host's: tensors on it have no home */
    void *(*memory_new)(size_t bytes);          /* NULL: out of memory (message set); contents undefined */
    void (*memory_free)(void *p, size_t bytes); /* NULL allowed; nothing that is queued may use it */
    size_t (*memory_left)(
        void);        /* bytes that could still be taken; NULL: the machine is asked, or no limit */
    size_t own_bytes; /* that its libraries take of its memory for their work */
    Status (*put)(void *to, const void *host, size_t bytes);   /* host may be changed on return */
    Status (*get)(void *host, const void *from, size_t bytes); /* host is filled once settle() returns */
    Status (*clear)(void *at, size_t bytes);                   /* to zeros */
    Status (*settle)(void); /* everything queued has been done; its first failure since the last call */
    /* Weights that lie in the host's memory (NULL: it is the device's too). pinned_new: memory that the
     * device copies from by itself. fetch: begins a copy from there, after everything queued so far and
     * beside what is queued next; what is queued after fetched() of the same slot (0 or 1) finds it done. */
    void *(*pinned_new)(size_t bytes); /* NULL: out of memory (message set) */
    void (*pinned_free)(void *p, size_t bytes);
    Status (*fetch)(void *to, const void *pinned, size_t bytes, int slot);
    Status (*fetched)(int slot);
    const struct CommTransport *transport; /* how its memory travels between processes
                                              (kernels/comm/transport.h); NULL: through the host's */
    /* Makes now what the device's libraries would make at the first use (code, buffers) of what has been
     * rehearsed, so that the process's memory tells how much that is. NULL: nothing. */
    Status (*warm_up)(void);
    /* A step as one thing (a CUDA graph). Calls after record() are kept and not run; recorded() runs them: as
     * the recording of before, where they are the same call for call, and *again says so; else as they are,
     * and they are the recording then. *recording begins as NULL. NULL: the device has none, and a step is
     * itself each time. */
    Status (*record)(void **recording);
    Status (*recorded)(void **recording, bool *again);
    void (*forget)(void *recording);
    /* The first element that is NaN or infinite and its value; *index -1: none. Settles first. */
    Status (*first_not_finite)(const Tensor *t, int64_t *index, double *value);

    Status (*copy)(const Tensor *from, Tensor *to); /* any floating dtype to any; same count */
    Status (*fill)(Tensor *t, float value);
    /* y = w times its scales: w i8, scales f32, one for each index of w's first dimension */
    Status (*decode)(const Tensor *w, const Tensor *scales, Tensor *y);

    /* linear */
    bool product_decodes; /* b, and the w of a convolution that is not the gradient, may be i8 with its scales
                           */
    Status (*product_scratch)(const Product *p, size_t *bytes);
    Status (*product)(const Product *p, void *scratch);
    Status (*column_sum)(const Tensor *g, Tensor *out,
                         bool accumulate); /* g (N,C) -> f32 (C): bias gradients */
    /* y = factor a ⊗ b, all f32 and matrices of their first dimension's rows: a (A,B), b (C,D) -> (AC,BD).
     * Gradients are added to; either may be NULL */
    Status (*kronecker)(float factor, const Tensor *a, const Tensor *b, Tensor *y);
    Status (*kronecker_backward)(float factor, const Tensor *a, const Tensor *b, const Tensor *grad_y,
                                 Tensor *grad_a, Tensor *grad_b);

    /* conv */
    Status (*conv2d_scratch)(const Conv *a, size_t *bytes);
    Status (*conv2d)(const Conv *a, void *scratch);
    Status (*conv2d_backward_data_scratch)(const Conv *a, size_t *bytes);
    Status (*conv2d_backward_data)(const Conv *a, void *scratch); /* a->y is grad y, a->x receives grad x */
    Status (*conv2d_backward_weight_scratch)(const Conv *a, size_t *bytes);
    /* a->x input, a->y grad y; a->w (f32) += gradient; a->bias (f32, or NULL) += gradient */
    Status (*conv2d_backward_weight)(const Conv *a, void *scratch);
    /* layer->packed: the forms that steps, rehearsed or run, have kept of the weight since unpack(), made or
     * not; and without them */
    bool packs_from_host; /* it packs a frozen convolution from the host's memory, and needs no other copy of
                             it */
    size_t (*packed_bytes)(const Layer *l);
    void (*unpack)(Layer *l);

    /* norm */
    Status (*group_norm_scratch)(const Norm *n, size_t *bytes);
    Status (*group_norm)(const Norm *n, void *scratch);
    Status (*group_norm_backward_scratch)(const Norm *n, size_t *bytes);
    Status (*group_norm_backward)(const Norm *n, void *scratch);
    Status (*layer_norm)(const Norm *n);
    Status (*layer_norm_backward_scratch)(const Norm *n, size_t *bytes);
    Status (*layer_norm_backward)(const Norm *n, void *scratch);

    /* pointwise */
    Status (*silu)(const Tensor *x, Tensor *y);
    Status (*silu_backward)(const Tensor *x, const Tensor *grad_y, Tensor *grad_x);
    Status (*gelu)(const Tensor *x, Tensor *y);
    Status (*gelu_backward)(const Tensor *x, const Tensor *grad_y, Tensor *grad_x);
    Status (*quick_gelu)(const Tensor *x, Tensor *y);
    Status (*quick_gelu_backward)(const Tensor *x, const Tensor *grad_y, Tensor *grad_x);
    Status (*geglu)(const Tensor *x, Tensor *y);
    Status (*geglu_backward)(const Tensor *x, const Tensor *grad_y, Tensor *grad_x);
    Status (*add)(const Tensor *a, const Tensor *b, Tensor *y); /* y may be a or b */
    Status (*multiply)(const Tensor *a, const Tensor *b, Tensor *y);
    Status (*sum_per_channel)(const Tensor *g, Tensor *v); /* (B,…,C) -> (B,C) */
    Status (*add_rows)(const Tensor *x, const Tensor *rows, Tensor *y);
    Status (*sum_rows)(const Tensor *g, Tensor *rows); /* (B,T,D): f32 rows += sum over B */

    /* attention */
    Status (*attention_scratch)(const Attention *a, size_t *bytes);
    Status (*attention)(const Attention *a, void *scratch);
    Status (*attention_backward_scratch)(const Attention *a, size_t *bytes);
    Status (*attention_backward)(const Attention *a, void *scratch);

    /* shape */
    Status (*concat)(const Tensor *a, const Tensor *b, Tensor *y);
    Status (*slice_channels)(const Tensor *x, int64_t first, Tensor *y);
    Status (*from_nchw)(const Tensor *x, Tensor *y);
    Status (*to_nchw)(const Tensor *x, Tensor *y);

    /* embedding */
    Status (*embedding)(const Tensor *ids, const Tensor *w, Tensor *y);
    Status (*embedding_backward)(const Tensor *ids, const Tensor *grad_y, Tensor *grad_w); /* f32, added to */
    Status (*take_rows)(const Tensor *x, const Tensor *rows, Tensor *y);
    Status (*take_rows_backward)(const Tensor *rows, const Tensor *grad_y, Tensor *grad_x);
    Status (*timestep_embedding)(const Tensor *t, bool flip_sin_to_cos, float downscale_freq_shift,
                                 Tensor *y);

    /* loss */
    Status (*mse_loss)(const Tensor *p, const Tensor *t, const Tensor *weight, Tensor *loss,
                       Tensor *per_sample);
    Status (*mse_loss_backward)(const Tensor *p, const Tensor *t, const Tensor *weight,
                                const Tensor *grad_loss, Tensor *grad_p);

    /* optimizer: whole flat f32 blocks. Norm, clipping, the weights' move, the averages' (NULL: none) and all
     * of the numbers, which lie where the device can write them */
    Status (*update_scratch)(const Update *u, size_t *bytes); /* by kind and segments */
    Status (*update)(const Update *u, Tensor *w, const Tensor *g, Tensor *m, Tensor *v, Tensor *average,
                     StepNumbers *numbers, void *scratch);
    Status (*exchange)(Tensor *a, Tensor *b); /* the contents */
};

/* The processor, by what it has; ATELIER_ISA=baseline|avx2|avx512 caps it, so that every path can be tested.
 * The first call decides. */
const Device *device_cpu(void);
/* "avx512+bf16", "avx512", "avx2" or "baseline": what device_cpu() chose. */
const char *device_cpu_isa(void);
/* Alignment, memory and the queue that is none: the same for every instruction set. */
void device_cpu_memory(Device *d);

#endif
