/* A model's parts and where they come from: a diffusers folder (builtin:NAME is one) or a single file.
 * Everything is read through a Source, which gives each part's configuration and weights, so that loading a
 * part is written once. */
#include "model.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "model_config.h"
#include "single_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_MAX (1u << 20) /* bytes of a config.json */

typedef struct Source {
    char *path;
    bool is_folder;
    SingleFile single;
    bool random; /* UNet and text encoder are drawn */
    bool described;
    uint64_t seed;
    DType dtype;
    UNetConfig unet;
    VaeConfig vae;
    ClipConfig clip;
} Source;

/* Finding ---------------------------------------------------------------------------------------------- */

/* "../share/atelier/NAME" beside the folder of the running program. NULL: out of memory. */
static char *installed_path(const char *name)
{
    char program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = 0;
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = 0;
    return mem_printf("%s/../share/atelier/%s", program, name);
}

static Status find_builtin(const char *name, char **path)
{
    const char *variable = getenv("ATELIER_MODELS");
    if (!name[0] || strchr(name, '/') || name[0] == '.')
        return status_refuse("builtin:%s: is no name of a built-in model", name);
    char *places[3] = {variable && *variable ? path_join(variable, name) : NULL, installed_path(name),
                       mem_printf("%s/data/builtin/%s", ATELIER_SOURCE_DIR, name)};
    for (int i = 0; i < 3 && !*path; i++)
        if (places[i] && file_is_dir(places[i])) {
            *path = places[i];
            places[i] = NULL;
        }
    Status s = STATUS_OK;
    if (!*path)
        s = status_refuse("builtin:%s: not found: $ATELIER_MODELS (%s), %s and %s were tried", name,
                          places[0] ? places[0] : "not set", places[1] ? places[1] : "?",
                          places[2] ? places[2] : "?");
    for (int i = 0; i < 3; i++)
        mem_free(places[i]);
    return s;
}

bool model_is_builtin(const char *name)
{
    return strncmp(name, "builtin:", strlen("builtin:")) == 0;
}

Status model_find(const char *name, char **path)
{
    *path = NULL;
    if (model_is_builtin(name))
        return find_builtin(name + 8, path);
    if (!file_exists(name))
        return file_missing(name, MODEL_KINDS);
    *path = mem_strdup(name);
    return *path ? STATUS_OK : STATUS_FAILED;
}

/* Configurations --------------------------------------------------------------------------------------- */

