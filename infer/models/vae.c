/* The autoencoder. Encoder: levels of residual blocks, each followed by half the size, then a middle of two
 * residual blocks around one-head attention over all positions; decoder: the same middle, then levels that
 * double the size. quant_conv and post_quant_conv are 1×1 convolutions beside the latents. */
#include "vae.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"
#include "resnet.h"

#include <stdio.h>
#include <string.h>

#define VAE_NORM_EPS 1e-6f
#define VAE_MAX_RESNETS 17

typedef struct VaeLevel {
    ResnetBlock resnets[VAE_MAX_RESNETS];
    int count;
    Layer resampler; /* absent at the last level */
} VaeLevel;

typedef struct VaeMiddle {
    ResnetBlock resnets[2];
    Layer group_norm, to_q, to_k, to_v, to_out; /* absent without attention */
} VaeMiddle;

/* Encoder and decoder have the same parts in another order. */
typedef struct VaeHalf {
    Layer conv_in, conv_norm_out, conv_out;
    VaeLevel levels[VAE_MAX_LEVELS];
    VaeMiddle middle;
} VaeHalf;

struct Vae {
    VaeConfig config;
    LayerSet layers;
    VaeHalf encoder, decoder;
    Layer quant_conv, post_quant_conv;
};

/* Configuration ---------------------------------------------------------------------------------------- */

static void check_block_types(JsonConfig *c, const char *key, const char *type)
{
    for (int i = 0; i < json_config_length(c, key); i++)
        if (strcmp(json_config_item(c, key, i), type) != 0)
            json_config_fail(c, "%s: %s: only %s is supported", key, json_config_item(c, key, i), type);
}

Status vae_config_parse(const char *json, const char *origin, VaeConfig *out)
{
    static const JsonAccepted accepted[] = {
        {"act_fn", "\"silu\""}, {"latents_mean", "null"}, {"latents_std", "null"}, {NULL, NULL}};
    JsonConfig c;
    VaeConfig k = {0};
    json_config_open(&c, json, origin);
    const char *class_name = json_config_text(&c, "_class_name", "AutoencoderKL");
    if (strcmp(class_name, "AutoencoderKL") != 0)
        json_config_fail(&c, "is a %s, not an AutoencoderKL", class_name);
    json_config_accept(&c, accepted);
    check_block_types(&c, "down_block_types", "DownEncoderBlock2D");
    check_block_types(&c, "up_block_types", "UpDecoderBlock2D");
    k.levels = json_config_get(&c, "block_out_channels") ? json_config_length(&c, "block_out_channels") : 1;
    if (k.levels < 1 || k.levels > VAE_MAX_LEVELS) {
        json_config_fail(&c, "block_out_channels is not a list of 1 to %d numbers", VAE_MAX_LEVELS);
        k.levels = 1;
    }
    json_config_ints(&c, "block_out_channels", 64, 1 << 16, k.levels, k.channels);
    k.in_channels = json_config_int(&c, "in_channels", 3, 1, 1 << 12);
    k.out_channels = json_config_int(&c, "out_channels", 3, 1, 1 << 12);
    k.latent_channels = json_config_int(&c, "latent_channels", 4, 1, 1 << 12);
    k.layers_per_block = json_config_int(&c, "layers_per_block", 1, 1, VAE_MAX_RESNETS - 1);
    k.norm_groups = json_config_int(&c, "norm_num_groups", 32, 1, 1 << 16);
    k.sample_size = json_config_int(&c, "sample_size", 32, 1, 1 << 16);
    k.scaling_factor = (float)json_config_float(&c, "scaling_factor", 0.18215, JSON_POSITIVE, 1e6);
    k.shift_factor = (float)json_config_float(&c, "shift_factor", 0, -1e6, 1e6);
    k.use_quant_conv = json_config_bool(&c, "use_quant_conv", true);
    k.use_post_quant_conv = json_config_bool(&c, "use_post_quant_conv", true);
    k.mid_attention = json_config_bool(&c, "mid_block_add_attention", true);
    k.force_upcast = json_config_bool(&c, "force_upcast", true);
    if (!(k.scaling_factor > 0))
        json_config_fail(&c, "scaling_factor is not positive");
    for (int i = 0; i < k.levels; i++)
        if (k.channels[i] % k.norm_groups)
            json_config_fail(&c, "%d channels do not split into norm_num_groups %d", k.channels[i],
                             k.norm_groups);
    TRY(json_config_close(&c));
    *out = k;
    return STATUS_OK;
}

/* Construction ----------------------------------------------------------------------------------------- */

static void conv(Vae *v, Weights *w, Layer *l, int out, int in, int side, const char *path)
{
    weights_layer(w, &v->layers, l, LAYER_CONV, true, 4, (int64_t[]){out, in, side, side}, "%s", path);
}

