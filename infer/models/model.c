/* A model's parts and where they come from: a diffusers folder (builtin:NAME is one) or a single file.
 * Everything is read through a Source, which gives each part's configuration and weights, so that loading a
 * part is written once. */
#include "model.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "model_config.h"
#include "parts.h"
#include "single_file.h"

#include <stdio.h>
#include <string.h>

#define CONFIG_MAX (1u << 20) /* bytes of a config.json */

typedef struct Source {
    const ModelRequest *r;
    char *path;
    bool is_folder;
    char *vae; /* folder or file of the VAE in place of the model's own, or NULL */
    SingleFile single;
    VaeFile vae_file; /* where it is a file */
    ModelShapes shapes;
} Source;

/* r->vae itself, or its folder of that name: a whole model's. */
static Status find_vae(const char *vae, Source *src)
{
    char *path = NULL;
    TRY(model_find(vae, &path));
    if (!file_is_dir(path)) {
        src->vae = path;
        return vae_file_open(path, &src->vae_file);
    }
    char *inner = path_join(path, PARTS[PART_VAE].folder);
    const bool whole = inner && file_is_dir(inner);
    src->vae = whole ? inner : path;
    mem_free(whole ? path : inner);
    return inner ? STATUS_OK : STATUS_FAILED;
}

/* Configurations --------------------------------------------------------------------------------------- */

/* FOLDER/NAME as text; *text stays NULL if it is not there and need not be. */
static Status read_text(const char *folder, const char *name, bool needed, char **text)
{
    char *path = path_join(folder, name);
    if (!path)
        return STATUS_FAILED;
    Status s = STATUS_OK;
    size_t size = 0;
    if (file_exists(path))
        s = file_read(path, CONFIG_MAX, text, &size);
    else if (needed)
        s = status_refuse(
            "%s: has no %s (a model is a diffusers folder, a .safetensors or .ckpt file or builtin:NAME)",
            folder, name);
    mem_free(path);
    return s;
}

/* A folder that is no Stable Diffusion 1.x or 2.x model is named for what it is. */
static Status refuse_other_folders(const char *folder)
{
    static const char *const lora =
        "is a LoRA, not a model; give its .safetensors file with --lora beside the model it was made for";
    const struct {
        const char *name, *what;
    } files[] = {{"pytorch_lora_weights.safetensors", lora},
                 {"adapter_model.safetensors", lora},
                 {"adapter_config.json", lora},
                 {"config.json", "is one part of a diffusers model; give the folder that it lies in"}};
    static const char *const others[] = {"text_encoder_2", "transformer", "prior"};
    Status s = STATUS_OK;
    for (size_t i = 0; i < sizeof files / sizeof *files && s == STATUS_OK; i++) {
        char *p = path_join(folder, files[i].name), *unet = path_join(folder, "unet");
        if (p && unet && file_exists(p) && !file_exists(unet))
            s = status_refuse("%s: %s", folder, files[i].what);
        mem_free(p);
        mem_free(unet);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others && s == STATUS_OK; i++) {
        char *p = path_join(folder, others[i]);
        if (p && file_exists(p))
            s = status_refuse(
                "%s: has a part %s (an SDXL, SD3 or Flux model?); Stable Diffusion 1.x and 2.x are "
                "supported",
                folder, others[i]);
        mem_free(p);
    }
    return s;
}

/* The part's configuration from FOLDER/NAME, its text and what it says. */
static Status read_config(PartId id, const char *folder, const char *name, bool needed, char **json,
                          ModelShapes *shapes)
{
    TRY(read_text(folder, name, needed, json));
    if (!*json)
        return STATUS_OK;
    char *origin = path_join(folder, name);
    if (!origin)
        return STATUS_FAILED;
    const Status s = PARTS[id].kind->parse(*json, origin, part_config(id, shapes));
    mem_free(origin);
    return s;
}

static Status read_part(Source *src, Model *m, PartId id, bool needed)
{
    char name[64];
    snprintf(name, sizeof name, "%s/config.json", PARTS[id].folder);
    return read_config(id, src->path, name, needed, &m->config_json[id], &src->shapes);
}

