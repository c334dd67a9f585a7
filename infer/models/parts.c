#include "parts.h"

#include "model_config.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Kinds ------------------------------------------------------------------------------------------------ */

static json_t *channel_list(const int *channels, int levels)
{
    json_t *list = json_array();
    for (int i = 0; i < levels; i++)
        json_array_append_new(list, json_integer(channels[i]));
    return list;
}

static Status parse_clip(const char *json, const char *origin, void *config)
{
    return clip_config_parse(json, origin, config);
}
static Status parse_clip_projected(const char *json, const char *origin, void *config)
{
    return clip_projected_config_parse(json, origin, config);
}
static char *json_of_clip(const void *config)
{
    return clip_config_json(config);
}
static Status create_clip(const void *config, Weights *w, void **network)
{
    Clip *m = NULL;
    const Status s = clip_new(config, w, &m);
    *network = m;
    return s;
}
static void destroy_clip(void *network)
{
    clip_free(network);
}
static LayerSet *layers_of_clip(void *network)
{
    return clip_layers(network);
}
static void facts_of_clip(const void *config, json_t *o)
{
    const ClipConfig *k = config;
    json_object_set_new(o, "width", json_integer(k->hidden));
    json_object_set_new(o, "layers", json_integer(k->layers));
    json_object_set_new(o, "heads", json_integer(k->heads));
    json_object_set_new(o, "vocabulary", json_integer(k->vocab_size));
    if (k->projection)
        json_object_set_new(o, "projection", json_integer(k->projection));
}

static Status parse_unet(const char *json, const char *origin, void *config)
{
    return unet_config_parse(json, origin, config);
}
static char *json_of_unet(const void *config)
{
    return unet_config_json(config);
}
static Status create_unet(const void *config, Weights *w, void **network)
{
    UNet *u = NULL;
    const Status s = unet_new(config, w, &u);
    *network = u;
    return s;
}
static void destroy_unet(void *network)
{
    unet_free(network);
}
static LayerSet *layers_of_unet(void *network)
{
    return unet_layers(network);
}
static void facts_of_unet(const void *config, json_t *o)
{
    const UNetConfig *k = config;
    json_object_set_new(o, "channels", channel_list(k->channels, k->levels));
    json_object_set_new(o, "layers_per_block", json_integer(k->layers_per_block));
    json_object_set_new(o, "text_width", json_integer(k->cross_attention_dim));
}

static Status parse_vae(const char *json, const char *origin, void *config)
{
    return vae_config_parse(json, origin, config);
}
static char *json_of_vae(const void *config)
{
    return vae_config_json(config);
}
static Status create_vae(const void *config, Weights *w, void **network)
{
    Vae *v = NULL;
    const Status s = vae_new(config, w, &v);
    *network = v;
    return s;
}
static void destroy_vae(void *network)
{
    vae_free(network);
}
static LayerSet *layers_of_vae(void *network)
{
    return vae_layers(network);
}
static void facts_of_vae(const void *config, json_t *o)
{
    const VaeConfig *k = config;
    json_object_set_new(o, "channels", channel_list(k->channels, k->levels));
    json_object_set_new(o, "latent_channels", json_integer(k->latent_channels));
    json_object_set_new(o, "scaling_factor", json_real((double)k->scaling_factor));
}

static const PartKind CLIP_TEXT = {"transformers", "CLIPTextModel", "model",
                                   parse_clip,     json_of_clip,    create_clip,
                                   destroy_clip,   layers_of_clip,  facts_of_clip};
static const PartKind CLIP_TEXT_PROJECTED = {"transformers", "CLIPTextModelWithProjection",
                                             "model",        parse_clip_projected,
                                             json_of_clip,   create_clip,
                                             destroy_clip,   layers_of_clip,
                                             facts_of_clip};
static const PartKind UNET = {"diffusers",  "UNet2DConditionModel", "diffusion_pytorch_model",
                              parse_unet,   json_of_unet,           create_unet,
                              destroy_unet, layers_of_unet,         facts_of_unet};
static const PartKind KL_VAE = {"diffusers", "AutoencoderKL", "diffusion_pytorch_model",
                                parse_vae,   json_of_vae,     create_vae,
                                destroy_vae, layers_of_vae,   facts_of_vae};

/* Names in single files -------------------------------------------------------------------------------- */

static bool unet_names(const char *key, const void *config, char names[KEYMAP_PARTS][KEYMAP_MAX], int *count)
{
    *count = 1;
    return keymap_unet(key, ((const UNetConfig *)config)->layers_per_block, names[0]);
}

static bool vae_names(const char *key, const void *config, char names[KEYMAP_PARTS][KEYMAP_MAX], int *count)
{
    *count = 1;
    return keymap_vae(key, ((const VaeConfig *)config)->levels, names[0]);
}

