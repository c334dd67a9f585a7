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

/* The other way round. */
static bool back_to_beginning(const Renamed *table, size_t count, const char *prefix, const char *key,
                              char *out)
{
    for (size_t i = 0; i < count; i++) {
        const size_t n = strlen(table[i].to);
        if (!strncmp(key, table[i].to, n))
            return snprintf(out, KEYMAP_MAX, "%s%s%s", prefix, table[i].from, key + n) < KEYMAP_MAX;
    }
    return false;
}
#define BACK(table, prefix, key, out)                                                                        \
    back_to_beginning(table, sizeof(table) / sizeof *(table), prefix, key, out)

/* UNet ------------------------------------------------------------------------------------------------- */

static const Renamed unet_ends[] = {
    {"time_embed.0.", "time_embedding.linear_1."},
    {"time_embed.2.", "time_embedding.linear_2."},
    {"label_emb.0.0.", "add_embedding.linear_1."},
    {"label_emb.0.2.", "add_embedding.linear_2."},
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

/* "WORD.i." at the beginning of key: i, and what comes after it; NULL: something else stands there. */
static const char *indexed(const char *key, const char *word, int *i)
{
    const size_t n = strlen(word);
    int used = 0;
    if (strncmp(key, word, n) || sscanf(key + n, "%3d.%n", i, &used) != 1 || used == 0 || *i < 0)
        return NULL;
    return key + n + used;
}

/* A residual block or a transformer at a place of the row: "SECTION.(first + r).k." */
static bool block_back(const char *section, int first, const char *rest, char *out)
{
    char prefix[64];
    int r;
    const char *inner = indexed(rest, "resnets.", &r);
    if (inner) {
        snprintf(prefix, sizeof prefix, "%s%d.0.", section, first + r);
        return BACK(unet_resnet, prefix, inner, out);
    }
    inner = indexed(rest, "attentions.", &r);
    if (inner)
        snprintf(prefix, sizeof prefix, "%s%d.1.", section, first + r);
    return inner && BACK(transformer_parts, prefix, inner, out);
}

bool keymap_unet_back(const char *name, int layers_per_block, const bool *up_attention, char out[KEYMAP_MAX])
{
    const int row = layers_per_block + 1;
    char prefix[64];
    int b, r;
    const char *rest;
    if (BACK(unet_ends, "", name, out))
        return true;
    if ((rest = indexed(name, "down_blocks.", &b))) {
        snprintf(prefix, sizeof prefix, "input_blocks.%d.0.", 1 + b * row + layers_per_block);
        return BACK(downsample, prefix, rest, out) || block_back("input_blocks.", 1 + b * row, rest, out);
    }
    if ((rest =
             indexed(name, "up_blocks.", &b))) { /* resampling comes after the transformer, if there is one */
        snprintf(prefix, sizeof prefix, "output_blocks.%d.%d.", b * row + layers_per_block,
                 up_attention[b] ? 2 : 1);
        return BACK(upsample, prefix, rest, out) || block_back("output_blocks.", b * row, rest, out);
    }
    if ((rest = indexed(name, "mid_block.resnets.", &r)))
        return r < 2 && BACK(unet_resnet, r == 0 ? "middle_block.0." : "middle_block.2.", rest, out);
    return (rest = indexed(name, "mid_block.attentions.", &r)) && r == 0 &&
           BACK(transformer_parts, "middle_block.1.", rest, out);
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

bool keymap_vae_back(const char *name, int levels, char out[KEYMAP_MAX])
{
    if (BACK(vae_whole, "", name, out))
        return true;
    const bool encoder = !strncmp(name, "encoder.", 8);
    if (!encoder && strncmp(name, "decoder.", 8) != 0)
        return false;
    const char *half = encoder ? "encoder." : "decoder.", *rest = name + 8, *inner;
    if (BACK(vae_ends, half, rest, out))
        return true;
    char prefix[96];
    int i, r;
    if ((inner = indexed(rest, "mid_block.resnets.", &r))) {
        snprintf(prefix, sizeof prefix, "%smid.block_%d.", half, r + 1);
        return BACK(vae_resnet, prefix, inner, out);
    }
    rest = indexed(rest, encoder ? "down_blocks." : "up_blocks.", &i);
    if (!rest || i >= levels)
        return false;
    snprintf(prefix, sizeof prefix, "%s%s.%d.", half, encoder ? "down" : "up", encoder ? i : levels - 1 - i);
    if (BACK(vae_resamplers, prefix, rest, out))
        return true;
    const size_t n = strlen(prefix);
    if (!(inner = indexed(rest, "resnets.", &r)))
        return false;
    snprintf(prefix + n, sizeof prefix - n, "block.%d.", r);
    return BACK(vae_resnet, prefix, inner, out);
}

/* OpenCLIP --------------------------------------------------------------------------------------------- */

static const Renamed openclip_ends[] = {
    {"token_embedding.", "text_model.embeddings.token_embedding."},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final.", "text_model.final_layer_norm."},
    {"text_projection", "text_projection.weight"},
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
    static const char *const together[] = {"weight", "weight_scale", "bias"};
    static const char in_proj[] = "attn.in_proj_";
    const size_t n = sizeof in_proj - 1;
    const char *kind = NULL;
    for (size_t k = 0; k < sizeof together / sizeof *together && !strncmp(rest, in_proj, n); k++)
        if (!strcmp(rest + n, together[k]))
            kind = together[k];
    if (!kind)
        return RENAME(openclip_layer, prefix, rest, out[0]);
    *parts = 3;
    for (int k = 0; k < 3; k++)
        snprintf(out[k], KEYMAP_MAX, "%sself_attn.%s.%s", prefix, thirds[k], kind);
    return true;
}

bool keymap_openclip_back(const char *name, char out[KEYMAP_MAX], int *third)
{
    static const char *const thirds[] = {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."};
    char prefix[64];
    int i;
    *third = -1;
    if (BACK(openclip_ends, "", name, out))
        return true;
    const char *rest = indexed(name, "text_model.encoder.layers.", &i);
    if (!rest)
        return false;
    snprintf(prefix, sizeof prefix, "transformer.resblocks.%d.", i);
    for (int k = 0; k < KEYMAP_PARTS; k++) {
        const size_t n = strlen(thirds[k]);
        if (!strncmp(rest, thirds[k], n)) {
            *third = k;
            return snprintf(out, KEYMAP_MAX, "%sattn.in_proj_%s", prefix, rest + n) < KEYMAP_MAX;
        }
    }
    return BACK(openclip_layer, prefix, rest, out);
}