static Status read_folder(Source *src, Model *m)
{
    if (src->r->ema)
        return status_refuse(
            "%s: a diffusers folder has one set of weights, and no EMA beside it; leave out --ema "
            "(model.ema)",
            src->path);
    TRY(refuse_other_folders(src->path));
    TRY(read_part(src, m, PART_UNET, true)); /* first: a folder without one is no model */
    for (int i = 0; i < PART_COUNT; i++)
        if (i != PART_UNET)
            TRY(read_part(src, m, (PartId)i, src->r->parts & 1 << i && !(i == PART_VAE && src->vae)));
    return read_text(src->path, "scheduler/scheduler_config.json", false, &m->scheduler_json);
}

/* The file, or the averages in it. */
static Status open_single(Source *src)
{
    TRY(single_file_open(src->path, &src->single));
    src->single.ema = src->r->ema;
    if (src->r->ema && !single_file_has_ema(&src->single))
        return status_refuse("%s: has no EMA weights (" KEYMAP_EMA
                             "*) beside its own; leave out --ema (model.ema)",
                             src->path);
    return STATUS_OK;
}

static Status read_single(Source *src, Model *m)
{
    TRY(open_single(src));
    src->shapes = src->single.shapes;
    m->file = tensorfile_share(src->single.file);
    for (int i = 0; i < PART_COUNT; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/config.json", PARTS[i].folder);
        const char *text = single_text(m->file, path);
        m->config_json[i] =
            text ? mem_strdup(text) : PARTS[i].kind->json(part_config((PartId)i, &src->shapes));
        if (!m->config_json[i])
            return status_fail("out of memory");
    }
    const char *schedule = single_text(m->file, "scheduler/scheduler_config.json");
    m->scheduler_json = schedule ? mem_strdup(schedule) : scheduler_config_json(src->single.prediction);
    return m->scheduler_json ? STATUS_OK : status_fail("out of memory");
}

/* Of a file that is diffusers' its config.json, where that lies beside it; else what its tensors say. */
static Status read_vae_config(Source *src, Model *m)
{
    char **json = &m->config_json[PART_VAE];
    if (!src->vae_file.file)
        return read_config(PART_VAE, src->vae, "config.json", true, json, &src->shapes);
    if (!src->vae_file.original) {
        char *folder = path_parent(src->vae);
        const Status s =
            folder ? read_config(PART_VAE, folder, "config.json", false, json, &src->shapes) : STATUS_FAILED;
        mem_free(folder);
        if (s != STATUS_OK || *json)
            return s;
    }
    src->shapes.vae = src->vae_file.shapes.vae;
    *json = vae_config_json(&src->shapes.vae);
    return *json ? STATUS_OK : status_fail("out of memory");
}

/* The configuration of the VAE that was named takes the place of the model's own. */
static Status read_other_vae(Source *src, Model *m)
{
    const bool had_one = m->config_json[PART_VAE];
    const int own = src->shapes.vae.levels;
    mem_free(m->config_json[PART_VAE]);
    m->config_json[PART_VAE] = NULL;
    TRY(read_vae_config(src, m));
    const int levels = src->shapes.vae.levels;
    if (had_one && levels != own)
        return status_refuse(
            "%s: halves a picture's side %d times, the model's own VAE %d times; take one that fits",
            src->vae, levels - 1, own - 1);
    m->vae_path = mem_strdup(src->vae);
    return m->vae_path ? STATUS_OK : STATUS_FAILED;
}

/* The parts have to fit each other. An inpainting model takes a mask and the masked picture's latents too. */
static Status check_fit(const Source *src, const Model *m)
{
    const UNetConfig *unet = &src->shapes.unet;
    const int latent = src->shapes.vae.latent_channels, width = src->shapes.clip.hidden;
    const bool inpaints = unet->in_channels == 2 * unet->out_channels + 1; /* mask and masked picture, too */
    if (m->config_json[PART_VAE] && unet->out_channels != latent)
        return status_refuse(
            "%s: its UNet makes %d channels, its autoencoder's latents have %d; not supported", src->path,
            unet->out_channels, latent);
    if (unet->in_channels != unet->out_channels && !inpaints)
        return status_refuse("%s: its UNet turns %d channels into %d; not supported", src->path,
                             unet->in_channels, unet->out_channels);
    if (m->config_json[PART_TEXT] && unet->cross_attention_dim != width)
        return status_refuse("%s: its UNet expects text of width %d, its text encoder makes %d", src->path,
                             unet->cross_attention_dim, width);
    return STATUS_OK;
}

