/* config.json of a UNet, as diffusers' UNet2DConditionModel writes it: the same defaults where a key is
 * absent. What this UNet does not have is refused by name rather than computed wrongly. */
#include "infer/files/json_config.h"
#include "unet.h"

#include <string.h>

/* The only values that these keys may have (absent and null are fine). */
static const JsonAccepted ACCEPTED[] = {
    {"center_input_sample", "false"},
    {"downsample_padding", "1"},
    {"mid_block_scale_factor", "1"},
    {"only_cross_attention", "false"},
    {"dual_cross_attention", "false"},
    {"mid_block_only_cross_attention", "false"},
    {"act_fn", "\"silu\""},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"class_embed_type", "null"},
    {"num_class_embeds", "null"},
    {"class_embeddings_concat", "false"},
    {"reverse_transformer_layers_per_block", "null"},
    {"resnet_time_scale_shift", "\"default\""},
    {"resnet_skip_time_act", "false"},
    {"resnet_out_scale_factor", "1"},
    {"time_embedding_type", "\"positional\""},
    {"time_embedding_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"timestep_post_act", "null"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"attention_type", "\"default\""},
    {"cross_attention_norm", "null"},
    {NULL, NULL},
};

/* Which of the levels' blocks have attention: down_block_types and up_block_types. */
static void parse_blocks(JsonConfig *c, const char *key, const char *with, const char *without, int levels,
                         bool *out)
{
    if (!json_config_get(c, key)) { /* diffusers' default: SD1.x, no attention at the smallest size */
        if (levels != 4)
            json_config_fail(c, "%s is missing", key);
        for (int i = 0; i < levels; i++)
            out[i] = key[0] == 'd' ? i < levels - 1 : i > 0;
        return;
    }
    if (json_config_length(c, key) != levels)
        json_config_fail(c, "%s has %d blocks, block_out_channels has %d", key, json_config_length(c, key),
                         levels);
    for (int i = 0; i < levels; i++) {
        const char *type = json_config_item(c, key, i);
        out[i] = !strcmp(type, with);
        if (!out[i] && strcmp(type, without) != 0)
            json_config_fail(c, "%s: %s: only %s and %s are supported", key, type, with, without);
    }
}

/* What SDXL is told beside the text's states: text_time, a pooled text and numbers of size. */
static void parse_addition(JsonConfig *c, UNetConfig *k)
{
    const char *type = json_config_text(c, "addition_embed_type", "");
    if (!*type)
        return;
    if (strcmp(type, "text_time") != 0)
        json_config_fail(c, "addition_embed_type: \"%s\" is not supported, only text_time is", type);
    k->addition_width = json_config_int(c, "addition_time_embed_dim", 0, 2, 1 << 16);
    k->addition_input = json_config_int(c, "projection_class_embeddings_input_dim", 0, 1, 1 << 18);
    if (k->addition_width < 2 || k->addition_width % 2 || k->addition_input < 1)
        json_config_fail(c, "text_time needs an even addition_time_embed_dim and "
                            "projection_class_embeddings_input_dim");
}

int unet_size_numbers(const UNetConfig *k, int pooled)
{
    const int rest = k->addition_input - pooled;
    return k->addition_width > 0 && rest > 0 && rest % k->addition_width == 0 ? rest / k->addition_width : -1;
}

