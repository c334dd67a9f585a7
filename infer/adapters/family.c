#include "family.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SD1 "Stable Diffusion 1.x"
#define SD2 "Stable Diffusion 2.x"
#define SD3 "Stable Diffusion 3"

/* What trainers write: the start of kohya's ss_base_model_version, a part of modelspec.architecture. */
static const struct {
    const char *key, *word, *family;
} METADATA[] = {
    {"ss_base_model_version", "sdxl", "SDXL"},
    {"ss_base_model_version", "sd3", SD3},
    {"ss_base_model_version", "flux", "Flux"},
    {"ss_base_model_version", "sd_v2", SD2},
    {"ss_base_model_version", "sd_v1", SD1},
    {"modelspec.architecture", "stable-diffusion-xl", "SDXL"},
    {"modelspec.architecture", "stable-diffusion-v3", SD3},
    {"modelspec.architecture", "stable-diffusion-3", SD3},
    {"modelspec.architecture", "flux", "Flux"},
    {"modelspec.architecture", "stable-diffusion-v2", SD2},
    {"modelspec.architecture", "stable-diffusion-v1", SD1},
};

/* Parts of keys that one family has alone. */
static const struct {
    const char *part, *family;
} KEYS[] = {
    {"lora_te2_", "SDXL"},     {"text_encoder_2.", "SDXL"},
    {"double_blocks", "Flux"}, {"single_transformer_blocks", "Flux"},
    {"single_blocks", "Flux"}, {"joint_blocks", SD3},
};

static const char *family_of_width(int64_t width)
{
    return width == 768 ? SD1 : width == 1024 ? SD2 : width == 2048 ? "SDXL" : NULL;
}

static const char *by_metadata(const TensorFile *f, char *why, size_t size)
{
    const char *v2 = tensorfile_metadata(f, "ss_v2");
    if (v2 && !strcmp(v2, "True")) {
        snprintf(why, size, "its metadata says ss_v2");
        return SD2;
    }
    for (size_t i = 0; i < sizeof METADATA / sizeof *METADATA; i++) {
        const char *value = tensorfile_metadata(f, METADATA[i].key);
        if (value && strstr(value, METADATA[i].word)) {
            snprintf(why, size, "its metadata says %s %.40s", METADATA[i].key, value);
            return METADATA[i].family;
        }
    }
    return NULL;
}

/* What the attention over the text takes: the width of the text encoder's states. */
static const char *by_shape(const TensorEntry *e, char *why, size_t size)
{
    static const char *const ENDINGS[] = {"lora_down.weight", "lora_A.weight", "lora.down.weight",
                                          "hada_w1_b"};
    const bool over_text = strstr(e->name, "attn2_to_k") || strstr(e->name, "attn2.to_k") ||
                           strstr(e->name, "attn2_to_v") || strstr(e->name, "attn2.to_v");
    for (size_t i = 0; over_text && e->ndim >= 2 && i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (strstr(e->name, ENDINGS[i])) {
            snprintf(why, size, "its layers take texts of %lld numbers a token", (long long)e->shape[1]);
            return family_of_width(e->shape[1]);
        }
    return NULL;
}

const char *adapter_family(const TensorFile *f, char *why, size_t size)
{
    const char *family = by_metadata(f, why, size);
    for (int i = 0; !family && i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        for (size_t k = 0; !family && k < sizeof KEYS / sizeof *KEYS; k++)
            if (strstr(e->name, KEYS[k].part)) {
                snprintf(why, size, "its keys are called so");
                family = KEYS[k].family;
            }
    }
    for (int i = 0; !family && i < tensorfile_count(f); i++)
        family = by_shape(tensorfile_entry(f, i), why, size);
    return family;
}

const char *model_family(const Model *m)
{
    if (m->family == FAMILY_SDXL)
        return "SDXL";
    return m->unet ? family_of_width(unet_config(m->unet)->cross_attention_dim) : NULL;
}
