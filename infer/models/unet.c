/* The UNet. Down: each level is residual blocks (and transformers), then half the size; the middle; up: each
 * level takes back what the way down put aside, last first, then doubles the size.
 *
 *     conv_in ─ down 0 ─ down 1 ─ … ─ middle ─ … ─ up 0 ─ up 1 ─ conv_norm_out ─ conv_out
 *
 * The time embedding enters every residual block, the text every transformer. SDXL adds to the time embedding
 * what it is told of the whole text and of sizes. */
#include "unet.h"

#include "kernels/base/mem.h"
#include "resnet.h"
#include "transformer.h"

#include <stdio.h>

/* One level on the way down or up. resampler: convolution that halves or, after doubling, smooths; absent at
 * the level that keeps its size. */
typedef struct Level {
    ResnetBlock *resnets;
    Transformer *attentions; /* one for each resnet, or NULL */
    int count;
    Layer resampler;
} Level;

struct UNet {
    UNetConfig config;
    LayerSet layers;
    Layer conv_in, linear_1, linear_2, conv_norm_out, conv_out;
    Layer cond_proj;                  /* of guidance; absent where it is not told */
    Layer add_linear_1, add_linear_2; /* of text and sizes; likewise */
    Level down[UNET_MAX_LEVELS], up[UNET_MAX_LEVELS];
    ResnetBlock mid_resnets[2]; /* the second only with attention between them */
    Transformer mid_attention;
};

/* Construction ----------------------------------------------------------------------------------------- */

static int time_width(const UNetConfig *k)
{
    return 4 * k->channels[0];
}

static TransformerShape transformer_shape(const UNetConfig *k, int level)
{
    return (TransformerShape){.channels = k->channels[level],
                              .heads = k->heads[level],
                              .groups = k->norm_groups,
                              .blocks = k->transformer_layers[level],
                              .text_dim = k->cross_attention_dim,
                              .linear_projection = k->linear_projection};
}

static Status level_alloc(Level *l, int count, bool attention)
{
    l->count = count;
    l->resnets = mem_calloc((size_t)count, sizeof *l->resnets);
    l->attentions = attention ? mem_calloc((size_t)count, sizeof *l->attentions) : NULL;
    return l->resnets && (l->attentions || !attention) ? STATUS_OK : STATUS_FAILED;
}

/* in[j]: channels that resnet j sees. */
static Status level_init(UNet *u, Weights *w, Level *l, const char *path, int level, const int *in)
{
    const UNetConfig *k = &u->config;
    const TransformerShape shape = transformer_shape(k, level);
    char name[128];
    for (int j = 0; j < l->count; j++) {
        snprintf(name, sizeof name, "%s.resnets.%d", path, j);
        resnet_init(&l->resnets[j], w, &u->layers, name, in[j], k->channels[level], time_width(k),
                    k->norm_groups, k->norm_eps);
        snprintf(name, sizeof name, "%s.attentions.%d", path, j);
        if (l->attentions)
            TRY(transformer_init(&l->attentions[j], w, &u->layers, name, &shape));
    }
    return STATUS_OK;
}

static void resampler_init(UNet *u, Weights *w, Layer *l, int64_t C, const char *path, const char *kind)
{
    weights_layer(w, &u->layers, l, LAYER_CONV, true, 4, (int64_t[]){C, C, 3, 3}, "%s.%s.0.conv", path, kind);
}

static Status down_init(UNet *u, Weights *w, int i)
{
    const UNetConfig *k = &u->config;
    const int out = k->channels[i];
    int in[UNET_MAX_RESNETS];
    for (int j = 0; j < k->layers_per_block; j++)
        in[j] = j > 0 ? out : k->channels[i > 0 ? i - 1 : 0];
    char path[64];
    snprintf(path, sizeof path, "down_blocks.%d", i);
    TRY(level_alloc(&u->down[i], k->layers_per_block, k->down_attention[i]));
    TRY(level_init(u, w, &u->down[i], path, i, in));
    if (i < k->levels - 1)
        resampler_init(u, w, &u->down[i].resampler, out, path, "downsamplers");
    return STATUS_OK;
}

