/* Names turned into names. CompVis numbers the UNet's blocks in one row down and one row up, a downsampling
 * counting as a block of its own; diffusers numbers levels and the blocks in them. */
#include "keymap.h"

#include <stdio.h>
#include <string.h>

typedef struct Renamed {
    const char *from, *to; /* beginnings */
} Renamed;

/* What stands before and after in the table, the rest of the key kept. */
static bool rename_beginning(const Renamed *table, size_t count, const char *prefix, const char *key,
                             char *out)
{
    for (size_t i = 0; i < count; i++) {
        const size_t n = strlen(table[i].from);
        if (!strncmp(key, table[i].from, n))
            return snprintf(out, KEYMAP_MAX, "%s%s%s", prefix, table[i].to, key + n) < KEYMAP_MAX;
    }
    return false;
}
#define RENAME(table, prefix, key, out)                                                                      \
    rename_beginning(table, sizeof(table) / sizeof *(table), prefix, key, out)

/* UNet ------------------------------------------------------------------------------------------------- */

static const Renamed unet_ends[] = {
    {"time_embed.0.", "time_embedding.linear_1."},
    {"time_embed.2.", "time_embedding.linear_2."},
    {"input_blocks.0.0.", "conv_in."},
    {"out.0.", "conv_norm_out."},
    {"out.2.", "conv_out."},
};
static const Renamed unet_resnet[] = {
    {"in_layers.0.", "norm1."},  {"in_layers.2.", "conv1."},  {"emb_layers.1.", "time_emb_proj."},
    {"out_layers.0.", "norm2."}, {"out_layers.3.", "conv2."}, {"skip_connection.", "conv_shortcut."},
};
static const Renamed downsample[] = {{"op.", "downsamplers.0.conv."}};
static const Renamed upsample[] = {{"conv.", "upsamplers.0.conv."}};
static const Renamed transformer_parts[] = {{"norm.", "norm."},
                                            {"proj_in.", "proj_in."},
                                            {"proj_out.", "proj_out."},
                                            {"transformer_blocks.", "transformer_blocks."}};

/* "SECTION.i.k.": the numbers, and what comes after them; NULL: not of this form. */
static const char *numbered(const char *key, const char *section, int *i, int *k)
{
    const size_t n = strlen(section);
    int used = 0;
    if (strncmp(key, section, n) || sscanf(key + n, "%3d.%3d.%n", i, k, &used) != 2 || used == 0 || *i < 0 ||
        *k < 0)
        return NULL;
    return key + n + used;
}

/* A residual block at place r of a level, its transformer, or its resampling. */
static bool rename_block(const char *level, int r, int k, const Renamed *resampler, const char *rest,
                         char *out)
{
    char prefix[96];
    if (rename_beginning(resampler, 1, level, rest, out))
        return true;
    snprintf(prefix, sizeof prefix, "%s%s.%d.", level, k == 0 ? "resnets" : "attentions", r);
    return k == 0 ? RENAME(unet_resnet, prefix, rest, out) : RENAME(transformer_parts, prefix, rest, out);
}

bool keymap_unet(const char *key, int layers_per_block, char out[KEYMAP_MAX])
{
    const int row = layers_per_block + 1;
    char level[64];
    int i, k;
    const char *rest;
    if (RENAME(unet_ends, "", key, out))
        return true;
    if ((rest = numbered(key, "input_blocks.", &i, &k)) && i > 0 && k < 2) {
        snprintf(level, sizeof level, "down_blocks.%d.", (i - 1) / row);
        return rename_block(level, (i - 1) % row, k, downsample, rest, out);
    }
    if ((rest = numbered(key, "output_blocks.", &i, &k)) && k < 3) {
        snprintf(level, sizeof level, "up_blocks.%d.", i / row);
        return rename_block(level, i % row, k, upsample, rest, out);
    }
    int used = 0;
    if (sscanf(key, "middle_block.%1d.%n", &i, &used) == 1 && used > 0 && i >= 0 && i < 3)
        return i == 1 ? RENAME(transformer_parts, "mid_block.attentions.0.", key + used, out)
                      : RENAME(unet_resnet, i == 0 ? "mid_block.resnets.0." : "mid_block.resnets.1.",
                               key + used, out);
    return false;
}

/* VAE -------------------------------------------------------------------------------------------------- */

