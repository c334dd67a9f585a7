/* A single-file checkpoint's configurations, read off its tensors. What shapes do not tell (head counts,
 * groups, activations, epsilons) is the same in all models of a build. */
#include "single_shapes.h"

#include "size_numbers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPENCLIP_LAYERS_USED 23

static const TensorEntry *entry(const SingleFile *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static const TensorEntry *entry(const SingleFile *f, const char *format, ...)
{
    char key[KEYMAP_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(key, sizeof key, format, args);
    va_end(args);
    return tensorfile_find(f->file, key);
}

static int dim(const TensorEntry *e, int i)
{
    return e && i < e->ndim && e->shape[i] < 1 << 24 ? (int)e->shape[i] : 0;
}

static Status unfit(const SingleFile *f, const char *what)
{
    return status_refuse("%s: %s: not a Stable Diffusion 1.x, 2.x or XL model", tensorfile_path(f->file),
                         what);
}

/* Blocks on the way down stand in one row: layers_per_block of them, a downsampling, and again. */
static Status read_unet_levels(const SingleFile *f, UNetConfig *k)
{
    int blocks = 0, first_down = 0;
    while (entry(f, KEYMAP_UNET "input_blocks.%d.0.in_layers.0.weight", blocks + 1) ||
           entry(f, KEYMAP_UNET "input_blocks.%d.0.op.weight", blocks + 1)) {
        blocks++;
        if (!first_down && entry(f, KEYMAP_UNET "input_blocks.%d.0.op.weight", blocks))
            first_down = blocks;
    }
    k->layers_per_block = first_down ? first_down - 1 : blocks;
    const int row = k->layers_per_block + 1;
    k->levels = (blocks + 1) / row;
    if (k->layers_per_block < 1 || row > UNET_MAX_RESNETS || k->levels > UNET_MAX_LEVELS ||
        (blocks + 1) % row)
        return unfit(f, "the UNet's input_blocks do not form levels");
    for (int i = 0; i < k->levels; i++) {
        k->channels[i] = dim(entry(f, KEYMAP_UNET "input_blocks.%d.0.in_layers.2.weight", i * row + 1), 0);
        k->down_attention[i] = entry(f, KEYMAP_UNET "input_blocks.%d.1.proj_in.weight", i * row + 1) != NULL;
        k->up_attention[i] = entry(f, KEYMAP_UNET "output_blocks.%d.1.proj_in.weight", i * row) != NULL;
        k->heads[i] = f->build == BUILD_SD1 ? 8 : k->channels[i] / 64;
        if (k->channels[i] < 1 || k->channels[i] % 32 || k->heads[i] < 1 || k->channels[i] % k->heads[i])
            return unfit(f, "the UNet's channels do not split into groups and heads");
    }
    return STATUS_OK;
}

/* How many blocks each level's transformers have; where there are none it says 1, as other files do. The
 * middle's are the last level's. */
static void read_depths(const SingleFile *f, UNetConfig *k)
{
    const int row = k->layers_per_block + 1;
    for (int i = 0; i < k->levels; i++) {
        char at[64];
        int *n = &k->transformer_layers[i];
        if (i == k->levels - 1)
            snprintf(at, sizeof at, "middle_block.1");
        else if (k->down_attention[i])
            snprintf(at, sizeof at, "input_blocks.%d.1", i * row + 1);
        else
            snprintf(at, sizeof at, "output_blocks.%d.1", (k->levels - 1 - i) * row);
        while (*n < 64 && entry(f, KEYMAP_UNET "%s.transformer_blocks.%d.norm1.weight", at, *n))
            ++*n;
        *n += *n == 0;
    }
}

/* What it is told of the whole text and of sizes; the numbers share what the text leaves. */
static Status read_addition(const SingleFile *f, UNetConfig *k)
{
    const int pooled = dim(entry(f, KEYMAP_XL_OPENCLIP "text_projection"), 1);
    k->addition_input = dim(entry(f, KEYMAP_UNET "label_emb.0.0.weight"), 1);
    k->addition_width = (k->addition_input - pooled) / SIZE_NUMBERS;
    if (pooled < 1)
        return unfit(f, "the file lacks the second text encoder (" KEYMAP_XL_OPENCLIP "*)");
    if (k->addition_width < 2 || k->addition_width % 2 || unet_size_numbers(k, pooled) != SIZE_NUMBERS)
        return unfit(
            f, "what its UNet is told besides the text's states (label_emb) is not six numbers of size");
    return STATUS_OK;
}

static Status read_unet(const SingleFile *f, UNetConfig *k)
{
    *k = (UNetConfig){.norm_groups = 32, .norm_eps = 1e-5f, .flip_sin_to_cos = true};
    TRY(read_unet_levels(f, k));
    k->in_channels = dim(entry(f, KEYMAP_UNET "input_blocks.0.0.weight"), 1);
    k->out_channels = dim(entry(f, KEYMAP_UNET "out.2.weight"), 0);
    /* SD2's 768-pixel models predict v, its 512-pixel ones ε */
    k->sample_size = f->build == BUILD_SDXL                                ? SDXL_SAMPLE_SIZE
                     : f->build == BUILD_SD2 && f->prediction == PREDICT_V ? SD2_SAMPLE_SIZE
                                                                           : SD1_SAMPLE_SIZE;
    k->mid_attention = entry(f, KEYMAP_UNET "middle_block.1.proj_in.weight") != NULL;
    if (!k->mid_attention)
        return unfit(f, "the UNet has no attention in the middle");
    k->linear_projection = entry(f, KEYMAP_UNET "middle_block.1.proj_in.weight")->ndim == 2;
    k->cross_attention_dim =
        dim(entry(f, KEYMAP_UNET "middle_block.1.transformer_blocks.0.attn2.to_k.weight"), 1);
    read_depths(f, k);
    if (k->in_channels < 1 || k->out_channels < 1 || k->cross_attention_dim < 1)
        return unfit(f, "the UNet's tensors are incomplete");
    return f->build == BUILD_SDXL ? read_addition(f, k) : STATUS_OK;
}

/* What the shape of an autoencoder is read off, as the original code and as diffusers name it. */
typedef struct VaeNames {
    const char *in, *level, *layer, *attention, *old_attention;
} VaeNames;
static const VaeNames original_names = {"encoder.conv_in.weight", "encoder.down.%d.block.0.conv1.weight",
                                        "encoder.down.0.block.%d.conv1.weight", "encoder.mid.attn_1.q.weight",
                                        "encoder.mid.attn_1.q.weight"};
static const VaeNames diffusers_names = {
    "encoder.conv_in.weight", "encoder.down_blocks.%d.resnets.0.conv1.weight",
    "encoder.down_blocks.0.resnets.%d.conv1.weight", "encoder.mid_block.attentions.0.to_q.weight",
    "encoder.mid_block.attentions.0.query.weight"};

static const TensorEntry *vae_entry(const TensorFile *f, const char *prefix, const char *name)
{
    char key[KEYMAP_MAX];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    return tensorfile_find(f, key);
}

static const TensorEntry *numbered_entry(const TensorFile *f, const char *prefix, const char *name, int i)
{
    char inner[KEYMAP_MAX];
    const char *at = strstr(name, "%d");
    snprintf(inner, sizeof inner, "%.*s%d%s", (int)(at - name), name, i, at + 2);
    return vae_entry(f, prefix, inner);
}

bool single_has_vae(const TensorFile *f, const char *prefix, bool original)
{
    return numbered_entry(f, prefix, (original ? &original_names : &diffusers_names)->level, 0);
}

bool single_file_has_vae(const SingleFile *f)
{
    return single_has_vae(f->file, KEYMAP_VAE, true);
}

const char *single_read_vae(const TensorFile *f, const char *prefix, bool original, VaeConfig *k)
{
    const VaeNames *names = original ? &original_names : &diffusers_names;
    *k = (VaeConfig){.in_channels = 3,
                     .out_channels = 3,
                     .norm_groups = 32,
                     .sample_size = SD1_SAMPLE_SIZE * 8,
                     .scaling_factor = 0.18215f,
                     .force_upcast = true,
                     .mid_attention =
                         vae_entry(f, prefix, names->attention) || vae_entry(f, prefix, names->old_attention),
                     .use_quant_conv = vae_entry(f, prefix, "quant_conv.weight") != NULL,
                     .use_post_quant_conv = vae_entry(f, prefix, "post_quant_conv.weight") != NULL};
    if (!vae_entry(f, prefix, names->in))
        return "the file lacks the autoencoder (" KEYMAP_VAE "*)";
    const TensorEntry *e;
    while ((e = numbered_entry(f, prefix, names->level, k->levels))) {
        if (k->levels == VAE_MAX_LEVELS)
            return "the autoencoder has too many levels";
        const int C = dim(e, 0);
        if (C < 1 || C % k->norm_groups)
            return "the autoencoder's channels do not split into 32 groups";
        k->channels[k->levels++] = C;
    }
    while (k->layers_per_block <= 16 && numbered_entry(f, prefix, names->layer, k->layers_per_block))
        k->layers_per_block++;
    k->latent_channels = dim(vae_entry(f, prefix, "decoder.conv_in.weight"), 1);
    if (k->levels < 1 || k->layers_per_block > 16 || k->latent_channels < 1)
        return "the autoencoder's tensors are incomplete";
    return NULL;
}

/* A file without one, or without its encoder, leaves k empty: another's may be taken. */
static Status read_own_vae(const SingleFile *f, VaeConfig *k)
{
    *k = (VaeConfig){0};
    if (!single_file_has_vae(f))
        return STATUS_OK;
    const char *wrong = single_read_vae(f->file, KEYMAP_VAE, true, k);
    k->sample_size = f->shapes.unet.sample_size * 8;
    if (f->build == BUILD_SDXL)
        k->scaling_factor = SDXL_SCALING_FACTOR;
    return wrong ? unfit(f, wrong) : STATUS_OK;
}

/* Where a text encoder lies, and in whose names. */
typedef struct TextNames {
    const char *prefix;
    bool openclip;
} TextNames;

/* The names of the tensors that a text encoder's shape is read off, in transformers' order of them. */
typedef enum TextTensor { TEXT_TOKENS, TEXT_POSITIONS, TEXT_FC1, TEXT_LAYER } TextTensor;

/* CLIP's keys are there with or without "text_model."; i: the layer. */
static const TensorEntry *text_entry(const SingleFile *f, const TextNames *n, TextTensor which, int i)
{
    static const char *const CLIP[] = {"embeddings.token_embedding.weight",
                                       "embeddings.position_embedding.weight", "mlp.fc1.weight",
                                       "layer_norm1.weight"};
    static const char *const OPENCLIP[] = {"token_embedding.weight", "positional_embedding",
                                           "mlp.c_fc.weight", "ln_1.weight"};
    const char *name = (n->openclip ? OPENCLIP : CLIP)[which];
    char layer[64] = "";
    if (which >= TEXT_FC1)
        snprintf(layer, sizeof layer, n->openclip ? "transformer.resblocks.%d." : "encoder.layers.%d.", i);
    if (n->openclip)
        return entry(f, "%s%s%s", n->prefix, layer, name);
    const TensorEntry *e = entry(f, "%stext_model.%s%s", n->prefix, layer, name);
    return e ? e : entry(f, "%s%s%s", n->prefix, layer, name);
}

static void count_text_layers(const SingleFile *f, const TextNames *n, ClipConfig *k)
{
    while (k->layers < 1000 && text_entry(f, n, TEXT_LAYER, k->layers))
        k->layers++;
    /* SD2 takes the states before the last of 24 layers; a file made out of a diffusers folder has no last */
    if (f->build == BUILD_SD2 && k->layers > OPENCLIP_LAYERS_USED)
        k->layers = OPENCLIP_LAYERS_USED;
}

static Status read_clip(const SingleFile *f, const TextNames *n, ClipConfig *k)
{
    *k = (ClipConfig){
        .eps = 1e-5f, .quick_gelu = !n->openclip, .bos = 49406, .eos = 49407, .pad = n->openclip ? 0 : 49407};
    const TensorEntry *tokens = text_entry(f, n, TEXT_TOKENS, 0);
    char lacks[128];
    snprintf(lacks, sizeof lacks, "the file lacks the text encoder (%.*s.*)", (int)strcspn(n->prefix, "."),
             n->prefix);
    if (!tokens)
        return unfit(f, lacks);
    k->vocab_size = dim(tokens, 0);
    k->hidden = dim(tokens, 1);
    k->positions = dim(text_entry(f, n, TEXT_POSITIONS, 0), 0);
    k->intermediate = dim(text_entry(f, n, TEXT_FC1, 0), 0);
    k->heads = k->hidden / 64;
    count_text_layers(f, n, k);
    if (k->heads < 1 || k->hidden % 64 || k->positions < 2 || k->intermediate < 1 || k->layers < 1)
        return unfit(f, "the text encoder's tensors are incomplete");
    return STATUS_OK;
}

static Status read_texts_of_sdxl(const SingleFile *f, ModelShapes *shapes)
{
    static const TextNames one = {KEYMAP_XL_CLIP, false}, two = {KEYMAP_XL_OPENCLIP, true};
    TRY(read_clip(f, &one, &shapes->clip));
    TRY(read_clip(f, &two, &shapes->clip_2));
    shapes->clip_2.projection = dim(entry(f, KEYMAP_XL_OPENCLIP "text_projection"), 1);
    return STATUS_OK;
}

static Status read_text_encoders(const SingleFile *f, ModelShapes *shapes)
{
    static const TextNames sd1 = {KEYMAP_CLIP, false}, sd2 = {KEYMAP_OPENCLIP, true};
    return f->build == BUILD_SDXL ? read_texts_of_sdxl(f, shapes)
                                  : read_clip(f, f->build == BUILD_SD2 ? &sd2 : &sd1, &shapes->clip);
}

/* What the file says itself: a mark that v models of others carry, or metadata ("modelspec", which several
 * programs write). */
static bool read_told_prediction(const TensorFile *f, PredictionType *out)
{
    const char *told = tensorfile_metadata(f, "modelspec.prediction_type");
    const bool v = tensorfile_find(f, "v_pred") || (told && !strncmp(told, "v", 1));
    *out = v ? PREDICT_V : PREDICT_EPSILON;
    return v || (told && !strcmp(told, "epsilon"));
}

/* How long it was trained for, in steps: a tensor, or beside the tensors of a .ckpt. 0: not said. */
static double read_steps(const TensorFile *f)
{
    const TensorEntry *e = tensorfile_find(f, "global_step");
    const char *text = tensorfile_metadata(f, "global_step");
    double number = 0;
    if (e && tensor_entry_number(e, &number) == STATUS_OK)
        return number;
    return text ? strtod(text, NULL) : 0;
}

/* By its text encoders; without any by what its UNet is told besides the text. */
static bool is_sdxl(const SingleFile *f)
{
    return tensorfile_holds(f->file, "conditioner.embedders.") ||
           (entry(f, KEYMAP_UNET "label_emb.0.0.weight") && !tensorfile_holds(f->file, "cond_stage_model."));
}

/* Where nothing is said, SD2 predicts v unless it was trained for 875,000 steps: that one is the 512-pixel
 * base (diffusers' rule), from which its inpainting model was made too. */
void single_read_marks(SingleFile *f)
{
    f->build = is_sdxl(f)                                           ? BUILD_SDXL
               : entry(f, KEYMAP_OPENCLIP "token_embedding.weight") ? BUILD_SD2
                                                                    : BUILD_SD1;
    f->zero_snr = tensorfile_find(f->file, "ztsnr");
    f->prediction_known = true;
    if (read_told_prediction(f->file, &f->prediction) || f->build != BUILD_SD2)
        return;
    const double steps = read_steps(f->file);
    const bool inpainting = dim(entry(f, KEYMAP_UNET "input_blocks.0.0.weight"), 1) == 9;
    f->prediction = steps == 875000 || inpainting ? PREDICT_EPSILON : PREDICT_V;
    f->prediction_known = steps > 0 || inpainting;
}

Status single_read_shapes(SingleFile *f)
{
    TRY(read_unet(f, &f->shapes.unet));
    TRY(read_own_vae(f, &f->shapes.vae));
    return read_text_encoders(f, &f->shapes);
}
