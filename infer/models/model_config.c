/* The JSON files of a diffusers folder, written from what a model knows about itself. */
#include "model_config.h"

#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Takes over object. */
static char *text_of(json_t *object)
{
    char *text = json_text(object, JSON_INDENT(2)), *copy = NULL;
    if (text)
        copy = mem_printf("%s\n", text);
    free(text);
    return copy;
}

/* A float as the decimal that it was written as: 0.18215f is 0.182150006… as a double. */
static json_t *decimal(float value)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.8g", (double)value);
    for (int n = 1; n < 9;
         n++) { /* the fewest digits that give the float back; a number has no comma in "%g" */
        snprintf(digits, sizeof digits, "%.*g", n, (double)value);
        if (strtof(digits, NULL) == value)
            break;
    }
    return json_real(strtod(digits, NULL));
}

static json_t *int_list(const int *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(values[i]));
    return list;
}

/* n times a name, which of two says attention[i] (NULL: always the first). */
static json_t *type_list(const char *with, const char *without, const bool *attention, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_string(!attention || attention[i] ? with : without));
    return list;
}

/* One number where all are equal, as most files have it. */
static json_t *int_or_list(const int *values, int n)
{
    for (int i = 1; i < n; i++)
        if (values[i] != values[0])
            return int_list(values, n);
    return json_integer(values[0]);
}

static void add_addition(json_t *config, const UNetConfig *k)
{
    if (!k->addition_input)
        return;
    json_object_set_new(config, "addition_embed_type", json_string("text_time"));
    json_object_set_new(config, "addition_time_embed_dim", json_integer(k->addition_width));
    json_object_set_new(config, "projection_class_embeddings_input_dim", json_integer(k->addition_input));
}

char *unet_config_json(const UNetConfig *k)
{
    json_t *config = json_pack(
        "{s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:s, s:i, s:o, s:o, s:i, s:b, s:i, s:o, s:b, s:o, s:s}",
        "_class_name", "UNet2DConditionModel", "sample_size", k->sample_size, "in_channels", k->in_channels,
        "out_channels", k->out_channels, "block_out_channels", int_list(k->channels, k->levels),
        "down_block_types", type_list("CrossAttnDownBlock2D", "DownBlock2D", k->down_attention, k->levels),
        "up_block_types", type_list("CrossAttnUpBlock2D", "UpBlock2D", k->up_attention, k->levels),
        "mid_block_type", k->mid_attention ? "UNetMidBlock2DCrossAttn" : "UNetMidBlock2D", "layers_per_block",
        k->layers_per_block, "attention_head_dim", int_list(k->heads, k->levels),
        "transformer_layers_per_block", int_or_list(k->transformer_layers, k->levels), "cross_attention_dim",
        k->cross_attention_dim, "use_linear_projection", k->linear_projection, "norm_num_groups",
        k->norm_groups, "norm_eps", decimal(k->norm_eps), "flip_sin_to_cos", k->flip_sin_to_cos, "freq_shift",
        k->freq_shift == rintf(k->freq_shift) ? json_integer((json_int_t)k->freq_shift)
                                              : decimal(k->freq_shift),
        "act_fn", "silu");
    if (k->guidance_channels)
        json_object_set_new(config, "time_cond_proj_dim", json_integer(k->guidance_channels));
    add_addition(config, k);
    return text_of(config);
}

char *vae_config_json(const VaeConfig *k)
{
    return text_of(json_pack(
        "{s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:i, s:i, s:i, s:o, s:b, s:b, s:b, s:s}", "_class_name",
        "AutoencoderKL", "in_channels", k->in_channels, "out_channels", k->out_channels, "latent_channels",
        k->latent_channels, "block_out_channels", int_list(k->channels, k->levels), "down_block_types",
        type_list("DownEncoderBlock2D", "", NULL, k->levels), "up_block_types",
        type_list("UpDecoderBlock2D", "", NULL, k->levels), "layers_per_block", k->layers_per_block,
        "norm_num_groups", k->norm_groups, "sample_size", k->sample_size, "scaling_factor",
        decimal(k->scaling_factor), "use_quant_conv", k->use_quant_conv, "use_post_quant_conv",
        k->use_post_quant_conv, "mid_block_add_attention", k->mid_attention, "act_fn", "silu"));
}

char *clip_config_json(const ClipConfig *k)
{
    json_t *config = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:o, s:i, s:i, s:i}", "architectures",
        k->projection ? "CLIPTextModelWithProjection" : "CLIPTextModel", "model_type", "clip_text_model",
        "vocab_size", k->vocab_size, "hidden_size", k->hidden, "intermediate_size", k->intermediate,
        "num_hidden_layers", k->layers, "num_attention_heads", k->heads, "max_position_embeddings",
        k->positions, "hidden_act", k->quick_gelu ? "quick_gelu" : "gelu", "layer_norm_eps", decimal(k->eps),
        "bos_token_id", k->bos, "eos_token_id", k->eos, "pad_token_id", k->pad);
    if (k->projection)
        json_object_set_new(config, "projection_dim", json_integer(k->projection));
    return text_of(config);
}