/* Loading ---------------------------------------------------------------------------------------------- */

/* The folder that the part lies in; NULL: out of memory. */
static char *part_folder(const Source *src, PartId id)
{
    return id == PART_VAE && src->vae ? mem_strdup(src->vae) : path_join(src->path, PARTS[id].folder);
}

static uint64_t stream_of(uint64_t seed, PartId id)
{
    return seed + PARTS[id].stream * 0x9e3779b97f4a7c15u;
}

static Status find_weights(const Source *src, PartId id, Weights **out)
{
    const ModelRequest *r = src->r;
    const Part *p = &PARTS[id];
    const DType dtype = r->wide & 1 << id ? DTYPE_F32 : r->dtype;
    if (r->random && p->drawn)
        return weights_random(stream_of(r->seed, id), dtype, out);
    if (id == PART_VAE && src->vae_file.file)
        return vae_file_weights(&src->vae_file, dtype, out);
    if (!src->is_folder && !(id == PART_VAE && src->vae))
        return single_file_weights(&src->single, id, dtype, out);
    char *folder = part_folder(src, id);
    if (!folder)
        return STATUS_FAILED;
    const Status s = weights_open_folder(folder, p->kind->stem, dtype, out);
    mem_free(folder);
    return s;
}

static Status create_part(Model *m, ModelShapes *shapes, PartId id, Weights *w)
{
    void *network = NULL;
    const Status s = PARTS[id].kind->create(part_config(id, shapes), w, &network);
    part_set_network(id, m, network);
    return s;
}

static Status load_part(Model *m, Source *src, PartId id)
{
    Weights *w = NULL;
    TRY(find_weights(src, id, &w));
    if (src->r->described)
        weights_describe(w);
    else
        weights_show(w, PARTS[id].folder);
    Status s = create_part(m, &src->shapes, id, w);
    if (s == STATUS_OK && !src->r->described)
        weights_warn_unused(w, PARTS[id].unneeded);
    weights_close(w);
    if (s == STATUS_OK && src->r->quantised & 1 << id)
        s = status_in(layerset_quantise(part_layers(id, m)), "%s", src->path);
    return s;
}

/* The folder's or the file's own, or CLIP's. */
static Status open_tokenizer(Model *m, const Source *src, bool *builtin)
{
    char *folder = src->is_folder ? path_join(src->path, "tokenizer") : NULL;
    const bool there = folder && file_is_dir(folder);
    Status s = there            ? tokenizer_open(folder, &m->tokenizer)
               : src->is_folder ? STATUS_OK
                                : single_tokenizer(&src->single, &m->tokenizer);
    mem_free(folder);
    *builtin = s == STATUS_OK && !m->tokenizer;
    if (*builtin)
        s = tokenizer_builtin(&m->tokenizer);
    if (s == STATUS_OK && *builtin && src->single.build == BUILD_SD2)
        s = tokenizer_set_pad(m->tokenizer, "!", 0);
    return s;
}

static Status load_tokenizer(Model *m, const Source *src, bool *builtin)
{
    Status s = open_tokenizer(m, src, builtin);
    const int entries = src->shapes.clip.vocab_size;
    if (s == STATUS_OK && m->config_json[PART_TEXT] && tokenizer_vocab_size(m->tokenizer) > entries)
        s = status_refuse("%s: its tokenizer has %d entries, its text encoder only %d", src->path,
                          tokenizer_vocab_size(m->tokenizer), entries);
    return s;
}

static Status load_schedule(Model *m, const Source *src, bool *builtin)
{
    *builtin =
        !src->is_folder ? !single_text(m->file, "scheduler/scheduler_config.json") : !m->scheduler_json;
    if (!m->scheduler_json && !(m->scheduler_json = scheduler_config_json(PREDICT_EPSILON)))
        return status_fail("out of memory");
    char *origin = mem_printf("%s/scheduler/scheduler_config.json", src->path);
    if (!origin)
        return STATUS_FAILED;
    const Status s = schedule_parse(m->scheduler_json, origin, &m->schedule);
    mem_free(origin);
    return s;
}