/* up_blocks.i works at level `levels - 1 - i`. Its resnets see their own channels (the first: the block's
 * before), and what the way down put aside: this level's blocks, and last the result of the level above. */
static Status up_init(UNet *u, Weights *w, int i)
{
    const UNetConfig *k = &u->config;
    const int level = k->levels - 1 - i, out = k->channels[level], count = k->layers_per_block + 1;
    const int above = k->channels[level > 0 ? level - 1 : 0];
    int in[UNET_MAX_RESNETS];
    for (int j = 0; j < count; j++)
        in[j] = (j > 0 || i == 0 ? out : k->channels[level + 1]) + (j < count - 1 ? out : above);
    char path[64];
    snprintf(path, sizeof path, "up_blocks.%d", i);
    TRY(level_alloc(&u->up[i], count, k->up_attention[i]));
    TRY(level_init(u, w, &u->up[i], path, level, in));
    if (i < k->levels - 1)
        resampler_init(u, w, &u->up[i].resampler, out, path, "upsamplers");
    return STATUS_OK;
}

static Status mid_init(UNet *u, Weights *w)
{
    const UNetConfig *k = &u->config;
    const int C = k->channels[k->levels - 1];
    const TransformerShape shape = transformer_shape(k, k->levels - 1);
    for (int j = 0; j < (k->mid_attention ? 2 : 1); j++) {
        char name[64];
        snprintf(name, sizeof name, "mid_block.resnets.%d", j);
        resnet_init(&u->mid_resnets[j], w, &u->layers, name, C, C, time_width(k), k->norm_groups,
                    k->norm_eps);
        if (j == 0 && k->mid_attention)
            TRY(transformer_init(&u->mid_attention, w, &u->layers, "mid_block.attentions.0", &shape));
    }
    return STATUS_OK;
}

static Status unet_init(UNet *u, Weights *w)
{
    const UNetConfig *k = &u->config;
    const int64_t C = k->channels[0], T = time_width(k);
    LayerSet *set = &u->layers;
    weights_layer(w, set, &u->conv_in, LAYER_CONV, true, 4, (int64_t[]){C, k->in_channels, 3, 3}, "conv_in");
    weights_layer(w, set, &u->linear_1, LAYER_LINEAR, true, 2, (int64_t[]){T, C}, "time_embedding.linear_1");
    weights_layer(w, set, &u->linear_2, LAYER_LINEAR, true, 2, (int64_t[]){T, T}, "time_embedding.linear_2");
    if (k->guidance_channels)
        weights_layer(w, set, &u->cond_proj, LAYER_LINEAR, false, 2, (int64_t[]){C, k->guidance_channels},
                      "time_embedding.cond_proj");
    if (k->addition_input) {
        weights_layer(w, set, &u->add_linear_1, LAYER_LINEAR, true, 2, (int64_t[]){T, k->addition_input},
                      "add_embedding.linear_1");
        weights_layer(w, set, &u->add_linear_2, LAYER_LINEAR, true, 2, (int64_t[]){T, T},
                      "add_embedding.linear_2");
    }
    for (int i = 0; i < k->levels; i++)
        TRY(down_init(u, w, i));
    TRY(mid_init(u, w));
    for (int i = 0; i < k->levels; i++)
        TRY(up_init(u, w, i));
    weights_layer(w, set, &u->conv_norm_out, LAYER_NORM, true, 1, &C, "conv_norm_out");
    weights_layer(w, set, &u->conv_out, LAYER_CONV, true, 4, (int64_t[]){k->out_channels, C, 3, 3},
                  "conv_out");
    return weights_status(w);
}