static const char *const PREDICTIONS[] = {"epsilon", "v_prediction", "sample"};

char *config_with_prediction(const char *json, PredictionType prediction)
{
    json_t *config = json_parse(json, 0, NULL);
    json_object_set_new(config, "prediction_type", json_string(PREDICTIONS[prediction]));
    return text_of(config);
}

static json_t *sdxl_scheduler(PredictionType prediction)
{
    return json_pack("{s:s, s:o, s:o, s:s, s:b, s:s, s:i, s:s, s:f, s:b, s:b, s:i, s:s, s:b}", "_class_name",
                     "EulerDiscreteScheduler", "beta_start", json_real(0.00085), "beta_end", json_real(0.012),
                     "beta_schedule", "scaled_linear", "clip_sample", 0, "interpolation_type", "linear",
                     "num_train_timesteps", 1000, "prediction_type", PREDICTIONS[prediction],
                     "sample_max_value", 1.0, "set_alpha_to_one", 0, "skip_prk_steps", 1, "steps_offset", 1,
                     "timestep_spacing", "leading", "use_karras_sigmas", 0);
}

static json_t *sd_scheduler(PredictionType prediction)
{
    return json_pack("{s:s, s:o, s:o, s:s, s:i, s:b, s:b, s:i, s:b, s:s}", "_class_name", "PNDMScheduler",
                     "beta_start", json_real(0.00085), "beta_end", json_real(0.012), "beta_schedule",
                     "scaled_linear", "num_train_timesteps", 1000, "set_alpha_to_one", 0, "skip_prk_steps", 1,
                     "steps_offset", 1, "clip_sample", 0, "prediction_type", PREDICTIONS[prediction]);
}

char *scheduler_config_json(ModelFamily family, PredictionType prediction, bool zero_snr)
{
    json_t *config = family == FAMILY_SDXL ? sdxl_scheduler(prediction) : sd_scheduler(prediction);
    if (zero_snr && family != FAMILY_SDXL) /* PNDM has no step from pure noise */
        json_object_set_new(config, "_class_name", json_string("DDIMScheduler"));
    if (zero_snr) {
        json_object_set_new(config, "rescale_betas_zero_snr", json_true());
        json_object_set_new(config, "timestep_spacing", json_string("trailing"));
    }
    return text_of(config);
}

static void add_class(json_t *index, const char *name, const char *library, const char *class_name)
{
    json_object_set_new(index, name, json_pack("[s?,s?]", library, class_name));
}

/* What the pipelines of SD1.x and SD2.x, and SDXL's, want to know besides their parts. */
static void add_settings(json_t *index, const Model *m)
{
    if (m->family == FAMILY_SDXL) {
        json_object_set_new(index, "force_zeros_for_empty_prompt", json_boolean(m->zero_negative));
        return;
    }
    add_class(index, "safety_checker", NULL, NULL);
    add_class(index, "feature_extractor", NULL, NULL);
    json_object_set_new(index, "requires_safety_checker", json_false());
}

char *model_index_json(const Model *m)
{
    static const char *const CLASSES[2][2] = {
        {"StableDiffusionPipeline", "StableDiffusionInpaintPipeline"},
        {"StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"}};
    json_t *scheduler = json_parse(m->scheduler_json, 0, NULL);
    const char *kind = json_string_value(json_object_get(scheduler, "_class_name"));
    json_t *index = json_pack("{s:s}", "_class_name", CLASSES[m->family == FAMILY_SDXL][m->inpainting]);
    add_class(index, "scheduler", "diffusers", kind ? kind : "PNDMScheduler");
    for (int i = 0; i < PART_COUNT; i++) {
        if (!model_has(m, (PartId)i))
            continue;
        add_class(index, PARTS[i].folder, PARTS[i].kind->library, PARTS[i].kind->class_name);
        if (PARTS[i].tokenizer)
            add_class(index, PARTS[i].tokenizer, "transformers", "CLIPTokenizer");
    }
    add_settings(index, m);
    json_decref(scheduler);
    return text_of(index);
}

char *config_with_dtype(const char *json, DType dtype)
{
    static const char *const keys[] = {"torch_dtype", "dtype"};
    const char *name = dtype == DTYPE_F16 ? "float16" : dtype == DTYPE_BF16 ? "bfloat16" : "float32";
    json_t *config = json_parse(json, 0, NULL);
    bool changed = false;
    if (!config)
        return NULL;
    for (int i = 0; i < 2; i++)
        if (json_is_string(json_object_get(config, keys[i]))) {
            json_object_set_new(config, keys[i], json_string(name));
            changed = true;
        }
    if (changed)
        return text_of(config);
    json_decref(config);
    return mem_strdup(json);
}
