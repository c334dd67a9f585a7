/* CLIP's encoder of pictures: patches times a matrix, a class token before them, position embeddings, a norm,
 * layers of self-attention that sees everything, and of the class token alone a norm and a projection.
 *
 * The convolution over patches, whose stride is its size, is written as the product that it is. The class
 * token takes part in it as a row of zeros, so that its own numbers can be added with the positions. */
#include "clip_vision.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"

#include <string.h>

struct ClipVision {
    ClipVisionConfig config;
    LayerSet layers;
    Layer patch_embedding, pre_layrnorm, post_layernorm, visual_projection;
    ClipLayer *blocks;
    float *places; /* (1 + patches, D): positions, the class token added to the first */
};

/* Construction ----------------------------------------------------------------------------------------- */

/* Older files have the vision part's numbers twice, and the second set is the one that counts. */
static void take_vision_config(JsonConfig *c)
{
    json_t *vision = json_object_get(c->root, "vision_config"),
           *again = json_object_get(c->root, "vision_config_dict");
    if (!json_is_object(vision)) {
        json_config_fail(c, "has no vision_config");
        return;
    }
    if (json_is_object(again) && json_object_update(vision, again) != 0)
        json_config_fail(c, "out of memory");
    json_incref(vision);
    json_decref(c->root);
    c->root = vision;
}

Status clip_vision_config_parse(const char *json, const char *origin, ClipVisionConfig *out)
{
    JsonConfig c;
    json_config_open(&c, json, origin);
    ClipVisionConfig k = {.projection = json_config_int(&c, "projection_dim", 512, 1, 1 << 16)};
    take_vision_config(&c);
    k.image = json_config_int(&c, "image_size", 224, 1, 1 << 12);
    k.patch = json_config_int(&c, "patch_size", 32, 1, 1 << 12);
    k.encoder = (ClipConfig){
        .hidden = json_config_int(&c, "hidden_size", 768, 1, 1 << 16),
        .intermediate = json_config_int(&c, "intermediate_size", 3072, 1, 1 << 18),
        .layers = json_config_int(&c, "num_hidden_layers", 12, 1, 1024),
        .heads = json_config_int(&c, "num_attention_heads", 12, 1, 1024),
        .eps = (float)json_config_float(&c, "layer_norm_eps", 1e-5, JSON_POSITIVE, 1),
    };
    const char *act = json_config_text(&c, "hidden_act", "quick_gelu");
    k.encoder.quick_gelu = !strcmp(act, "quick_gelu");
    if (!k.encoder.quick_gelu && strcmp(act, "gelu") != 0)
        json_config_fail(&c, "hidden_act: %s: only quick_gelu and gelu are supported", act);
    if (k.encoder.hidden % k.encoder.heads)
        json_config_fail(&c, "hidden_size %d does not split into %d heads", k.encoder.hidden,
                         k.encoder.heads);
    if (k.image % k.patch)
        json_config_fail(&c, "image_size %d is no multiple of patch_size %d", k.image, k.patch);
    TRY(json_config_close(&c));
    *out = k;
    return STATUS_OK;
}

int64_t clip_vision_patches(const ClipVisionConfig *k)
{
    const int64_t side = k->image / k->patch;
    return side * side;
}

#define VISION "vision_model.vision_model."

static void vision_norm(ClipVision *v, Weights *w, Layer *l, const char *name)
{
    const int64_t D = v->config.encoder.hidden;
    weights_layer(w, &v->layers, l, LAYER_NORM, true, 1, &D, VISION "%s", name);
}

/* Positions and class token into v->places. */
static void take_places(ClipVision *v, Weights *w)
{
    const int64_t D = v->config.encoder.hidden, T = 1 + clip_vision_patches(&v->config);
    float *token = mem_calloc((size_t)D, sizeof *token);
    v->places = mem_calloc((size_t)(T * D), sizeof *v->places);
    if (token && v->places) {
        weights_numbers(w, VISION "embeddings.position_embedding.weight", 2, (int64_t[]){T, D}, v->places);
        weights_numbers(w, VISION "embeddings.class_embedding", 1, &D, token);
        for (int64_t i = 0; i < D; i++)
            v->places[i] += token[i];
    }
    mem_free(token);
}

