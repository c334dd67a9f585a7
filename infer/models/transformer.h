/* The spatial transformer of the UNet (Rombach et al. 2022, figure 3 and appendix E.2.1): feature maps attend
 * to themselves and to the text. */
#ifndef ATL_TRANSFORMER_H
#define ATL_TRANSFORMER_H

#include "infer/weights/weights.h"
#include "kernels/ops.h"

typedef struct AttentionLayers {
    Layer to_q, to_k, to_v, to_out;
} AttentionLayers;

typedef struct TransformerBlock {
    Layer norm1, norm2, norm3;
    AttentionLayers attn1, attn2; /* to itself, to the text */
    Layer ff_in, ff_out;
    int heads;
} TransformerBlock;

typedef struct Transformer {
    Layer norm, proj_in, proj_out;
    TransformerBlock *blocks;
    int count, groups;
} Transformer;

typedef struct TransformerShape {
    int channels, heads, groups, blocks, text_dim;
    bool linear_projection; /* proj_in and proj_out are stored as linear layers, else as 1×1 convolutions */
} TransformerShape;

/* Asks w for the layers of PATH.norm …. Status: out of memory only; failures of layers are kept in w. */
Status transformer_init(Transformer *t, Weights *w, LayerSet *set, const char *path,
                        const TransformerShape *s);
void transformer_free(Transformer *t); /* its own memory; the layers belong to the set */

/* x (B,H,W,C), text (B,T,D) -> (B,H,W,C). A checkpointed() segment where it has one block, else each of them
 * is: SDXL's ten would keep ten times as much at once. */
Tensor *transformer(Ctx *c, const Transformer *t, Tensor *x, Tensor *text);

#endif