/* One line about what the model did not bring along. */
static void tell_defaults(const Model *m, const Source *src, bool tokenizer, bool schedule)
{
    if ((!tokenizer && !schedule) || src->r->described)
        return;
    log_info("%s: brings no %s%s%s; %s%s%s%s used", m->name, tokenizer ? "tokenizer" : "",
             tokenizer && schedule ? " and no " : "", schedule ? "schedule" : "", tokenizer ? "CLIP's" : "",
             tokenizer && schedule ? " and " : "",
             !schedule                             ? ""
             : m->schedule.prediction == PREDICT_V ? "SD2's (scaled_linear, predicting v)"
                                                   : "SD1.5's (scaled_linear, predicting the noise)",
             tokenizer && schedule ? " are" : " is");
    if (schedule && !src->is_folder && !src->single.prediction_known)
        log_info("%s: does not say what its UNet predicts: v is taken, as for SD2's 768-pixel models; for a "
                 "512-pixel "
                 "one say epsilon (model.prediction, --prediction)",
                 m->name);
}

/* A picture's side, and what it must be a multiple of. Where the VAE was not looked at, as with SD's. */
static void set_sizes(Model *m, const ModelShapes *shapes)
{
    const int factor = shapes->vae.levels ? 1 << (shapes->vae.levels - 1) : 8;
    m->default_size = shapes->unet.sample_size * factor;
    m->size_multiple = factor << (shapes->unet.levels - 1);
}

static Status load_parts(Model *m, Source *src)
{
    bool own_tokenizer = false, own_schedule = false;
    set_sizes(m, &src->shapes);
    m->inpainting = src->shapes.unet.in_channels != src->shapes.unet.out_channels;
    TRY(load_schedule(m, src, &own_schedule));
    if (src->r->parts & MODEL_TOKENIZER)
        TRY(load_tokenizer(m, src, &own_tokenizer));
    tell_defaults(m, src, own_tokenizer, own_schedule);
    for (int i = 0; i < PART_COUNT; i++)
        if (src->r->parts & 1 << i)
            TRY(load_part(m, src, (PartId)i));
    return STATUS_OK;
}

static Status load_source(Source *src, Model **out)
{
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    m->random = src->r->random;
    m->ema = src->r->ema;
    m->name = mem_strdup(src->r->name);
    m->folder = src->is_folder ? mem_strdup(src->path) : NULL;
    Status s = m->name && (m->folder || !src->is_folder) ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = src->is_folder ? read_folder(src, m) : read_single(src, m);
    if (s == STATUS_OK && src->vae)
        s = read_other_vae(src, m);
    if (s == STATUS_OK)
        s = check_fit(src, m);
    if (s == STATUS_OK)
        s = load_parts(m, src);
    if (s != STATUS_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return STATUS_OK;
}

static void close_source(Source *src)
{
    single_file_close(&src->single);
    vae_file_close(&src->vae_file);
    mem_free(src->path);
    mem_free(src->vae);
}

Status model_open(const ModelRequest *r, Model **out)
{
    *out = NULL;
    Source src = {.r = r};
    Status s = model_find(r->name, &src.path);
    if (s == STATUS_OK) {
        src.is_folder = file_is_dir(src.path);
        s = r->vae ? find_vae(r->vae, &src) : STATUS_OK;
    }
    if (s == STATUS_OK)
        s = load_source(&src, out);
    close_source(&src);
    return s;
}

Status model_load(const char *name, int parts, DType dtype, Model **out)
{
    return model_open(&(ModelRequest){.name = name, .parts = parts, .dtype = dtype}, out);
}

Status model_make(const char *name, const ModelShapes *shapes, int parts, DType dtype, uint64_t seed,
                  Model **out)
{
    *out = NULL;
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    ModelShapes own = *shapes;
    set_sizes(m, shapes);
    m->random = true;
    m->name = mem_strdup(name);
    Status s = m->name ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < PART_COUNT && s == STATUS_OK; i++) {
        Weights *w = NULL;
        if (parts & 1 << i)
            s = weights_random(stream_of(seed, (PartId)i), dtype, &w);
        if (w)
            s = create_part(m, &own, (PartId)i, w);
        weights_close(w);
    }
    if (s == STATUS_OK)
        *out = m;
    else
        model_free(m);
    return s;
}