/* SD2 stops before the last of OpenCLIP's layers: what a file has beyond is no tensor of the model's. */
static bool openclip_names(const char *key, const void *config, char names[KEYMAP_PARTS][KEYMAP_MAX],
                           int *count)
{
    int layer;
    if (sscanf(key, "transformer.resblocks.%3d.", &layer) == 1 &&
        layer >= ((const ClipConfig *)config)->layers) {
        *count = 0;
        return true;
    }
    return keymap_openclip(key, names, count);
}

static bool unet_name_back(const char *name, const void *config, char key[KEYMAP_MAX], int *third)
{
    const UNetConfig *k = config;
    *third = -1;
    return keymap_unet_back(name, k->layers_per_block, k->up_attention, key);
}

static bool vae_name_back(const char *name, const void *config, char key[KEYMAP_MAX], int *third)
{
    *third = -1;
    return keymap_vae_back(name, ((const VaeConfig *)config)->levels, key);
}

static bool openclip_name_back(const char *name, const void *config, char key[KEYMAP_MAX], int *third)
{
    (void)config;
    return keymap_openclip_back(name, key, third);
}

/* The table -------------------------------------------------------------------------------------------- */

/* The same in every build. */
#define UNET_SINGLE                                                                                          \
    {                                                                                                        \
        .prefix = KEYMAP_UNET, .rename = unet_names, .name_back = unet_name_back                             \
    }
#define VAE_SINGLE                                                                                           \
    {                                                                                                        \
        .prefix = KEYMAP_VAE, .rename = vae_names, .name_back = vae_name_back                                \
    }

#define ALL_FAMILIES ((1u << FAMILY_COUNT) - 1)

static const char *const NONE[] = {NULL};
static const char *const TEXT_UNNEEDED[] = {"position_ids",      "text_projection", "logit_scale",
                                            "visual_projection", "vision_model.",   NULL};
static const char *const TEXT_2_UNNEEDED[] = {"position_ids", "logit_scale", "visual_projection",
                                              "vision_model.", NULL};
static const char *const VAE_UNNEEDED[] = {"loss.", "model_ema.", NULL};

/* In the order in which a picture goes through them. */
const Part PARTS[PART_COUNT] = {
    [PART_TEXT] = {.folder = "text_encoder",
                   .tokenizer = "tokenizer",
                   .kind = &CLIP_TEXT,
                   .config = offsetof(ModelShapes, clip),
                   .network = offsetof(Model, clip),
                   .stream = 2,
                   .drawn = true,
                   .families = ALL_FAMILIES,
                   .unneeded = TEXT_UNNEEDED,
                   .single = {[BUILD_SD1] = {.prefix = KEYMAP_CLIP},
                              [BUILD_SD2] = {.prefix = KEYMAP_OPENCLIP,
                                             .rename = openclip_names,
                                             .name_back = openclip_name_back},
                              [BUILD_SDXL] = {.prefix = KEYMAP_XL_CLIP}}},
    [PART_TEXT_2] = {.folder = "text_encoder_2",
                     .tokenizer = "tokenizer_2",
                     .kind = &CLIP_TEXT_PROJECTED,
                     .config = offsetof(ModelShapes, clip_2),
                     .network = offsetof(Model, clip_2),
                     .stream = 3,
                     .drawn = true,
                     .families = 1u << FAMILY_SDXL,
                     .unneeded = TEXT_2_UNNEEDED,
                     .single = {[BUILD_SDXL] = {.prefix = KEYMAP_XL_OPENCLIP,
                                                .rename = openclip_names,
                                                .name_back = openclip_name_back,
                                                .turned = "text_projection.weight"}}},
    [PART_UNET] = {.folder = "unet",
                   .kind = &UNET,
                   .config = offsetof(ModelShapes, unet),
                   .network = offsetof(Model, unet),
                   .stream = 0,
                   .drawn = true,
                   .families = ALL_FAMILIES,
                   .unneeded = NONE,
                   .single = {UNET_SINGLE, UNET_SINGLE, UNET_SINGLE}},
    [PART_VAE] = {.folder = "vae",
                  .kind = &KL_VAE,
                  .config = offsetof(ModelShapes, vae),
                  .network = offsetof(Model, vae),
                  .stream = 1,
                  .drawn = false,
                  .families = ALL_FAMILIES,
                  .unneeded = VAE_UNNEEDED,
                  .single = {VAE_SINGLE, VAE_SINGLE, VAE_SINGLE}},
};

bool part_of_family(PartId id, ModelFamily f)
{
    return PARTS[id].families & 1u << f;
}

void *part_config(PartId id, ModelShapes *shapes)
{
    return (char *)shapes + PARTS[id].config;
}

/* The field is a pointer to a type of its own, so its bytes are copied. */
void *part_network(PartId id, const Model *m)
{
    void *network;
    memcpy(&network, (const char *)m + PARTS[id].network, sizeof network);
    return network;
}

void part_set_network(PartId id, Model *m, void *network)
{
    memcpy((char *)m + PARTS[id].network, &network, sizeof network);
}

LayerSet *part_layers(PartId id, const Model *m)
{
    void *network = part_network(id, m);
    return network ? PARTS[id].kind->layers(network) : NULL;
}