static const Renamed vae_whole[] = {{"quant_conv.", "quant_conv."}, {"post_quant_conv.", "post_quant_conv."}};
static const Renamed vae_ends[] = {
    {"conv_in.", "conv_in."},
    {"conv_out.", "conv_out."},
    {"norm_out.", "conv_norm_out."},
    {"mid.attn_1.norm.", "mid_block.attentions.0.group_norm."},
    {"mid.attn_1.q.", "mid_block.attentions.0.to_q."},
    {"mid.attn_1.k.", "mid_block.attentions.0.to_k."},
    {"mid.attn_1.v.", "mid_block.attentions.0.to_v."},
    {"mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."},
};
static const Renamed vae_resnet[] = {
    {"norm1.", "norm1."},
    {"conv1.", "conv1."},
    {"norm2.", "norm2."},
    {"conv2.", "conv2."},
    {"nin_shortcut.", "conv_shortcut."},
};
static const Renamed vae_resamplers[] = {{"downsample.conv.", "downsamplers.0.conv."},
                                         {"upsample.conv.", "upsamplers.0.conv."}};

bool keymap_vae(const char *key, int levels, char out[KEYMAP_MAX])
{
    if (RENAME(vae_whole, "", key, out))
        return true;
    const bool encoder = !strncmp(key, "encoder.", 8);
    if (!encoder && strncmp(key, "decoder.", 8) != 0)
        return false;
    const char *half = encoder ? "encoder." : "decoder.", *rest = key + 8;
    if (RENAME(vae_ends, half, rest, out))
        return true;
    char prefix[96];
    int i, j, used = 0;
    if (sscanf(rest, "mid.block_%1d.%n", &i, &used) == 1 && used > 0 && (i == 1 || i == 2)) {
        snprintf(prefix, sizeof prefix, "%smid_block.resnets.%d.", half, i - 1);
        return RENAME(vae_resnet, prefix, rest + used, out);
    }
    used = 0;
    if (sscanf(rest, encoder ? "down.%2d.%n" : "up.%2d.%n", &i, &used) != 1 || used == 0 || i < 0 ||
        i >= levels)
        return false;
    rest += used;
    snprintf(prefix, sizeof prefix, "%s%s_blocks.%d.", half, encoder ? "down" : "up",
             encoder ? i : levels - 1 - i);
    if (RENAME(vae_resamplers, prefix, rest, out))
        return true;
    used = 0;
    if (sscanf(rest, "block.%3d.%n", &j, &used) != 1 || used == 0 || j < 0)
        return false;
    const size_t n = strlen(prefix);
    snprintf(prefix + n, sizeof prefix - n, "resnets.%d.", j);
    return RENAME(vae_resnet, prefix, rest + used, out);
}

/* OpenCLIP --------------------------------------------------------------------------------------------- */

static const Renamed openclip_ends[] = {
    {"token_embedding.", "text_model.embeddings.token_embedding."},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final.", "text_model.final_layer_norm."},
};
static const Renamed openclip_layer[] = {
    {"ln_1.", "layer_norm1."}, {"ln_2.", "layer_norm2."},   {"attn.out_proj.", "self_attn.out_proj."},
    {"mlp.c_fc.", "mlp.fc1."}, {"mlp.c_proj.", "mlp.fc2."},
};

bool keymap_openclip(const char *key, char out[KEYMAP_PARTS][KEYMAP_MAX], int *parts)
{
    static const char *const thirds[] = {"q_proj", "k_proj", "v_proj"};
    *parts = 1;
    if (RENAME(openclip_ends, "", key, out[0]))
        return true;
    int i, used = 0;
    if (sscanf(key, "transformer.resblocks.%3d.%n", &i, &used) != 1 || used == 0 || i < 0)
        return false;
    const char *rest = key + used;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "text_model.encoder.layers.%d.", i);
    const bool weight = !strcmp(rest, "attn.in_proj_weight");
    if (!weight && strcmp(rest, "attn.in_proj_bias") != 0)
        return RENAME(openclip_layer, prefix, rest, out[0]);
    *parts = 3;
    for (int k = 0; k < 3; k++)
        snprintf(out[k], KEYMAP_MAX, "%sself_attn.%s.%s", prefix, thirds[k], weight ? "weight" : "bias");
    return true;
}
