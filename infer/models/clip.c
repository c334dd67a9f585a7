/* CLIP's text encoder: token and position embeddings, then layers of causal self-attention and a two-layer
 * MLP, each after a layer norm and added to its input; a final norm. */
#include "clip.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Configurations of OpenAI's own models name this id, which is no end of a text in their vocabulary; their
 * texts end at the largest id (transformers' CLIPTextModel). */
#define OLD_EOS 2

struct Clip {
    ClipConfig config;
    LayerSet layers;
    Layer token_embedding, position_embedding, final_layer_norm;
    Layer text_projection; /* absent without projection */
    ClipLayer *blocks;
};

/* Construction ----------------------------------------------------------------------------------------- */

static Status parse_config(const char *json, const char *origin, bool projected, ClipConfig *out)
{
    JsonConfig c;
    json_config_open(&c, json, origin);
    json_t *text_config = json_object_get(c.root, "text_config");
    if (json_is_object(text_config)) { /* of a whole CLIP model */
        json_incref(text_config);
        json_decref(c.root);
        c.root = text_config;
    }
    ClipConfig k = {
        .vocab_size = json_config_int(&c, "vocab_size", 49408, 1, 1 << 24),
        .hidden = json_config_int(&c, "hidden_size", 512, 1, 1 << 16),
        .intermediate = json_config_int(&c, "intermediate_size", 2048, 1, 1 << 18),
        .layers = json_config_int(&c, "num_hidden_layers", 12, 1, 1024),
        .heads = json_config_int(&c, "num_attention_heads", 8, 1, 1024),
        .positions = json_config_int(&c, "max_position_embeddings", 77, 2, 1 << 16),
        .eps = (float)json_config_float(&c, "layer_norm_eps", 1e-5, JSON_POSITIVE, 1),
        .bos = json_config_int(&c, "bos_token_id", 49406, 0, 1 << 24),
        .eos = json_config_int(&c, "eos_token_id", 49407, 0, 1 << 24),
        .pad = json_config_int(&c, "pad_token_id", 1, 0, 1 << 24),
        .projection = projected ? json_config_int(&c, "projection_dim", 512, 1, 1 << 16) : 0,
    };
    const char *act = json_config_text(&c, "hidden_act", "quick_gelu");
    k.quick_gelu = !strcmp(act, "quick_gelu");
    if (!k.quick_gelu && strcmp(act, "gelu") != 0)
        json_config_fail(&c, "hidden_act: %s: only quick_gelu and gelu are supported", act);
    if (k.hidden % k.heads)
        json_config_fail(&c, "hidden_size %d does not split into %d heads", k.hidden, k.heads);
    TRY(json_config_close(&c));
    *out = k;
    return STATUS_OK;
}

Status clip_config_parse(const char *json, const char *origin, ClipConfig *out)
{
    return parse_config(json, origin, false, out);
}

Status clip_projected_config_parse(const char *json, const char *origin, ClipConfig *out)
{
    return parse_config(json, origin, true, out);
}

/* Where a layer's weights are asked for. */
typedef struct Place {
    Weights *w;
    LayerSet *set;
    const char *prefix;
    int i;
} Place;

static void projection(const Place *p, Layer *l, int64_t out, int64_t in, const char *name)
{
    weights_layer(p->w, p->set, l, LAYER_LINEAR, true, 2, (int64_t[]){out, in}, "%s.%d.%s", p->prefix, p->i,
                  name);
}

static void norm(const Place *p, Layer *l, int64_t D, const char *name)
{
    weights_layer(p->w, p->set, l, LAYER_NORM, true, 1, &D, "%s.%d.%s", p->prefix, p->i, name);
}

/* Random weights as transformers draws them for CLIP (initializer_factor 1). */
void clip_layer_make(const ClipConfig *k, Weights *w, LayerSet *set, ClipLayer *b, const char *prefix, int i)
{
    const Place p = {w, set, prefix, i};
    const int64_t D = k->hidden, F = k->intermediate;
    const float out_std = 1.0f / sqrtf((float)D), in_std = out_std / sqrtf(2.0f * (float)k->layers);
    weights_random_normal(w, in_std);
    projection(&p, &b->k_proj, D, D, "self_attn.k_proj");
    projection(&p, &b->v_proj, D, D, "self_attn.v_proj");
    projection(&p, &b->q_proj, D, D, "self_attn.q_proj");
    weights_random_normal(w, out_std);
    projection(&p, &b->out_proj, D, D, "self_attn.out_proj");
    norm(&p, &b->layer_norm1, D, "layer_norm1");
    weights_random_normal(w, 1.0f / sqrtf(2.0f * (float)D));
    projection(&p, &b->fc1, F, D, "mlp.fc1");
    weights_random_normal(w, in_std);
    projection(&p, &b->fc2, D, F, "mlp.fc2");
    norm(&p, &b->layer_norm2, D, "layer_norm2");
}

Status clip_new(const ClipConfig *config, Weights *w, Clip **out)
{
    *out = NULL;
    Clip *m = mem_calloc(1, sizeof *m);
    if (!m || !(m->blocks = mem_calloc((size_t)config->layers, sizeof *m->blocks))) {
        mem_free(m);
        return STATUS_FAILED;
    }
    m->config = *config;
    const int64_t D = config->hidden;
    weights_alias(w, "text_model.", ""); /* transformers 5 leaves it out */
    weights_random_normal(w, 0.02f);
    weights_layer(w, &m->layers, &m->token_embedding, LAYER_EMBEDDING, false, 2,
                  (int64_t[]){config->vocab_size, D}, "text_model.embeddings.token_embedding");
    weights_layer(w, &m->layers, &m->position_embedding, LAYER_EMBEDDING, false, 2,
                  (int64_t[]){config->positions, D}, "text_model.embeddings.position_embedding");
    for (int i = 0; i < config->layers; i++)
        clip_layer_make(config, w, &m->layers, &m->blocks[i], "text_model.encoder.layers", i);
    weights_layer(w, &m->layers, &m->final_layer_norm, LAYER_NORM, true, 1, &D,
                  "text_model.final_layer_norm");
    weights_random_normal(w, 1.0f / sqrtf((float)D));
    if (config->projection)
        weights_layer(w, &m->layers, &m->text_projection, LAYER_LINEAR, false, 2,
                      (int64_t[]){config->projection, D}, "text_projection");
    weights_random_normal(w, 0);
    const Status s = weights_status(w);
    if (s != STATUS_OK) {
        clip_free(m);
        return s;
    }
    *out = m;
    return STATUS_OK;
}

void clip_free(Clip *m)
{
    if (!m)
        return;
    layerset_free(&m->layers);
    mem_free(m->blocks);
    mem_free(m);
}

const ClipConfig *clip_config(const Clip *m)
{
    return &m->config;
}

LayerSet *clip_layers(Clip *m)
{
    return &m->layers;
}

/* Forward ---------------------------------------------------------------------------------------------- */

Tensor *clip_layer(Ctx *c, const ClipConfig *k, const ClipLayer *b, bool causal, Tensor *x)
{
    Tensor *h = layer_norm(c, &b->layer_norm1, k->eps, x);
    Tensor *q = linear(c, &b->q_proj, h), *key = linear(c, &b->k_proj, h), *v = linear(c, &b->v_proj, h);
    x = linear_add(c, &b->out_proj, attention(c, k->heads, causal ? ATTENTION_CAUSAL : 0, q, key, v), x);
    h = linear(c, &b->fc1, layer_norm(c, &b->layer_norm2, k->eps, x));
    h = k->quick_gelu ? quick_gelu(c, h) : gelu(c, h);
    return linear_add(c, &b->fc2, h, x);
}

Tensor *clip_forward(Ctx *c, const Clip *m, int clip_skip, Tensor *ids)
{
    return clip_forward_with(c, m, clip_skip, ids, NULL, NULL);
}

static Tensor *embed(Ctx *c, const Clip *m, Tensor *ids, Tensor *keep, Tensor *other)
{
    Tensor *h = embedding(c, &m->token_embedding, ids);
    if (keep)
        h = add(c, multiply(c, h, keep), other);
    return add_rows(c, &m->position_embedding, h);
}

/* The layers from first to last - 1. */
static Tensor *run_layers(Ctx *c, const Clip *m, int first, int last, Tensor *h)
{
    for (int i = first; i < last; i++)
        h = clip_layer(c, &m->config, &m->blocks[i], true, h);
    return h;
}

static void check_skip(Ctx *c, const Clip *m, int clip_skip)
{
    if (clip_skip < 0 || clip_skip >= m->config.layers)
        op_fail(c, "clip_skip is %d, but the text encoder has %d layers", clip_skip, m->config.layers);
}

Tensor *clip_forward_with(Ctx *c, const Clip *m, int clip_skip, Tensor *ids, Tensor *keep, Tensor *other)
{
    const ClipConfig *k = &m->config;
    check_skip(c, m, clip_skip);
    Tensor *h = run_layers(c, m, 0, k->layers - clip_skip, embed(c, m, ids, keep, other));
    return layer_norm(c, &m->final_layer_norm, k->eps, h);
}

Tensor *clip_penultimate(Ctx *c, const Clip *m, int clip_skip, const ClipText *text, Tensor **pooled)
{
    const ClipConfig *k = &m->config;
    const int at = k->layers - 1 - clip_skip;
    check_skip(c, m, clip_skip);
    Tensor *states = run_layers(c, m, 0, at, embed(c, m, text->ids, text->keep, text->other));
    if (text->rows) {
        Tensor *last = layer_norm(c, &m->final_layer_norm, k->eps, run_layers(c, m, at, k->layers, states));
        *pooled = linear(c, &m->text_projection, take_rows(c, last, text->rows));
    }
    return states;
}

void clip_mark_idle(Clip *m)
{
    m->layers.idle = (int)(sizeof(ClipLayer) / sizeof(Layer)) + 1;
}

int clip_row(const ClipConfig *k, const int32_t *ids, int n)
{
    int row = 0;
    if (k->eos == OLD_EOS) {
        for (int i = 1; i < n; i++)
            row = ids[i] > ids[row] ? i : row;
        return row;
    }
    while (row < n && ids[row] != k->eos)
        row++;
    return row < n ? row : 0;
}