/* Where m's parts lie. The request is only asked for a VAE, and for nothing random. */
static Status source_of(const Model *m, const ModelRequest *r, Source *src)
{
    src->r = r;
    src->is_folder = m->folder;
    TRY(model_find(m->name, &src->path));
    if (m->vae_path)
        TRY(find_vae(m->vae_path, src));
    return src->is_folder ? STATUS_OK : open_single(src);
}

Status model_weights(const Model *m, PartId part, Weights **out)
{
    *out = NULL;
    const ModelRequest r = {.name = m->name, .ema = m->ema};
    Source src = {0};
    Status s = source_of(m, &r, &src);
    const bool in_file = !src.is_folder || (part == PART_VAE && src.vae_file.file);
    char *folder = s == STATUS_OK && !in_file ? part_folder(&src, part) : NULL;
    if (s == STATUS_OK && (!folder || weights_in_folder(folder, PARTS[part].kind->stem)))
        s = find_weights(&src, part, out);
    mem_free(folder);
    close_source(&src);
    return s;
}

Status model_hash(const Model *m, char hex[MODEL_HASH_SIZE])
{
    static const PartId parts[] = {PART_UNET, PART_TEXT};
    uint8_t hash[SHA256_SIZE];
    char all[SHA256_HEX_SIZE];
    Sha256 s;
    sha256_init(&s);
    for (int i = 0; i < 2; i++) {
        Weights *w = NULL;
        TRY(model_weights(m, parts[i], &w));
        if (w)
            weights_hash(w, &s);
        weights_close(w);
    }
    sha256_final(&s, hash);
    sha256_hex(hash, all);
    snprintf(hex, MODEL_HASH_SIZE, "%.*s", MODEL_HASH_SIZE - 1, all);
    return STATUS_OK;
}

/* What a single file of SD2's build predicts tells its size (single_file.c): v 768 pixels, the noise 512. */
static Status set_sample_size(Model *m)
{
    UNetConfig unet;
    TRY(unet_config_parse(m->config_json[PART_UNET], m->name, &unet));
    if (!unet.linear_projection) /* SD1's build */
        return STATUS_OK;
    const int sample_size = m->schedule.prediction == PREDICT_V ? SD2_SAMPLE_SIZE : SD1_SAMPLE_SIZE;
    m->default_size = m->default_size / unet.sample_size * sample_size;
    unet.sample_size = sample_size;
    char *json = unet_config_json(&unet);
    if (!json)
        return status_fail("out of memory");
    mem_free(m->config_json[PART_UNET]);
    m->config_json[PART_UNET] = json;
    return STATUS_OK;
}

Status model_set_prediction(Model *m, PredictionType prediction)
{
    if (m->schedule.prediction == prediction)
        return STATUS_OK;
    char *json = config_with_prediction(m->scheduler_json, prediction);
    if (!json)
        return status_fail("out of memory");
    mem_free(m->scheduler_json);
    m->scheduler_json = json;
    m->schedule.prediction = prediction;
    return m->folder ? STATUS_OK : set_sample_size(m);
}

static Placement placement_of(const Model *m, PartId part)
{
    const Offload least = part == PART_UNET ? OFFLOAD_ALL : OFFLOAD_IDLE;
    return m->offload >= least ? PLACED_STREAMED : PLACED_RESIDENT;
}

Status model_place(Model *m, const Device *dev)
{
    for (int i = 0; i < PART_COUNT; i++) {
        LayerSet *set = part_layers((PartId)i, m);
        if (set)
            TRY(status_in(layerset_place(set, dev, placement_of(m, (PartId)i)), "%s", m->name));
    }
    return STATUS_OK;
}

void model_free(Model *m)
{
    if (!m)
        return;
    for (int i = 0; i < PART_COUNT; i++) {
        PARTS[i].kind->destroy(part_network((PartId)i, m));
        mem_free(m->config_json[i]);
    }
    tensorfile_close(m->file);
    tokenizer_free(m->tokenizer);
    schedule_free(&m->schedule);
    mem_free(m->scheduler_json);
    mem_free(m->vae_path);
    mem_free(m->name);
    mem_free(m->folder);
    mem_free(m);
}
