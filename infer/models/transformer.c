/* A feature map (B,H,W,C) is a sequence of H·W tokens as it lies; each block is self-attention, attention to
 * the text, and a feed-forward layer with GEGLU, each after a layer norm and added to its input. */
#include "transformer.h"

#include "kernels/base/mem.h"

#include <stdio.h>

#define GROUP_NORM_EPS 1e-6f /* diffusers' Transformer2DModel */
#define LAYER_NORM_EPS 1e-5f /* PyTorch's default */

static void attention_init(AttentionLayers *a, Weights *w, LayerSet *set, const char *path, int64_t width,
                           int64_t key_width)
{
    weights_layer(w, set, &a->to_q, LAYER_LINEAR, false, 2, (int64_t[]){width, width}, "%s.to_q", path);
    weights_layer(w, set, &a->to_k, LAYER_LINEAR, false, 2, (int64_t[]){width, key_width}, "%s.to_k", path);
    weights_layer(w, set, &a->to_v, LAYER_LINEAR, false, 2, (int64_t[]){width, key_width}, "%s.to_v", path);
    weights_layer(w, set, &a->to_out, LAYER_LINEAR, true, 2, (int64_t[]){width, width}, "%s.to_out.0", path);
}

static void block_init(TransformerBlock *b, Weights *w, LayerSet *set, const char *path, int64_t C,
                       int64_t text_dim)
{
    char name[192];
    weights_layer(w, set, &b->norm1, LAYER_NORM, true, 1, &C, "%s.norm1", path);
    snprintf(name, sizeof name, "%s.attn1", path);
    attention_init(&b->attn1, w, set, name, C, C);
    weights_layer(w, set, &b->norm2, LAYER_NORM, true, 1, &C, "%s.norm2", path);
    snprintf(name, sizeof name, "%s.attn2", path);
    attention_init(&b->attn2, w, set, name, C, text_dim);
    weights_layer(w, set, &b->norm3, LAYER_NORM, true, 1, &C, "%s.norm3", path);
    weights_layer(w, set, &b->ff_in, LAYER_LINEAR, true, 2, (int64_t[]){8 * C, C}, "%s.ff.net.0.proj", path);
    weights_layer(w, set, &b->ff_out, LAYER_LINEAR, true, 2, (int64_t[]){C, 4 * C}, "%s.ff.net.2", path);
}

Status transformer_init(Transformer *t, Weights *w, LayerSet *set, const char *path,
                        const TransformerShape *s)
{
    const int64_t C = s->channels;
    const int ndim = s->linear_projection ? 2 : 4;
    t->groups = s->groups;
    t->count = s->blocks;
    t->blocks = mem_calloc((size_t)s->blocks, sizeof *t->blocks);
    if (!t->blocks)
        return STATUS_FAILED;
    weights_layer(w, set, &t->norm, LAYER_NORM, true, 1, &C, "%s.norm", path);
    weights_layer(w, set, &t->proj_in, LAYER_LINEAR, true, ndim, (int64_t[]){C, C, 1, 1}, "%s.proj_in", path);
    for (int i = 0; i < t->count; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s.transformer_blocks.%d", path, i);
        t->blocks[i].heads = s->heads;
        block_init(&t->blocks[i], w, set, name, C, s->text_dim);
    }
    weights_layer(w, set, &t->proj_out, LAYER_LINEAR, true, ndim, (int64_t[]){C, C, 1, 1}, "%s.proj_out",
                  path);
    return STATUS_OK;
}

void transformer_free(Transformer *t)
{
    mem_free(t->blocks);
}

/* x (B,N,C) looks at y (B,M,D) -> (B,N,C), added to residual */
static Tensor *attend(Ctx *c, const AttentionLayers *a, int heads, Tensor *x, Tensor *y, Tensor *residual)
{
    Tensor *q = linear(c, &a->to_q, x), *k = linear(c, &a->to_k, y), *v = linear(c, &a->to_v, y);
    const unsigned flags = a->to_q.narrow ? ATTENTION_NARROW : 0;
    return linear_add(c, &a->to_out, attention(c, heads, flags, q, k, v), residual);
}

/* in[0] x (B,N,C), in[1] text (B,T,D) -> (B,N,C) */
static Tensor *transformer_block(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)n;
    const TransformerBlock *b = arg;
    const int heads = b->heads;
    Tensor *x = in[0], *text = in[1];
    Tensor *h = layer_norm(c, &b->norm1, LAYER_NORM_EPS, x);
    x = attend(c, &b->attn1, heads, h, h, x);
    h = layer_norm(c, &b->norm2, LAYER_NORM_EPS, x);
    x = attend(c, &b->attn2, heads, h, text, x);
    h = linear_geglu(c, &b->ff_in, layer_norm(c, &b->norm3, LAYER_NORM_EPS, x));
    return linear_add(c, &b->ff_out, h, x);
}

/* in[0] x (B,H,W,C), in[1] text (B,T,D) -> (B,H,W,C) */
static Tensor *whole(Ctx *c, const void *arg, Tensor **in, int n)
{
    (void)n;
    const Transformer *t = arg;
    Tensor *x = in[0], *text = in[1];
    const int64_t B = x->shape[0], H = x->shape[1], W = x->shape[2], C = x->shape[3];
    const int64_t tokens[] = {B, H * W, C};
    Tensor *h = group_norm(c, &t->norm, t->groups, GROUP_NORM_EPS, x);
    h = linear(c, &t->proj_in, reshape(c, h, 3, tokens));
    for (int i = 0; i < t->count; i++) {
        Tensor *both[] = {h, text};
        h = t->count > 1 ? checkpointed(c, transformer_block, &t->blocks[i], both, 2)
                         : transformer_block(c, &t->blocks[i], both, 2);
    }
    h = linear_add(c, &t->proj_out, h, reshape(c, x, 3, tokens));
    return reshape(c, h, 4, x->shape);
}

Tensor *transformer(Ctx *c, const Transformer *t, Tensor *x, Tensor *text)
{
    Tensor *both[] = {x, text};
    return t->count > 1 ? whole(c, t, both, 2) : checkpointed(c, whole, t, both, 2);
}