Status unet_new(const UNetConfig *config, Weights *w, UNet **out)
{
    *out = NULL;
    UNet *u = mem_calloc(1, sizeof *u);
    if (!u)
        return STATUS_FAILED;
    u->config = *config;
    const Status s = unet_init(u, w);
    if (s != STATUS_OK) {
        unet_free(u);
        return s;
    }
    *out = u;
    return STATUS_OK;
}

static void level_free(Level *l)
{
    for (int j = 0; l->attentions && j < l->count; j++)
        transformer_free(&l->attentions[j]);
    mem_free(l->attentions);
    mem_free(l->resnets);
}

void unet_free(UNet *u)
{
    if (!u)
        return;
    layerset_free(&u->layers); /* first: the layers lie inside the blocks */
    for (int i = 0; i < UNET_MAX_LEVELS; i++) {
        level_free(&u->down[i]);
        level_free(&u->up[i]);
    }
    transformer_free(&u->mid_attention);
    mem_free(u);
}

const UNetConfig *unet_config(const UNet *u)
{
    return &u->config;
}

LayerSet *unet_layers(UNet *u)
{
    return &u->layers;
}

/* Forward ---------------------------------------------------------------------------------------------- */

/* What every block gets besides the feature map. */
typedef struct Conditions {
    Tensor *temb; /* (B,T): silu of the time embedding, as each residual block takes it */
    Tensor *text; /* (B,L,D) */
} Conditions;

static Tensor *resnet(Ctx *c, const ResnetBlock *b, Tensor *x, const Conditions *k)
{
    return checkpointed(c, resnet_block, b, (Tensor *[]){x, k->temb}, 2);
}

static Tensor *attend(Ctx *c, const Transformer *t, Tensor *x, const Conditions *k)
{
    return transformer(c, t, x, k->text);
}

/* pooled (B,P), numbers f32 (B,N) -> (B,T), added to temb */
static Tensor *add_embedding(Ctx *c, const UNet *u, Tensor *pooled, Tensor *numbers, Tensor *temb)
{
    const UNetConfig *k = &u->config;
    if (!pooled || !numbers) {
        op_fail(c, "the UNet is told a text's pooled vector and numbers of size, which are not given");
        return temb;
    }
    const int64_t B = numbers->shape[0], N = numbers->shape[1], all = B * N;
    Tensor *each = timestep_embedding(c, reshape(c, numbers, 1, &all), k->addition_width, k->flip_sin_to_cos,
                                      k->freq_shift);
    Tensor *h = concat(c, pooled, reshape(c, each, 2, (int64_t[]){B, N * k->addition_width}));
    return linear_add(c, &u->add_linear_2, silu(c, linear(c, &u->add_linear_1, h)), temb);
}

/* timesteps (B), and what else is told -> (B,T) */
static Tensor *time_embedding(Ctx *c, const UNet *u, Tensor *timesteps, const Conditioning *told)
{
    const UNetConfig *k = &u->config;
    Tensor *guidance = told->guidance;
    Tensor *t = timestep_embedding(c, timesteps, k->channels[0], k->flip_sin_to_cos, k->freq_shift);
    if (k->guidance_channels && guidance) {
        Tensor *g = reshape(c, guidance, 1, timesteps->shape);
        t = linear_add(c, &u->cond_proj, timestep_embedding(c, g, k->guidance_channels, false, 1), t);
    }
    t = linear(c, &u->linear_2, silu(c, linear(c, &u->linear_1, t)));
    return k->addition_input ? add_embedding(c, u, told->pooled, told->extra, t) : t;
}

/* h at twice the size, or one position less where the way down had rounded up: as large as what is put aside.
 */
static Tensor *doubled(Ctx *c, const Level *l, Tensor *h, const Tensor *beside)
{
    const int64_t H = beside->shape[1], W = beside->shape[2];
    if (H == 2 * h->shape[1] && W == 2 * h->shape[2])
        return conv2d(c, &l->resampler, CONV_UP, h);
    return conv2d(c, &l->resampler, CONV_SAME, upsample_to(c, h, H, W));
}

