/* Norm, SiLU, 3×3 convolution, twice; the time embedding is added in between, the input at the end. */
#include "resnet.h"

void resnet_init(ResnetBlock *b, Weights *w, LayerSet *set, const char *path, int in, int out, int temb,
                 int groups, float eps)
{
    b->groups = groups;
    b->eps = eps;
    weights_layer(w, set, &b->norm1, LAYER_NORM, true, 1, (int64_t[]){in}, "%s.norm1", path);
    weights_layer(w, set, &b->conv1, LAYER_CONV, true, 4, (int64_t[]){out, in, 3, 3}, "%s.conv1", path);
    if (temb)
        weights_layer(w, set, &b->time_emb_proj, LAYER_LINEAR, true, 2, (int64_t[]){out, temb},
                      "%s.time_emb_proj", path);
    weights_layer(w, set, &b->norm2, LAYER_NORM, true, 1, (int64_t[]){out}, "%s.norm2", path);
    weights_layer(w, set, &b->conv2, LAYER_CONV, true, 4, (int64_t[]){out, out, 3, 3}, "%s.conv2", path);
    if (in != out)
        weights_layer(w, set, &b->conv_shortcut, LAYER_CONV, true, 4, (int64_t[]){out, in, 1, 1},
                      "%s.conv_shortcut", path);
}

Tensor *resnet_block(Ctx *c, const void *arg, Tensor **in, int n)
{
    const ResnetBlock *b = arg;
    Tensor *x = in[0];
    Tensor *temb = n > 1 ? linear(c, &b->time_emb_proj, in[1]) : NULL;
    Tensor *h = group_norm_silu(c, &b->norm1, b->groups, b->eps, x);
    h = conv2d_add(c, &b->conv1, CONV_SAME, h, temb, NULL);
    h = group_norm_silu(c, &b->norm2, b->groups, b->eps, h);
    Tensor *shortcut = b->conv_shortcut.weight ? conv2d(c, &b->conv_shortcut, CONV_POINTWISE, x) : x;
    return conv2d_add(c, &b->conv2, CONV_SAME, h, NULL, shortcut);
}