static void level_init(Vae *v, Weights *w, VaeLevel *l, const char *path, int in, int out, int count,
                       const char *resampler)
{
    char name[96];
    l->count = count;
    for (int j = 0; j < count; j++) {
        snprintf(name, sizeof name, "%s.resnets.%d", path, j);
        resnet_init(&l->resnets[j], w, &v->layers, name, j > 0 ? out : in, out, 0, v->config.norm_groups,
                    VAE_NORM_EPS);
    }
    snprintf(name, sizeof name, "%s.%s.0.conv", path, resampler ? resampler : "");
    if (resampler)
        conv(v, w, &l->resampler, out, out, 3, name);
}

static void middle_init(Vae *v, Weights *w, VaeMiddle *m, const char *half)
{
    const int64_t C = v->config.channels[v->config.levels - 1];
    for (int j = 0; j < 2; j++) {
        char name[64];
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", half, j);
        resnet_init(&m->resnets[j], w, &v->layers, name, (int)C, (int)C, 0, v->config.norm_groups,
                    VAE_NORM_EPS);
        if (j > 0 || !v->config.mid_attention)
            continue;
        snprintf(name, sizeof name, "%s.mid_block.attentions.0", half);
        weights_layer(w, &v->layers, &m->group_norm, LAYER_NORM, true, 1, &C, "%s.group_norm", name);
        weights_layer(w, &v->layers, &m->to_q, LAYER_LINEAR, true, 2, (int64_t[]){C, C}, "%s.to_q", name);
        weights_layer(w, &v->layers, &m->to_k, LAYER_LINEAR, true, 2, (int64_t[]){C, C}, "%s.to_k", name);
        weights_layer(w, &v->layers, &m->to_v, LAYER_LINEAR, true, 2, (int64_t[]){C, C}, "%s.to_v", name);
        weights_layer(w, &v->layers, &m->to_out, LAYER_LINEAR, true, 2, (int64_t[]){C, C}, "%s.to_out.0",
                      name);
    }
}

static void half_ends(Vae *v, Weights *w, VaeHalf *h, int64_t C, int out, const char *half)
{
    char name[64];
    weights_layer(w, &v->layers, &h->conv_norm_out, LAYER_NORM, true, 1, &C, "%s.conv_norm_out", half);
    snprintf(name, sizeof name, "%s.conv_out", half);
    conv(v, w, &h->conv_out, out, (int)C, 3, name);
}

static void encoder_init(Vae *v, Weights *w)
{
    const VaeConfig *k = &v->config;
    VaeHalf *h = &v->encoder;
    conv(v, w, &h->conv_in, k->channels[0], k->in_channels, 3, "encoder.conv_in");
    for (int i = 0; i < k->levels; i++) {
        char path[64];
        snprintf(path, sizeof path, "encoder.down_blocks.%d", i);
        level_init(v, w, &h->levels[i], path, k->channels[i > 0 ? i - 1 : 0], k->channels[i],
                   k->layers_per_block, i < k->levels - 1 ? "downsamplers" : NULL);
    }
    middle_init(v, w, &h->middle, "encoder");
    half_ends(v, w, h, k->channels[k->levels - 1], 2 * k->latent_channels, "encoder");
    if (k->use_quant_conv)
        conv(v, w, &v->quant_conv, 2 * k->latent_channels, 2 * k->latent_channels, 1, "quant_conv");
}

static void decoder_init(Vae *v, Weights *w)
{
    const VaeConfig *k = &v->config;
    VaeHalf *h = &v->decoder;
    if (k->use_post_quant_conv)
        conv(v, w, &v->post_quant_conv, k->latent_channels, k->latent_channels, 1, "post_quant_conv");
    conv(v, w, &h->conv_in, k->channels[k->levels - 1], k->latent_channels, 3, "decoder.conv_in");
    middle_init(v, w, &h->middle, "decoder");
    for (int i = 0; i < k->levels; i++) { /* from the last level's channels to the first's */
        const int out = k->channels[k->levels - 1 - i], in = i > 0 ? k->channels[k->levels - i] : out;
        char path[64];
        snprintf(path, sizeof path, "decoder.up_blocks.%d", i);
        level_init(v, w, &h->levels[i], path, in, out, k->layers_per_block + 1,
                   i < k->levels - 1 ? "upsamplers" : NULL);
    }
    half_ends(v, w, h, k->channels[0], k->out_channels, "decoder");
}

Status vae_new(const VaeConfig *config, Weights *w, Vae **out)
{
    *out = NULL;
    Vae *v = mem_calloc(1, sizeof *v);
    if (!v)
        return STATUS_FAILED;
    v->config = *config;
    weights_alias(w, ".to_q.", ".query."); /* diffusers before 0.14 */
    weights_alias(w, ".to_k.", ".key.");
    weights_alias(w, ".to_v.", ".value.");
    weights_alias(w, ".to_out.0.", ".proj_attn.");
    encoder_init(v, w);
    decoder_init(v, w);
    const Status s = weights_status(w);
    if (s != STATUS_OK) {
        vae_free(v);
        return s;
    }
    *out = v;
    return STATUS_OK;
}

void vae_free(Vae *v)
{
    if (!v)
        return;
    layerset_free(&v->layers);
    mem_free(v);
}

const VaeConfig *vae_config(const Vae *v)
{
    return &v->config;
}

LayerSet *vae_layers(Vae *v)
{
    return &v->layers;
}

