/* Stable Diffusion 1.5's shapes, and those of the built-in model, as their config.json files have them. */
#include "bench_models.h"

#include "kernels/base/mem.h"

#include <string.h>

#define SEED 1

static const BenchShapes SHAPES[] = {
    {
        .name = "sd15",
        .resolution = 512,
        .unet = {.sample_size = 64,
                 .in_channels = 4,
                 .out_channels = 4,
                 .levels = 4,
                 .channels = {320, 640, 1280, 1280},
                 .down_attention = {true, true, true, false},
                 .up_attention = {false, true, true, true},
                 .mid_attention = true,
                 .layers_per_block = 2,
                 .heads = {8, 8, 8, 8},
                 .transformer_layers = 1,
                 .cross_attention_dim = 768,
                 .norm_groups = 32,
                 .norm_eps = 1e-5f,
                 .flip_sin_to_cos = true},
        .vae = {.in_channels = 3,
                .out_channels = 3,
                .latent_channels = 4,
                .levels = 4,
                .channels = {128, 256, 512, 512},
                .layers_per_block = 2,
                .norm_groups = 32,
                .sample_size = 512,
                .scaling_factor = 0.18215f,
                .use_quant_conv = true,
                .use_post_quant_conv = true,
                .mid_attention = true},
        .clip = {.vocab_size = 49408,
                 .hidden = 768,
                 .intermediate = 3072,
                 .layers = 12,
                 .heads = 12,
                 .positions = 77,
                 .quick_gelu = true,
                 .eps = 1e-5f,
                 .bos = 49406,
                 .eos = 49407,
                 .pad = 49407},
    },
    {
        .name = "tiny",
        .resolution = 64,
        .unet = {.sample_size = 16,
                 .in_channels = 4,
                 .out_channels = 4,
                 .levels = 3,
                 .channels = {64, 128, 192},
                 .down_attention = {true, true, false},
                 .up_attention = {false, true, true},
                 .mid_attention = true,
                 .layers_per_block = 1,
                 .heads = {4, 4, 4},
                 .transformer_layers = 1,
                 .cross_attention_dim = 192,
                 .norm_groups = 32,
                 .norm_eps = 1e-5f,
                 .flip_sin_to_cos = true},
        .vae = {.in_channels = 3,
                .out_channels = 3,
                .latent_channels = 4,
                .levels = 3,
                .channels = {32, 64, 64},
                .layers_per_block = 1,
                .norm_groups = 16,
                .sample_size = 64,
                .scaling_factor = 0.731153f,
                .use_quant_conv = true,
                .use_post_quant_conv = true,
                .mid_attention = true},
        .clip = {.vocab_size = 2048,
                 .hidden = 192,
                 .intermediate = 768,
                 .layers = 2,
                 .heads = 4,
                 .positions = 77,
                 .quick_gelu = true,
                 .eps = 1e-5f,
                 .bos = 2046,
                 .eos = 2047,
                 .pad = 2047},
    },
};

const BenchShapes *bench_shapes(const char *name)
{
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (strcmp(SHAPES[i].name, name) == 0)
            return &SHAPES[i];
    return NULL;
}

/* Each part draws from a stream of its own. */
static Status make_part(const BenchShapes *shapes, ModelPart part, DType dtype, Model *m)
{
    Weights *w = NULL;
    TRY(weights_random(SEED + (uint64_t)part, dtype, &w));
    const Status s = part == MODEL_UNET  ? unet_new(&shapes->unet, w, &m->unet)
                     : part == MODEL_VAE ? vae_new(&shapes->vae, w, &m->vae)
                                         : clip_new(&shapes->clip, w, &m->clip);
    weights_close(w);
    return s;
}

Status bench_model(const BenchShapes *shapes, int parts, DType dtype, Model **out)
{
    static const ModelPart PARTS[] = {MODEL_TEXT, MODEL_UNET, MODEL_VAE};
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    m->name = mem_strdup(shapes->name);
    Status s = m->name ? STATUS_OK : STATUS_FAILED;
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS && s == STATUS_OK; i++)
        if (parts & PARTS[i])
            s = make_part(shapes, PARTS[i], dtype, m);
    const int factor = 1 << (shapes->vae.levels - 1);
    m->default_size = shapes->resolution;
    m->size_multiple = factor << (shapes->unet.levels - 1);
    if (s == STATUS_OK)
        *out = m;
    else
        model_free(m);
    return s;
}
