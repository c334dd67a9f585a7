/* The residual block of the UNet and the autoencoder (He et al. 2016, as used by Ho et al. 2020). */
#ifndef ATL_RESNET_H
#define ATL_RESNET_H

#include "infer/weights/weights.h"
#include "kernels/ops.h"

typedef struct ResnetBlock {
    Layer norm1, conv1, time_emb_proj, norm2, conv2, conv_shortcut; /* the last where channels change */
    int groups;
    float eps;
} ResnetBlock;

/* Asks w for the layers of PATH.norm1 …; temb: width of the time embedding, 0 for none. */
void resnet_init(ResnetBlock *b, Weights *w, LayerSet *set, const char *path, int in, int out, int temb,
                 int groups, float eps);

/* in[0] x (B,H,W,in), in[1] silu of the time embedding (B,T), or n = 1 -> (B,H,W,out). A BlockFn. */
Tensor *resnet_block(Ctx *c, const void *arg, Tensor **in, int n);

#endif