static Status make_layers(ClipVision *v, Weights *w)
{
    const ClipVisionConfig *k = &v->config;
    const int64_t D = k->encoder.hidden, p = k->patch;
    weights_alias(w, VISION, "vision_model."); /* as transformers 5 writes it */
    weights_layer(w, &v->layers, &v->patch_embedding, LAYER_CONV, false, 4, (int64_t[]){D, 3, p, p},
                  VISION "embeddings.patch_embedding");
    take_places(v, w);
    vision_norm(v, w, &v->pre_layrnorm, "pre_layrnorm"); /* the files' spelling */
    for (int i = 0; i < k->encoder.layers; i++)
        clip_layer_make(&k->encoder, w, &v->layers, &v->blocks[i], VISION "encoder.layers", i);
    vision_norm(v, w, &v->post_layernorm, "post_layernorm");
    weights_layer(w, &v->layers, &v->visual_projection, LAYER_LINEAR, false, 2, (int64_t[]){k->projection, D},
                  "visual_projection");
    TRY(weights_status(w));
    if (!v->places)
        return STATUS_FAILED;
    Tensor *weight = v->patch_embedding.weight; /* (D,3,p,p) -> (D,3·p·p), the same numbers */
    weight->ndim = 2;
    weight->shape[1] = 3 * p * p;
    return STATUS_OK;
}

Status clip_vision_new(const ClipVisionConfig *config, Weights *w, ClipVision **out)
{
    *out = NULL;
    ClipVision *v = mem_calloc(1, sizeof *v);
    if (!v)
        return STATUS_FAILED;
    v->config = *config;
    v->blocks = mem_calloc((size_t)config->encoder.layers, sizeof *v->blocks);
    const Status s = v->blocks ? make_layers(v, w) : STATUS_FAILED;
    if (s == STATUS_OK)
        *out = v;
    else
        clip_vision_free(v);
    return s;
}

void clip_vision_free(ClipVision *v)
{
    if (!v)
        return;
    layerset_free(&v->layers);
    mem_free(v->blocks);
    mem_free(v->places);
    mem_free(v);
}

const ClipVisionConfig *clip_vision_config(const ClipVision *v)
{
    return &v->config;
}

LayerSet *clip_vision_layers(ClipVision *v)
{
    return &v->layers;
}

/* Forward ---------------------------------------------------------------------------------------------- */

void clip_vision_cut(const ClipVisionConfig *k, const float *pixels, float *rows)
{
    const int p = k->patch, side = k->image / p;
    memset(rows, 0, (size_t)(3 * p * p) * sizeof *rows);
    rows += 3 * p * p;
    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++)
            for (int channel = 0; channel < 3; channel++)
                for (int y = row * p; y < (row + 1) * p; y++)
                    for (int x = column * p; x < (column + 1) * p; x++)
                        *rows++ = pixels[3 * ((size_t)y * (size_t)k->image + (size_t)x) + (size_t)channel];
}

Tensor *clip_vision_forward(Ctx *c, const ClipVision *v, const float *rows)
{
    const ClipConfig *k = &v->config.encoder;
    const int64_t D = k->hidden, p = v->config.patch, T = 1 + clip_vision_patches(&v->config);
    Tensor *x = cast(c, ctx_input(c, DTYPE_F32, 3, (int64_t[]){1, T, 3 * p * p}, rows), c->dtype);
    Tensor *places = cast(c, ctx_input(c, DTYPE_F32, 3, (int64_t[]){1, T, D}, v->places), c->dtype);
    Tensor *h = layer_norm(c, &v->pre_layrnorm, k->eps, add(c, linear(c, &v->patch_embedding, x), places));
    for (int i = 0; i < k->layers; i++)
        h = clip_layer(c, k, &v->blocks[i], false, h);
    Tensor *token = slice_batch(c, reshape(c, h, 2, (int64_t[]){T, D}), 0, 1);
    return linear(c, &v->visual_projection, layer_norm(c, &v->post_layernorm, k->eps, token));
}
