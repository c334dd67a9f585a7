/* A single-file checkpoint's configurations, read off its tensors. What shapes do not tell (head counts,
 * groups, activations, epsilons) is the same in all of SD1.x and in all of SD2.x. */
#include "single_file.h"

#include "infer/files/recognise.h"
#include "kernels/base/mem.h"

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
    return status_refuse("%s: %s: not a Stable Diffusion 1.x or 2.x model", tensorfile_path(f->file), what);
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
        k->heads[i] = f->build == BUILD_SD2 ? k->channels[i] / 64 : 8;
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

static Status read_unet(const SingleFile *f, UNetConfig *k)
{
    *k = (UNetConfig){.norm_groups = 32, .norm_eps = 1e-5f, .flip_sin_to_cos = true};
    TRY(read_unet_levels(f, k));
    k->in_channels = dim(entry(f, KEYMAP_UNET "input_blocks.0.0.weight"), 1);
    k->out_channels = dim(entry(f, KEYMAP_UNET "out.2.weight"), 0);
    /* SD2's 768-pixel models predict v, its 512-pixel ones ε */
    k->sample_size = f->build == BUILD_SD2 && f->prediction == PREDICT_V ? SD2_SAMPLE_SIZE : SD1_SAMPLE_SIZE;
    k->mid_attention = entry(f, KEYMAP_UNET "middle_block.1.proj_in.weight") != NULL;
    if (!k->mid_attention)
        return unfit(f, "the UNet has no attention in the middle");
    k->linear_projection = entry(f, KEYMAP_UNET "middle_block.1.proj_in.weight")->ndim == 2;
    k->cross_attention_dim =
        dim(entry(f, KEYMAP_UNET "middle_block.1.transformer_blocks.0.attn2.to_k.weight"), 1);
    read_depths(f, k);
    if (k->in_channels < 1 || k->out_channels < 1 || k->cross_attention_dim < 1)
        return unfit(f, "the UNet's tensors are incomplete");
    return STATUS_OK;
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

/* What is wrong with it; NULL: nothing, and *k is filled in. */
static const char *read_vae(const TensorFile *f, const char *prefix, const VaeNames *names, VaeConfig *k)
{
    *k = (VaeConfig){.in_channels = 3,
                     .out_channels = 3,
                     .norm_groups = 32,
                     .sample_size = SD1_SAMPLE_SIZE * 8,
                     .scaling_factor = 0.18215f,
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

static Status read_own_vae(const SingleFile *f, VaeConfig *k)
{
    const char *wrong = read_vae(f->file, KEYMAP_VAE, &original_names, k);
    k->sample_size = f->shapes.unet.sample_size * 8;
    return wrong ? unfit(f, wrong) : STATUS_OK;
}

/* CLIP's keys with or without "text_model."; the shape of TEXT_MODEL.WHAT. */
static const TensorEntry *clip_entry(const SingleFile *f, const char *what)
{
    const TensorEntry *e = entry(f, KEYMAP_CLIP "text_model.%s", what);
    return e ? e : entry(f, KEYMAP_CLIP "%s", what);
}

static void count_clip_layers(const SingleFile *f, ClipConfig *k)
{
    char name[64];
    for (;; k->layers++) {
        snprintf(name, sizeof name, "encoder.layers.%d.layer_norm1.weight", k->layers);
        const TensorEntry *e =
            f->build == BUILD_SD2
                ? entry(f, KEYMAP_OPENCLIP "transformer.resblocks.%d.ln_1.weight", k->layers)
                : clip_entry(f, name);
        if (!e || k->layers == 1000)
            break;
    }
    /* SD2 takes the states before the last of 24 layers; a file made out of a diffusers folder has no last */
    if (f->build == BUILD_SD2 && k->layers > OPENCLIP_LAYERS_USED)
        k->layers = OPENCLIP_LAYERS_USED;
}

static Status read_clip(const SingleFile *f, ClipConfig *k)
{
    *k = (ClipConfig){.eps = 1e-5f,
                      .quick_gelu = f->build != BUILD_SD2,
                      .bos = 49406,
                      .eos = 49407,
                      .pad = f->build == BUILD_SD2 ? 0 : 49407};
    const TensorEntry *tokens = f->build == BUILD_SD2 ? entry(f, KEYMAP_OPENCLIP "token_embedding.weight")
                                                      : clip_entry(f, "embeddings.token_embedding.weight"),
                      *positions = f->build == BUILD_SD2
                                       ? entry(f, KEYMAP_OPENCLIP "positional_embedding")
                                       : clip_entry(f, "embeddings.position_embedding.weight"),
                      *fc1 = f->build == BUILD_SD2
                                 ? entry(f, KEYMAP_OPENCLIP "transformer.resblocks.0.mlp.c_fc.weight")
                                 : clip_entry(f, "encoder.layers.0.mlp.fc1.weight");
    if (!tokens)
        return unfit(f, "the file lacks the text encoder (cond_stage_model.*)");
    k->vocab_size = dim(tokens, 0);
    k->hidden = dim(tokens, 1);
    k->positions = dim(positions, 0);
    k->intermediate = dim(fc1, 0);
    k->heads = k->hidden / 64;
    count_clip_layers(f, k);
    if (k->heads < 1 || k->hidden % 64 || k->positions < 2 || k->intermediate < 1 || k->layers < 1)
        return unfit(f, "the text encoder's tensors are incomplete");
    return STATUS_OK;
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

/* Where nothing is said, SD2 predicts v unless it was trained for 875,000 steps: that one is the 512-pixel
 * base (diffusers' rule), from which its inpainting model was made too. */
static void read_prediction(SingleFile *f)
{
    f->build = entry(f, KEYMAP_OPENCLIP "token_embedding.weight") ? BUILD_SD2 : BUILD_SD1;
    f->prediction_known = true;
    if (read_told_prediction(f->file, &f->prediction) || f->build != BUILD_SD2)
        return;
    const double steps = read_steps(f->file);
    const bool inpainting = dim(entry(f, KEYMAP_UNET "input_blocks.0.0.weight"), 1) == 9;
    f->prediction = steps == 875000 || inpainting ? PREDICT_EPSILON : PREDICT_V;
    f->prediction_known = steps > 0 || inpainting;
}

/* All of it read off the tensors. */
static Status read_tensors(SingleFile *f)
{
    TRY(read_unet(f, &f->shapes.unet));
    TRY(read_own_vae(f, &f->shapes.vae));
    return read_clip(f, &f->shapes.clip);
}

const char *single_text(const TensorFile *f, const char *path)
{
    char key[128];
    snprintf(key, sizeof key, SINGLE_TEXT "%s", path);
    return tensorfile_metadata(f, key);
}

static Status read_text(SingleFile *f, PartId id, bool *told)
{
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", PARTS[id].folder);
    const char *text = single_text(f->file, path);
    *told = text != NULL;
    return !text ? STATUS_OK
                 : status_in(PARTS[id].kind->parse(text, path, part_config(id, &f->shapes)), "%s",
                             tensorfile_path(f->file));
}

/* The parts' configurations as the metadata have them; false: they have not all. */
static Status read_texts(SingleFile *f, bool *told)
{
    TRY(read_text(f, PART_UNET, told)); /* tells what parts there are */
    for (int i = 0; i < PART_COUNT && *told; i++)
        if (i != PART_UNET && part_of_family((PartId)i, family_of(&f->shapes.unet)))
            TRY(read_text(f, (PartId)i, told));
    return STATUS_OK;
}

static Status open_file(const char *path, SingleFile *f)
{
    TRY(tensorfile_open(path, &f->file));
    TRY(refuse_other_models(path, f->file));
    read_prediction(f);
    return STATUS_OK;
}

Status single_file_open(const char *path, SingleFile *out)
{
    *out = (SingleFile){0};
    SingleFile f = {0};
    bool told = false;
    Status s = open_file(path, &f);
    if (s == STATUS_OK)
        s = read_texts(&f, &told);
    if (s == STATUS_OK && !told)
        s = read_tensors(&f);
    if (s != STATUS_OK) {
        tensorfile_close(f.file);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

Status single_file_read_tensors(const char *path, ModelShapes *out)
{
    SingleFile f = {0};
    Status s = open_file(path, &f);
    if (s == STATUS_OK)
        s = read_tensors(&f);
    *out = f.shapes;
    single_file_close(&f);
    return s;
}

static const char *tokenizer_text(void *arg, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "tokenizer/%s", name);
    return single_text(arg, path);
}

Status single_tokenizer(const SingleFile *f, Tokenizer **out)
{
    *out = NULL;
    if (!single_text(f->file, "tokenizer/vocab.json") && !single_text(f->file, "tokenizer/tokenizer.json"))
        return STATUS_OK;
    return status_in(tokenizer_open_texts(tokenizer_text, f->file, out), "%s", tensorfile_path(f->file));
}

void single_file_close(SingleFile *f)
{
    tensorfile_close(f->file);
    *f = (SingleFile){0};
}

/* Adds e under the names that `key` (without the part's prefix) stands for; an unknown key keeps its name, so
 * that it is named if nobody asks for it. */
static Status add_key(const SingleFile *f, PartId part, const char *key, const TensorEntry *e, Weights *w)
{
    char names[KEYMAP_PARTS][KEYMAP_MAX];
    int count = 1;
    const SingleNames *single = &PARTS[part].single[f->build];
    ModelShapes shapes = f->shapes;
    if (!single->rename || !single->rename(key, part_config(part, &shapes), names, &count))
        return weights_add(w, key, e, 0, 1);
    for (int k = 0; k < count; k++)
        TRY(weights_add(w, names[k], e, k, count));
    return STATUS_OK;
}

/* The average of a tensor of the UNet: its key without the dots (LitEma in the original code). NULL: none. */
static const TensorEntry *average_of(const SingleFile *f, const TensorEntry *e)
{
    char key[KEYMAP_MAX] = KEYMAP_EMA;
    size_t n = strlen(key);
    for (const char *c = e->name + strlen("model."); *c && n + 1 < sizeof key; c++)
        if (*c != '.')
            key[n++] = *c;
    key[n] = 0;
    return tensorfile_find(f->file, key);
}

bool single_file_has_ema(const SingleFile *f)
{
    const TensorEntry *e = entry(f, KEYMAP_UNET "input_blocks.0.0.weight");
    return e && average_of(f, e);
}

static Status add_average(const SingleFile *f, const char *key, const TensorEntry *e, Weights *w)
{
    const TensorEntry *average = average_of(f, e);
    if (!average || !tensor_entry_is_shaped(average, e->ndim, e->shape))
        return status_refuse("%s: has no EMA of %s; take the weights without EMA", tensorfile_path(f->file),
                             e->name);
    return add_key(f, PART_UNET, key, average, w);
}

Status single_file_weights(const SingleFile *f, PartId part, DType dtype, Weights **out)
{
    const char *prefix = PARTS[part].single[f->build].prefix;
    const size_t n = strlen(prefix);
    TRY(weights_new(tensorfile_path(f->file), dtype, out));
    Status s = STATUS_OK;
    for (int i = 0; i < tensorfile_count(f->file) && s == STATUS_OK; i++) {
        const TensorEntry *e = tensorfile_entry(f->file, i);
        if (!strncmp(e->name, prefix, n))
            s = f->ema && part == PART_UNET ? add_average(f, e->name + n, e, *out)
                                            : add_key(f, part, e->name + n, e, *out);
    }
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}

/* A VAE alone -------------------------------------------------------------------------------------------- */

static Status read_vae_file(VaeFile *f)
{
    static const char *const prefixes[] = {KEYMAP_VAE, "", "vae."};
    const char *wrong = "no names of an autoencoder";
    for (int i = 0; i < 3; i++)
        for (int original = 0; original < 2; original++) {
            const VaeNames *names = original ? &original_names : &diffusers_names;
            if (!numbered_entry(f->file, prefixes[i], names->level, 0))
                continue;
            f->prefix = prefixes[i];
            f->original = original;
            wrong = read_vae(f->file, f->prefix, names, &f->shapes.vae);
            return wrong ? status_refuse("%s: %s: not a VAE of Stable Diffusion", tensorfile_path(f->file),
                                         wrong)
                         : STATUS_OK;
        }
    return status_refuse("%s: %s, not a VAE", tensorfile_path(f->file), file_kind(f->file)->what);
}

Status vae_file_open(const char *path, VaeFile *out)
{
    *out = (VaeFile){0};
    VaeFile f = {0};
    TRY(tensorfile_open(path, &f.file));
    const Status s = read_vae_file(&f);
    if (s == STATUS_OK)
        *out = f;
    else
        vae_file_close(&f);
    return s;
}

void vae_file_close(VaeFile *f)
{
    tensorfile_close(f->file);
    *f = (VaeFile){0};
}

Status vae_file_weights(const VaeFile *f, DType dtype, Weights **out)
{
    const size_t n = strlen(f->prefix);
    TRY(weights_new(tensorfile_path(f->file), dtype, out));
    Status s = STATUS_OK;
    for (int i = 0; i < tensorfile_count(f->file) && s == STATUS_OK; i++) {
        const TensorEntry *e = tensorfile_entry(f->file, i);
        char name[KEYMAP_MAX];
        if (strncmp(e->name, f->prefix, n) != 0)
            continue;
        const bool renamed = f->original && keymap_vae(e->name + n, f->shapes.vae.levels, name);
        s = weights_add(*out, renamed ? name : e->name + n, e, 0, 1);
    }
    if (s != STATUS_OK) {
        weights_close(*out);
        *out = NULL;
    }
    return s;
}