static void parse_levels(JsonConfig *c, UNetConfig *k)
{
    static const int sd15[4] = {320, 640, 1280, 1280};
    k->levels = json_config_get(c, "block_out_channels") ? json_config_length(c, "block_out_channels") : 4;
    if (k->levels < 1 || k->levels > UNET_MAX_LEVELS) {
        json_config_fail(c, "block_out_channels is not a list of 1 to %d numbers", UNET_MAX_LEVELS);
        k->levels = 1;
    }
    json_config_ints(c, "block_out_channels", 1, 1 << 16, k->levels, k->channels);
    if (!json_config_get(c, "block_out_channels"))
        memcpy(k->channels, sd15, sizeof sd15);
    int layers[UNET_MAX_LEVELS];
    json_config_ints(c, "layers_per_block", 2, UNET_MAX_RESNETS - 1, k->levels, layers);
    k->layers_per_block = layers[0];
    for (int i = 1; i < k->levels; i++)
        if (layers[i] != layers[0])
            json_config_fail(c, "layers_per_block differs between levels: not supported");
    parse_blocks(c, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", k->levels, k->down_attention);
    parse_blocks(c, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", k->levels, k->up_attention);
    const char *mid = json_config_text(c, "mid_block_type", "UNetMidBlock2DCrossAttn");
    k->mid_attention = !strcmp(mid, "UNetMidBlock2DCrossAttn");
    if (!k->mid_attention && strcmp(mid, "UNetMidBlock2D") != 0)
        json_config_fail(
            c, "mid_block_type: %s: only UNetMidBlock2DCrossAttn and UNetMidBlock2D are supported", mid);
}

/* Channels split evenly into groups and heads. */
static void check_divisions(JsonConfig *c, const UNetConfig *k)
{
    for (int i = 0; i < k->levels; i++) {
        const bool attention = k->down_attention[i] || k->up_attention[k->levels - 1 - i] ||
                               (i == k->levels - 1 && k->mid_attention);
        if (k->channels[i] % k->norm_groups)
            json_config_fail(c, "%d channels do not split into norm_num_groups %d", k->channels[i],
                             k->norm_groups);
        if (attention && k->channels[i] % k->heads[i])
            json_config_fail(c, "%d channels do not split into %d heads (attention_head_dim)", k->channels[i],
                             k->heads[i]);
    }
    if (k->channels[0] % 2)
        json_config_fail(c, "block_out_channels begins with an odd number: no time embedding can be made");
}

Status unet_config_parse(const char *json, const char *origin, UNetConfig *out)
{
    JsonConfig c;
    UNetConfig k = {0};
    json_config_open(&c, json, origin);
    const char *class_name = json_config_text(&c, "_class_name", "UNet2DConditionModel");
    if (strcmp(class_name, "UNet2DConditionModel") != 0)
        json_config_fail(&c, "is a %s, not a UNet2DConditionModel", class_name);
    json_config_accept(&c, ACCEPTED);
    parse_levels(&c, &k);
    const json_t *size = json_config_get(&c, "sample_size");
    if (json_is_array(size)) { /* (height, width) */
        int sides[2];
        json_config_ints(&c, "sample_size", 64, 1 << 14, 2, sides);
        k.sample_size = sides[0] > sides[1] ? sides[0] : sides[1];
    } else
        k.sample_size = json_config_int(&c, "sample_size", 64, 1, 1 << 14);
    k.in_channels = json_config_int(&c, "in_channels", 4, 1, 1 << 12);
    k.out_channels = json_config_int(&c, "out_channels", 4, 1, 1 << 12);
    /* The name is a mistake that diffusers keeps for the sake of files: it is the number of heads. */
    const char *heads =
        json_config_get(&c, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    json_config_ints(&c, heads, 8, 1 << 12, k.levels, k.heads);
    json_config_ints(&c, "transformer_layers_per_block", 1, 64, k.levels, k.transformer_layers);
    int cross[UNET_MAX_LEVELS];
    json_config_ints(&c, "cross_attention_dim", 1280, 1 << 16, k.levels, cross);
    k.cross_attention_dim = cross[0];
    for (int i = 1; i < k.levels; i++)
        if (cross[i] != cross[0])
            json_config_fail(&c, "cross_attention_dim differs between levels: not supported");
    k.linear_projection = json_config_bool(&c, "use_linear_projection", false);
    k.norm_groups = json_config_int(&c, "norm_num_groups", 32, 1, 1 << 16);
    k.norm_eps = (float)json_config_float(&c, "norm_eps", 1e-5, JSON_POSITIVE, 1);
    k.flip_sin_to_cos = json_config_bool(&c, "flip_sin_to_cos", true);
    k.freq_shift = (float)json_config_float(&c, "freq_shift", 0, -1000, 1000);
    k.guidance_channels = json_config_int(&c, "time_cond_proj_dim", 0, 2, 1 << 16);
    parse_addition(&c, &k);
    check_divisions(&c, &k);
    TRY(json_config_close(&c));
    *out = k;
    return STATUS_OK;
}
