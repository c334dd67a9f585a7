#include "setup.h"

#include "../kernels/file.h"
#include "../kernels/log.h"
#include "../kernels/mem.h"
#include "available.h"
#include "preview.h"

#include <stdio.h>
#include <string.h>

/* Text kept in memory, where the text encoder isn't trained. */
#define TEXTS_BYTES (256u << 20)
/* Code, stacks, libraries and their buffers: what a process had more than the rest comes to was 44 and 50 MB
 * in runs of the built-in model, 116 MB in one of SD1.5's shapes (2 cores, AVX-512). */
#define OTHER_BYTES (64u << 20)
/* checkpointing: auto takes at most this share of what is free. */
#define SHARE_OF_FREE 0.75
#define CONFIG_LIMIT (1u << 20)

size_t memory_total(const MemoryNeed *m)
{
    return m->weights + m->activations + m->gradients + m->optimizer + m->workspace + m->other;
}

/* The model -------------------------------------------------------------------------------------------- */

static Status load_parts(const Config *config, int parts, DType dtype, Model **out)
{
    if (config->model.init == MODEL_INIT_RANDOM)
        return model_load_random(config->model.base, parts, dtype, config->train.seed, out);
    return model_load(config->model.base, parts, dtype, out);
}

/* model.vae: another VAE folder (its config.json and weights, or a whole model's vae/). */
static Status replace_vae(Model *m, const char *folder, DType dtype)
{
    char *inner = path_join(folder, "vae"), *json = NULL;
    const char *from = inner && file_is_dir(inner) ? inner : folder;
    char *path = path_join(from, "config.json");
    Weights *w = NULL;
    Vae *vae = NULL;
    VaeConfig config;
    size_t size;
    Status s = inner && path ? file_read(path, CONFIG_LIMIT, &json, &size) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = vae_config_parse(json, path, &config);
    if (s == STATUS_OK && config.levels != vae_config(m->vae)->levels)
        s = status_refuse(
            "%s: halves a picture's side %d times, the model's own VAE %d times; take one that fits", from,
            config.levels - 1, vae_config(m->vae)->levels - 1);
    if (s == STATUS_OK)
        s = weights_open_folder(from, "diffusion_pytorch_model", dtype, &w);
    if (s == STATUS_OK)
        s = vae_new(&config, w, &vae);
    if (s == STATUS_OK) {
        vae_free(m->vae);
        m->vae = vae;
    }
    weights_close(w);
    mem_free(json);
    mem_free(inner);
    mem_free(path);
    return status_in(s, "model.vae");
}

/* Parts that are trained whole are read as f32, so that nothing is lost before the first step. */
static Status load_model(const Config *config, Model **out)
{
    int trained = 0;
    if (config->method.kind == METHOD_FULL)
        trained = MODEL_UNET | (config->method.text_encoder ? MODEL_TEXT : 0);
    Model *m = NULL, *whole = NULL;
    TRY(load_parts(config, MODEL_ALL & ~trained, config->model.dtype, &m));
    *out = m;
    if (trained) {
        TRY(load_parts(config, trained, DTYPE_F32, &whole));
        m->unet = whole->unet;
        whole->unet = NULL;
        if (trained & MODEL_TEXT) {
            m->clip = whole->clip;
            whole->clip = NULL;
        }
        model_free(whole);
    }
    return config->model.vae ? replace_vae(m, config->model.vae, config->model.dtype) : STATUS_OK;
}

/* Sizes ------------------------------------------------------------------------------------------------ */

static Status check_sizes(Config *config, const Model *m)
{
    if (config->train.resolution == 0)
        config->train.resolution = m->default_size;
    const int side = config->train.resolution, multiple = m->size_multiple;
    if (side % multiple != 0) {
        const int below = side / multiple * multiple;
        if (below == 0)
            return status_refuse("train.resolution %d: this model takes multiples of %d; the smallest is %d",
                                 side, multiple, multiple);
        return status_refuse(
            "train.resolution %d: this model takes multiples of %d; the nearest are %d and %d", side,
            multiple, below, below + multiple);
    }
    const UNetConfig *u = unet_config(m->unet);
    const int latent = vae_config(m->vae)->latent_channels;
    if (u->in_channels != latent || u->out_channels != latent)
        return status_refuse(
            "%s: its UNet takes %d channels and gives %d, its latents have %d; only models that turn "
            "text into pictures are trained, not inpainting models",
            m->name, u->in_channels, u->out_channels, latent);
    if (clip_config(m->clip)->hidden != u->cross_attention_dim)
        return status_refuse("%s: its text encoder gives %d numbers a token, its UNet takes %d", m->name,
                             clip_config(m->clip)->hidden, u->cross_attention_dim);
    return STATUS_OK;
}

static StepShape shape_of(const Config *config, const Model *m, bool report)
{
    return (StepShape){.model = m,
                       .batch = config->train.batch,
                       .channels = vae_config(m->vae)->latent_channels,
                       .side = config->train.resolution / vae_factor(m->vae),
                       .tokens = clip_config(m->clip)->positions,
                       .width = clip_config(m->clip)->hidden,
                       .clip_skip = config->method.clip_skip,
                       .text_on_tape = config->method.text_encoder,
                       .backward = true,
                       .report = report};
}

static size_t layers_bytes(const LayerSet *set)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++) {
        const Layer *l = set->items[i];
        bytes += l->weight ? tensor_bytes(l->weight) : 0;
        bytes += l->bias ? tensor_bytes(l->bias) : 0;
    }
    return bytes;
}

/* Frozen convolutions are kept a second time in the order that the device multiplies them in, in the type
 * that it computes in. */
