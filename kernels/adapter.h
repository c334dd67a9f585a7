/* Kinds of adapters: what the tensors of an Adapter are, and what a layer y = W x + b becomes with them.
 *
 * There are two families. A low-rank kind rides on the product and never makes a weight: LoRA adds
 * scale · up(down(x)). The others build ΔW, of the weight's own shape, and it is used as a second weight
 * beside W, which so keeps its storage and its packed form: LoHa (two products of matrices multiplied with
 * each other), LoKr (a Kronecker product), and any kind under DoRA's factors (layer.h). A kind is one file,
 * kernels/ops/adapter_NAME.c, and its name in ATL_ADAPTERS; tests/kernels/adapter.c and infer/adapters do not
 * link without what they need of it. How files call the tensors is infer/'s matter. */
#ifndef ATL_ADAPTER_H
#define ATL_ADAPTER_H

#include "ctx.h"

#define ATL_ADAPTERS(X) X(lora) X(loha) X(lokr)

/* A layer's weight at its place: over the last dimension of its input, or as a convolution (ops/adapter.h).
 */
typedef struct Site Site;

struct AdapterKind {
    const char *name;                   /* "lora" */
    const char *title;                  /* "LoRA": for messages */
    const char *roles[ADAPTER_TENSORS]; /* "down", "up": its tensors, in their order */
    /* Whether those tensors are there that must be and fit the weight w; fails with what is wrong. */
    Status (*check)(const Adapter *a, const Tensor *w);
    /* What files divide alpha by, of the tensors that are there; 0: they have no rank, and alpha says
     * nothing. */
    int64_t (*rank)(const Adapter *a);

    /* Low-rank: y += its share, and back: gradients of its trained tensors are added to, and grad x (or
     * NULL) too. x is NULL where nothing of the layer is trained. */
    void (*add)(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, Tensor *y);
    void (*backward)(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, const Tensor *g,
                     Tensor *grad_x);

    /* Of those that can: t (…,r), so that a product over the last dimension adds scale · t upᵀ itself, in
     * place of add. */
    const Tensor *(*ride)(Ctx *c, const Adapter *a, const Site *at, const Tensor *x, const Tensor **up);

    /* Of all kinds: scale · ΔW, f32 and shaped like w, and from its gradient those of the trained tensors. */
    Tensor *(*delta)(Ctx *c, const Adapter *a, const Tensor *w);
    void (*delta_backward)(Ctx *c, const Adapter *a, const Tensor *grad_delta);
};

#define ADAPTER_DECLARE(name) extern const AdapterKind adapter_##name;
ATL_ADAPTERS(ADAPTER_DECLARE)

/* Hu et al. 2021. down (r,in[,kh,kw]), up (out,r[,1,1]). */
enum { LORA_DOWN, LORA_UP };
/* Hyeon-Woo et al. 2022, as in LyCORIS: ΔW = (w1_a w1_b) ⊙ (w2_a w2_b); a (out,r), b (r,in·kh·kw). */
enum { LOHA_W1_A, LOHA_W1_B, LOHA_W2_A, LOHA_W2_B };
/* Edalati et al. 2022, as in LyCORIS: ΔW = w1 ⊗ w2; w1 (o,i), w2 (out/o,in/i[,kh,kw]), each whole or the
 * product of its a (rows,r) and b (r,columns). */
enum { LOKR_W1, LOKR_W1_A, LOKR_W1_B, LOKR_W2, LOKR_W2_A, LOKR_W2_B };

#endif
