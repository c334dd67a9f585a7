/* A layer: a weight, a bias, the name that files use for it, and the adapters attached to it.
 *
 * Models hold layers and hand them to operations; attaching a LoRA, freezing or quantising changes the layer
 * and never the model. Weights keep the layout of the files: linear (out,in), convolution (out,in,kh,kw),
 * norms (channels), embedding (count,channels). What a device wants packed it packs itself. */
#ifndef ATL_LAYER_H
#define ATL_LAYER_H

#include "tensor.h"

/* One low-rank adapter: y += scale * up(down(x)); LoRA, Hu et al. 2021. down (rank,in[,1,1]), up
 * (out,rank[,1,1]). Trained adapters are f32 with requires_grad. Owned by whoever attached it. */
typedef struct Adapter Adapter;
struct Adapter {
    Tensor *down, *up;
    float scale; /* user's weight * alpha / rank */
    Adapter *next;
};

typedef struct Layer {
    const char *name; /* path in the model's files without ".weight": "down_blocks.0.resnets.0.conv1" */
    Tensor *weight;   /* NULL: the layer is absent (conv_shortcut where channels do not change) */
    Tensor *bias;     /* or NULL */
    Adapter *adapters;
    void *packed;  /* the device's own forms of a weight that does not change, made at first use */
    bool pack_off; /* none is kept: they are made anew at each call, in the step's own memory */
    bool still;    /* a trained weight that does not change for now: its form for the forward lies in its
                      gradient's storage, which nothing else needs between two steps */
} Layer;

/* True if a gradient has to reach any parameter of the layer. */
static inline bool layer_trained(const Layer *l)
{
    if ((l->weight && l->weight->requires_grad) || (l->bias && l->bias->requires_grad))
        return true;
    for (const Adapter *a = l->adapters; a; a = a->next)
        if (a->down->requires_grad || a->up->requires_grad)
            return true;
    return false;
}

/* The storage that the backward pass adds w's gradient to; NULL: frozen, or no weight. */
static inline Tensor *weight_grad(const Tensor *w)
{
    return w && w->requires_grad ? w->grad : NULL;
}

#endif