static size_t packed_bytes(const LayerSet *set, DType activations)
{
    const bool half = activations == DTYPE_BF16 && strstr(device_cpu_isa(), "bf16");
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++) {
        const Tensor *w = set->items[i]->weight;
        if (w && !w->requires_grad && w->ndim == 4 && w->shape[2] * w->shape[3] > 1)
            bytes += (size_t)tensor_count(w) * (half ? 2 : 4);
    }
    return bytes;
}

static void sum_memory(Setup *s)
{
    const size_t trained = (size_t)parameters_elements(s->parameters) * sizeof(float);
    MemoryNeed *m = &s->memory;
    *m = (MemoryNeed){.optimizer = parameters_optimizer_bytes(s->parameters), .other = OTHER_BYTES};
    m->weights = layers_bytes(unet_layers(s->model->unet)) + layers_bytes(clip_layers(s->model->clip)) +
                 layers_bytes(vae_layers(s->model->vae));
    m->weights += packed_bytes(unet_layers(s->model->unet), s->c->dtype) +
                  packed_bytes(vae_layers(s->model->vae), s->c->dtype);
    if (s->parameters->module_count)
        m->weights += trained;
    m->gradients = trained + plan_kind_bytes(s->plan, PLACE_GRADIENT);
    m->workspace = plan_kind_bytes(s->plan, PLACE_WORKSPACE);
    m->activations = s->arena_bytes - plan_kind_bytes(s->plan, PLACE_GRADIENT) - m->workspace;
}

/* Plans ------------------------------------------------------------------------------------------------ */

static Status plan_step(Setup *s, bool checkpointing)
{
    Step step = {.shape = s->shape, .data = {.grad_scale = 1}};
    step.shape.checkpointing = checkpointing;
    plan_free(s->plan);
    s->plan = NULL;
    TRY(ctx_rehearse(s->c, train_step, &step, &s->plan));
    s->shape.checkpointing = checkpointing;
    s->arena_bytes = plan_peak_bytes(s->plan);
    sum_memory(s);
    return STATUS_OK;
}

static Status choose_checkpointing(Setup *s)
{
    Config *config = s->config;
    TRY(plan_step(s, config->train.checkpointing == CHECKPOINTING_ON));
    if (config->train.checkpointing == CHECKPOINTING_AUTO) {
        const size_t free_bytes = memory_available();
        const bool tight =
            free_bytes && (double)memory_total(&s->memory) > SHARE_OF_FREE * (double)free_bytes;
        config->train.checkpointing = tight ? CHECKPOINTING_ON : CHECKPOINTING_OFF;
        if (tight)
            TRY(plan_step(s, true));
    }
    return STATUS_OK;
}

/* The arena is as large as the largest plan of the run. */
static Status plan_all(Setup *s)
{
    TRY(choose_checkpointing(s));
    if (s->sources->held_count > 0) {
        Step step = validation_step(&s->shape);
        TRY(ctx_rehearse(s->c, train_step, &step, &s->validation_plan));
        if (plan_peak_bytes(s->validation_plan) > s->arena_bytes)
            s->arena_bytes = plan_peak_bytes(s->validation_plan);
    }
    if (s->config->preview.every > 0 && s->config->preview.prompt_count > 0) {
        size_t bytes = 0;
        TRY(preview_plan(s->pipeline, s->config, &bytes));
        if (bytes > s->arena_bytes)
            s->arena_bytes = bytes;
    }
    sum_memory(s);
    return STATUS_OK;
}

static Status count_steps(Setup *s)
{
    const Config *config = s->config;
    const int64_t per_step = (int64_t)config->train.batch * config->train.accumulate;
    s->steps_per_epoch = (s->sources->epoch_samples + per_step - 1) / per_step;
    s->steps = config->train.epochs > 0 ? config->train.epochs * s->steps_per_epoch : config->train.steps;
    if (s->steps < 1 || s->steps > INT32_MAX)
        return status_refuse(
            "the run comes to %lld steps; set train.steps or train.epochs so that it has 1 to %d",
            (long long)s->steps, INT32_MAX);
    return STATUS_OK;
}

static Status build(Setup *s, const char *folder, bool keep, bool report, const volatile sig_atomic_t *stop)
{
    Config *config = s->config;
    TRY(load_model(config, &s->model));
    TRY(check_sizes(config, s->model));
    s->c =
        ctx_new(device_cpu(),
                &(CtxOptions){.dtype = config->model.dtype, .threads = config->train.threads, .stop = stop});
    if (!s->c)
        return STATUS_FAILED;
    snprintf(s->device, sizeof s->device, "%s (%s)", s->c->dev->name, device_cpu_isa());
    config->train.threads = s->c->threads;
    TRY(parameters_new(config, s->model, &s->parameters));
    TRY(pipeline_new(s->c, s->model, &s->pipeline));
    TRY(sources_open(config, folder, keep, stop, &s->sources));
    TRY(count_steps(s));
    s->shape = shape_of(config, s->model, report);
    TRY(plan_all(s));
    if (!config->method.text_encoder)
        TRY(texts_new(s->pipeline, config->method.clip_skip, step_text_size(&s->shape), TEXTS_BYTES,
                      &s->texts));
    return STATUS_OK;
}

Status setup_new(Config *config, const char *folder, bool keep, bool report,
                 const volatile sig_atomic_t *stop, Setup **out)
{
    Setup *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->config = config;
    const Status status = build(s, folder, keep, report, stop);
    if (status != STATUS_OK) {
        setup_free(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void setup_free(Setup *s)
{
    if (!s)
        return;
    plan_free(s->plan);
    plan_free(s->validation_plan);
    texts_free(s->texts);
    sources_close(s->sources);
    pipeline_free(s->pipeline);
    parameters_free(s->parameters);
    model_free(s->model);
    ctx_free(s->c);
    mem_free(s);
}