/* FOLDER/PART/NAME as text; *text stays NULL if it is not there and need not be. */
static Status read_text(const char *folder, const char *part, const char *name, bool needed, char **text)
{
    char *path = mem_printf("%s/%s/%s", folder, part, name);
    if (!path)
        return STATUS_FAILED;
    Status s = STATUS_OK;
    size_t size = 0;
    if (file_exists(path))
        s = file_read(path, CONFIG_MAX, text, &size);
    else if (needed)
        s = status_refuse(
            "%s: has no %s/%s (a model is a diffusers folder, a .safetensors file or builtin:NAME)", folder,
            part, name);
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

/* Path of the part's config.json for messages, then parsed. */
static Status read_configs(Source *src, int parts, char **json)
{
    TRY(refuse_other_folders(src->path));
    TRY(read_text(src->path, "unet", "config.json", true, &json[CONFIG_UNET]));
    TRY(read_text(src->path, "vae", "config.json", parts & MODEL_VAE, &json[CONFIG_VAE]));
    TRY(read_text(src->path, "text_encoder", "config.json", parts & MODEL_TEXT, &json[CONFIG_TEXT]));
    TRY(read_text(src->path, "scheduler", "scheduler_config.json", false, &json[CONFIG_SCHEDULER]));
    char origin[4096 + 64];
    snprintf(origin, sizeof origin, "%s/unet/config.json", src->path);
    TRY(unet_config_parse(json[CONFIG_UNET], origin, &src->unet));
    snprintf(origin, sizeof origin, "%s/vae/config.json", src->path);
    if (json[CONFIG_VAE])
        TRY(vae_config_parse(json[CONFIG_VAE], origin, &src->vae));
    snprintf(origin, sizeof origin, "%s/text_encoder/config.json", src->path);
    if (json[CONFIG_TEXT])
        TRY(clip_config_parse(json[CONFIG_TEXT], origin, &src->clip));
    return STATUS_OK;
}

static Status read_single(Source *src, char **json)
{
    TRY(single_file_open(src->path, &src->single));
    src->unet = src->single.unet;
    src->vae = src->single.vae;
    src->clip = src->single.clip;
    json[CONFIG_UNET] = unet_config_json(&src->unet);
    json[CONFIG_VAE] = vae_config_json(&src->vae);
    json[CONFIG_TEXT] = clip_config_json(&src->clip);
    json[CONFIG_SCHEDULER] = scheduler_config_json(src->single.prediction);
    for (int i = 0; i < MODEL_CONFIGS; i++)
        if (!json[i])
            return status_fail("out of memory");
    return STATUS_OK;
}

/* The parts have to fit each other. */
static Status check_fit(const Source *src, char *const *json)
{
    if (json[CONFIG_VAE] && src->unet.in_channels != src->vae.latent_channels)
        return status_refuse(
            "%s: its UNet takes %d channels, its autoencoder's latents have %d (%s); not supported",
            src->path, src->unet.in_channels, src->vae.latent_channels,
            src->unet.in_channels == 9 ? "an inpainting model" : "a special model");
    if (src->unet.in_channels != src->unet.out_channels)
        return status_refuse("%s: its UNet turns %d channels into %d; not supported", src->path,
                             src->unet.in_channels, src->unet.out_channels);
    if (json[CONFIG_TEXT] && src->unet.cross_attention_dim != src->clip.hidden)
        return status_refuse("%s: its UNet expects text of width %d, its text encoder makes %d", src->path,
                             src->unet.cross_attention_dim, src->clip.hidden);
    return STATUS_OK;
}

/* Loading ---------------------------------------------------------------------------------------------- */

static Status find_weights(const Source *src, SinglePart part, Weights **out)
{
    static const char *const folders[] = {"unet", "vae", "text_encoder"};
    static const char *const stems[] = {"diffusion_pytorch_model", "diffusion_pytorch_model", "model"};
    if (src->random && part != SINGLE_VAE) /* each a stream of its own */
        return weights_random(src->seed + (uint64_t)part * 0x9e3779b97f4a7c15u, src->dtype, out);
    if (!src->is_folder)
        return single_file_weights(&src->single, part, src->dtype, out);
    char *folder = path_join(src->path, folders[part]);
    if (!folder)
        return STATUS_FAILED;
    const Status s = weights_open_folder(folder, stems[part], src->dtype, out);
    mem_free(folder);
    return s;
}

static Status part_weights(const Source *src, SinglePart part, Weights **out)
{
    TRY(find_weights(src, part, out));
    if (src->described)
        weights_describe(*out);
    return STATUS_OK;
}

static Status load_unet(Model *m, const Source *src)
{
    Weights *w = NULL;
    TRY(part_weights(src, SINGLE_UNET, &w));
    const Status s = unet_new(&src->unet, w, &m->unet);
    if (s == STATUS_OK && !src->described)
        weights_warn_unused(w, NULL);
    weights_close(w);
    return s;
}

static Status load_vae(Model *m, const Source *src)
{
    static const char *const expected[] = {"loss.", "model_ema.", NULL};
    Weights *w = NULL;
    TRY(part_weights(src, SINGLE_VAE, &w));
    const Status s = vae_new(&src->vae, w, &m->vae);
    if (s == STATUS_OK && !src->described)
        weights_warn_unused(w, expected);
    weights_close(w);
    return s;
}

static Status load_text(Model *m, const Source *src)
{
    char beyond[32]; /* SD2's last layer */
    snprintf(beyond, sizeof beyond, "encoder.layers.%d.", src->clip.layers);
    const char *const expected[] = {"position_ids",
                                    "text_projection",
                                    "logit_scale",
                                    "visual_projection",
                                    "vision_model.",
                                    src->single.sd2 ? beyond : NULL,
                                    NULL};
    Weights *w = NULL;
    TRY(part_weights(src, SINGLE_CLIP, &w));
    const Status s = clip_new(&src->clip, w, &m->clip);
    if (s == STATUS_OK && !src->described)
        weights_warn_unused(w, expected);
    weights_close(w);
    return s;
}

static Status load_tokenizer(Model *m, const Source *src, bool *builtin)
{
    char *folder = src->is_folder ? path_join(src->path, "tokenizer") : NULL;
    *builtin = !folder || !file_is_dir(folder);
    Status s = *builtin ? tokenizer_builtin(&m->tokenizer) : tokenizer_open(folder, &m->tokenizer);
    if (s == STATUS_OK && src->single.sd2)
        s = tokenizer_set_pad(m->tokenizer, "!", 0);
    mem_free(folder);
    if (s == STATUS_OK && m->config_json[CONFIG_TEXT] &&
        tokenizer_vocab_size(m->tokenizer) > src->clip.vocab_size)
        s = status_refuse("%s: its tokenizer has %d entries, its text encoder only %d", src->path,
                          tokenizer_vocab_size(m->tokenizer), src->clip.vocab_size);
    return s;
}

static Status load_schedule(Model *m, const Source *src, bool *builtin)
{
    *builtin = !src->is_folder || !m->config_json[CONFIG_SCHEDULER];
    if (!m->config_json[CONFIG_SCHEDULER] &&
        !(m->config_json[CONFIG_SCHEDULER] = scheduler_config_json(PREDICT_EPSILON)))
        return status_fail("out of memory");
    char *origin = mem_printf("%s/scheduler/scheduler_config.json", src->path);
    if (!origin)
        return STATUS_FAILED;
    const Status s = schedule_parse(m->config_json[CONFIG_SCHEDULER], origin, &m->schedule);
    mem_free(origin);
    return s;
}

/* One line about what the model did not bring along. */
static void tell_defaults(const Model *m, const Source *src, bool tokenizer, bool schedule)
{
    if ((!tokenizer && !schedule) || src->described)
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

static Status load_parts(Model *m, const Source *src, int parts)
{
    const int factor = m->config_json[CONFIG_VAE] ? 1 << (src->vae.levels - 1) : 8;
    bool own_tokenizer = false, own_schedule = false;
    m->default_size = src->unet.sample_size * factor;
    m->size_multiple = factor << (src->unet.levels - 1);
    TRY(load_schedule(m, src, &own_schedule));
    if (parts & MODEL_TOKENIZER)
        TRY(load_tokenizer(m, src, &own_tokenizer));
    tell_defaults(m, src, own_tokenizer, own_schedule);
    if (parts & MODEL_TEXT)
        TRY(load_text(m, src));
    if (parts & MODEL_UNET)
        TRY(load_unet(m, src));
    if (parts & MODEL_VAE)
        TRY(load_vae(m, src));
    return STATUS_OK;
}

static Status load_source(Source *src, const char *name, int parts, Model **out)
{
    Model *m = mem_calloc(1, sizeof *m);
    if (!m)
        return STATUS_FAILED;
    src->is_folder = file_is_dir(src->path);
    m->name = mem_strdup(name);
    m->folder = src->is_folder ? mem_strdup(src->path) : NULL;
    Status s = m->name && (m->folder || !src->is_folder) ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = src->is_folder ? read_configs(src, parts, m->config_json) : read_single(src, m->config_json);
    if (s == STATUS_OK)
        s = check_fit(src, m->config_json);
    if (s == STATUS_OK)
        s = load_parts(m, src, parts);
    single_file_close(&src->single);
    if (s != STATUS_OK) {
        model_free(m);
        return s;
    }
    *out = m;
    return STATUS_OK;
}

static Status load(const char *name, int parts, Source src, Model **out)
{
    *out = NULL;
    TRY(model_find(name, &src.path));
    const Status s = load_source(&src, name, parts, out);
    if (s == STATUS_OK)
        (*out)->random = src.random;
    mem_free(src.path);
    return s;
}

Status model_load(const char *name, int parts, DType dtype, Model **out)
{
    return load(name, parts, (Source){.dtype = dtype}, out);
}

Status model_load_random(const char *name, int parts, DType dtype, uint64_t seed, Model **out)
{
    return load(name, parts, (Source){.dtype = dtype, .random = true, .seed = seed}, out);
}

Status model_describe(const char *name, int parts, DType dtype, bool random, Model **out)
{
    return load(name, parts, (Source){.dtype = dtype, .random = random, .described = true}, out);
}

/* What a single file of SD2's build predicts tells its size (single_file.c): v 768 pixels, the noise 512. */
static Status set_sample_size(Model *m)
{
    UNetConfig unet;
    TRY(unet_config_parse(m->config_json[CONFIG_UNET], m->name, &unet));
    if (!unet.linear_projection) /* SD1's build */
        return STATUS_OK;
    const int sample_size = m->schedule.prediction == PREDICT_V ? SD2_SAMPLE_SIZE : SD1_SAMPLE_SIZE;
    m->default_size = m->default_size / unet.sample_size * sample_size;
    unet.sample_size = sample_size;
    char *json = unet_config_json(&unet);
    if (!json)
        return status_fail("out of memory");
    mem_free(m->config_json[CONFIG_UNET]);
    m->config_json[CONFIG_UNET] = json;
    return STATUS_OK;
}

Status model_set_prediction(Model *m, PredictionType prediction)
{
    if (m->schedule.prediction == prediction)
        return STATUS_OK;
    char *json = config_with_prediction(m->config_json[CONFIG_SCHEDULER], prediction);
    if (!json)
        return status_fail("out of memory");
    mem_free(m->config_json[CONFIG_SCHEDULER]);
    m->config_json[CONFIG_SCHEDULER] = json;
    m->schedule.prediction = prediction;
    return m->folder ? STATUS_OK : set_sample_size(m);
}

Status model_place(Model *m, const Device *dev)
{
    LayerSet *const sets[] = {m->clip ? clip_layers(m->clip) : NULL, m->unet ? unet_layers(m->unet) : NULL,
                              m->vae ? vae_layers(m->vae) : NULL};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (sets[i])
            TRY(status_in(layerset_place(sets[i], dev), "%s", m->name));
    return STATUS_OK;
}

void model_free(Model *m)
{
    if (!m)
        return;
    clip_free(m->clip);
    unet_free(m->unet);
    vae_free(m->vae);
    tokenizer_free(m->tokenizer);
    schedule_free(&m->schedule);
    for (int i = 0; i < MODEL_CONFIGS; i++)
        mem_free(m->config_json[i]);
    mem_free(m->name);
    mem_free(m->folder);
    mem_free(m);
}