bool vae_layer_encodes(const Layer *l)
{
    return strncmp(l->name, "encoder.", 8) == 0 || strncmp(l->name, "quant_conv", 10) == 0;
}

int vae_inner_channels(const Vae *v, bool encoder)
{
    const int last = v->config.levels - 1;
    return v->config.channels[encoder && last > 0 ? last - 1 : last];
}

int vae_factor(const Vae *v)
{
    return 1 << (v->config.levels - 1);
}

int vae_outer_norms(const Vae *v, bool encoder)
{
    const int levels = v->config.levels - 1, layers = v->config.layers_per_block;
    return encoder ? levels * 2 * layers : levels * 2 * (layers + 1) + 1;
}

/* From the result back, in positions of the level: a 3×3 convolution looks one further. */
int vae_outer_reach(const Vae *v, bool encoder)
{
    const int levels = v->config.levels - 1, layers = v->config.layers_per_block;
    int reach = encoder ? 0 : 1; /* conv_out's */
    for (int i = 0; i < levels; i++)
        reach = encoder ? 2 * reach + 1 + 2 * layers : (reach + 2 * (layers + 1) + 1 + 1) / 2;
    return encoder ? (reach + 1 + vae_factor(v) - 1) / vae_factor(v) : reach;
}

/* Forward ---------------------------------------------------------------------------------------------- */

static Tensor *resnet(Ctx *c, const ResnetBlock *b, Tensor *x)
{
    return resnet_block(c, b, &x, 1);
}

/* x (B,H,W,C): every position looks at every other, with one head as wide as the map. */
static Tensor *self_attention(Ctx *c, const Vae *v, const VaeMiddle *m, Tensor *x)
{
    const int64_t B = x->shape[0], H = x->shape[1], W = x->shape[2], C = x->shape[3];
    const int64_t tokens[] = {B, H * W, C};
    Tensor *h = group_norm(c, &m->group_norm, v->config.norm_groups, VAE_NORM_EPS, x);
    h = reshape(c, h, 3, tokens);
    h = attention(c, 1, 0, linear(c, &m->to_q, h), linear(c, &m->to_k, h), linear(c, &m->to_v, h));
    return reshape(c, linear_add(c, &m->to_out, h, reshape(c, x, 3, tokens)), 4, x->shape);
}

static Tensor *middle(Ctx *c, const Vae *v, const VaeMiddle *m, Tensor *x)
{
    x = resnet(c, &m->resnets[0], x);
    if (v->config.mid_attention)
        x = self_attention(c, v, m, x);
    return resnet(c, &m->resnets[1], x);
}

static Tensor *ends(Ctx *c, const Vae *v, const VaeHalf *h, Tensor *x)
{
    return conv2d(c, &h->conv_out, CONV_SAME,
                  group_norm_silu(c, &h->conv_norm_out, v->config.norm_groups, VAE_NORM_EPS, x));
}

static Tensor *resnets(Ctx *c, const VaeLevel *l, Tensor *x)
{
    for (int j = 0; j < l->count; j++)
        x = resnet(c, &l->resnets[j], x);
    return x;
}

Tensor *vae_encode_outer(Ctx *c, const Vae *v, Tensor *x)
{
    const VaeHalf *e = &v->encoder;
    x = conv2d(c, &e->conv_in, CONV_SAME, x);
    for (int i = 0; i < v->config.levels - 1; i++)
        x = conv2d(c, &e->levels[i].resampler, CONV_DOWN_ASYMMETRIC, resnets(c, &e->levels[i], x));
    return x;
}

Tensor *vae_encode_inner(Ctx *c, const Vae *v, Tensor *x)
{
    const VaeHalf *e = &v->encoder;
    x = resnets(c, &e->levels[v->config.levels - 1], x);
    x = ends(c, v, e, middle(c, v, &e->middle, x));
    return v->config.use_quant_conv ? conv2d(c, &v->quant_conv, CONV_POINTWISE, x) : x;
}

Tensor *vae_encode(Ctx *c, const Vae *v, Tensor *x)
{
    return vae_encode_inner(c, v, vae_encode_outer(c, v, x));
}

Tensor *vae_decode_inner(Ctx *c, const Vae *v, Tensor *z)
{
    const VaeHalf *d = &v->decoder;
    if (v->config.use_post_quant_conv)
        z = conv2d(c, &v->post_quant_conv, CONV_POINTWISE, z);
    Tensor *x = middle(c, v, &d->middle, conv2d(c, &d->conv_in, CONV_SAME, z));
    return resnets(c, &d->levels[0], x);
}

Tensor *vae_decode_outer(Ctx *c, const Vae *v, Tensor *x)
{
    const VaeHalf *d = &v->decoder;
    for (int i = 1; i < v->config.levels; i++)
        x = resnets(c, &d->levels[i], conv2d(c, &d->levels[i - 1].resampler, CONV_UP, x));
    return ends(c, v, d, x);
}

Tensor *vae_decode(Ctx *c, const Vae *v, Tensor *z)
{
    return vae_decode_outer(c, v, vae_decode_inner(c, v, z));
}
