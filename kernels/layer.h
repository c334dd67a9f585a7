/* A layer: a weight, a bias, the name that files use for it, and the adapters attached to it.
 *
 * Models hold layers and hand them to operations; attaching a LoRA, freezing or quantising changes the layer
 * and never the model. Weights keep the layout of the files: linear (out,in), convolution (out,in,kh,kw),
 * norms (channels), embedding (count,channels). What a device wants packed it packs itself. */
#ifndef ATL_LAYER_H
#define ATL_LAYER_H

#include "tensor.h"

/* What a layer adds to its product while its weight stays as it is. The kind (adapter.h) says what the
 * tensors are and what is done with them. Trained tensors are f32 with requires_grad. Owned by whoever
 * attached it. */
typedef struct AdapterKind AdapterKind;
typedef struct Adapter Adapter;
#define ADAPTER_TENSORS 8
struct Adapter {
    const AdapterKind *kind;
    Tensor *tensors[ADAPTER_TENSORS]; /* in the order of the kind's roles; NULL where it does without */
    float scale;                      /* user's weight * alpha / rank */
    /* DoRA, NULL for others: the change is weight_factor ⊙ W + delta_factor ⊙ ΔW, f32 numbers for each row
     * (out,1) or for each column (1,in·kh·kw). */
    Tensor *weight_factor, *delta_factor;
    Adapter *next;
};

typedef struct Layer {
    const char *name; /* path in the model's files without ".weight": "down_blocks.0.resnets.0.conv1" */
    Tensor *weight;   /* NULL: the layer is absent (conv_shortcut where channels do not change) */
    Tensor *bias;     /* or NULL */
    Adapter *adapters;
    unsigned changes;       /* how often an adapter came or went (layer_attach, layer_detach) */
    void *packed;           /* the device's own forms of a weight that does not change, made at first use */
    bool pack_off;          /* none is kept: they are made anew at each call, in the step's own memory */
    bool pack_forward_only; /* so are those for the backward pass alone */
    bool packed_only; /* the device keeps its own form of the weight alone, which itself stays in the host's
                         memory */
    bool streamed;    /* the weight stays in the host's memory, and operations fetch it (op_weight) */
    bool narrow; /* a weight in 8 bits, whose products may be of 8 bits on both sides where nothing is trained
                  */
    bool still;  /* a trained weight that does not change for now: its form for the forward lies in its
                    gradient's storage, which nothing else needs between two steps */
} Layer;

/* The last in the row from now on. */
static inline void layer_attach(Layer *l, Adapter *a)
{
    Adapter **end = &l->adapters;
    while (*end)
        end = &(*end)->next;
    *end = a;
    a->next = NULL;
    l->changes++;
}

/* Nothing where it is not attached. */
static inline void layer_detach(Layer *l, Adapter *a)
{
    for (Adapter **at = &l->adapters; *at; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            l->changes++;
            return;
        }
}

static inline bool adapter_trained(const Adapter *a)
{
    for (int i = 0; i < ADAPTER_TENSORS; i++)
        if (a->tensors[i] && a->tensors[i]->requires_grad)
            return true;
    return false;
}

static inline void adapter_free_tensors(Adapter *a)
{
    for (int i = 0; i < ADAPTER_TENSORS; i++)
        tensor_free(a->tensors[i]);
    tensor_free(a->weight_factor);
    tensor_free(a->delta_factor);
}

/* True if a gradient has to reach any of the layer's adapters. */
static inline bool layer_adapters_trained(const Layer *l)
{
    for (const Adapter *a = l->adapters; a; a = a->next)
        if (adapter_trained(a))
            return true;
    return false;
}

/* True if a gradient has to reach any parameter of the layer. */
static inline bool layer_trained(const Layer *l)
{
    return (l->weight && l->weight->requires_grad) || (l->bias && l->bias->requires_grad) ||
           layer_adapters_trained(l);
}

/* The storage that the backward pass adds w's gradient to; NULL: frozen, or no weight. */
static inline Tensor *weight_grad(const Tensor *w)
{
    return w && w->requires_grad ? w->grad : NULL;
}

#endif