/* Layer j of a level. */
static Tensor *level_layer(Ctx *c, const Level *l, int j, Tensor *h, const Conditions *k)
{
    h = resnet(c, &l->resnets[j], h, k);
    return l->attentions ? attend(c, &l->attentions[j], h, k) : h;
}

/* The level's layers from first to last - 1 on the way up, each with what was put aside last, of n. */
static Tensor *up_layers(Ctx *c, const Level *l, int first, int last, Tensor *h, Tensor **aside, int *n,
                         const Conditions *k)
{
    for (int j = first; j < last; j++)
        h = level_layer(c, l, j, concat(c, h, aside[--*n]), k);
    return h;
}

static Tensor *middle(Ctx *c, const UNet *u, Tensor *h, const Conditions *k)
{
    h = resnet(c, &u->mid_resnets[0], h, k);
    if (!u->config.mid_attention)
        return h;
    h = attend(c, &u->mid_attention, h, k);
    return resnet(c, &u->mid_resnets[1], h, k);
}

/* Layers of the last level up that are not of the deep part. */
#define SHALLOW_LAYERS 2

/* All between the first layer down, whose result is aside[1], and the last layers up. */
static Tensor *deep_part(Ctx *c, const UNet *u, Tensor **aside, const Conditions *cond)
{
    const UNetConfig *k = &u->config;
    int n = SHALLOW_LAYERS;
    Tensor *h = aside[n - 1];
    for (int i = 0; i < k->levels; i++) {
        const Level *l = &u->down[i];
        for (int j = i == 0; j < l->count; j++)
            h = aside[n++] = level_layer(c, l, j, h, cond);
        if (l->resampler.weight)
            h = aside[n++] = conv2d(c, &l->resampler, CONV_DOWN, h);
    }
    h = middle(c, u, h, cond);
    for (int i = 0; i < k->levels; i++) {
        const Level *l = &u->up[i];
        const int shallow = i == k->levels - 1 ? SHALLOW_LAYERS : 0;
        h = up_layers(c, l, 0, l->count - shallow, h, aside, &n, cond);
        if (l->resampler.weight)
            h = doubled(c, l, h, aside[n - 1]);
    }
    return h;
}

Tensor *unet_forward_deep(Ctx *c, const UNet *u, Tensor *x, Tensor *timesteps, const Conditioning *text,
                          Tensor **deep)
{
    const UNetConfig *k = &u->config;
    const Conditions cond = {.temb = silu(c, time_embedding(c, u, timesteps, text)), .text = text->states};
    Tensor
        *aside[UNET_MAX_LEVELS * UNET_MAX_RESNETS + 1]; /* outputs of the way down, taken back last first */
    const Level *last = &u->up[k->levels - 1];
    int n = SHALLOW_LAYERS;

    aside[0] = conv2d(c, &u->conv_in, CONV_SAME, x);
    aside[1] = level_layer(c, &u->down[0], 0, aside[0], &cond);
    if (!*deep)
        *deep = deep_part(c, u, aside, &cond);
    Tensor *h = up_layers(c, last, last->count - SHALLOW_LAYERS, last->count, *deep, aside, &n, &cond);
    h = group_norm_silu(c, &u->conv_norm_out, k->norm_groups, k->norm_eps, h);
    return conv2d(c, &u->conv_out, CONV_SAME, h);
}

Tensor *unet_forward(Ctx *c, const UNet *u, Tensor *x, Tensor *timesteps, const Conditioning *text)
{
    Tensor *deep = NULL;
    return unet_forward_deep(c, u, x, timesteps, text, &deep);
}

int unet_deep_channels(const UNet *u)
{
    const UNetConfig *k = &u->config;
    const bool whole = u->up[k->levels - 1].count > SHALLOW_LAYERS || k->levels == 1;
    return k->channels[whole ? 0 : 1];
}
