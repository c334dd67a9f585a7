#include "setup.h"
#include "largest.h"

#include "infer/safety/watermark.h"
#include "kernels/base/file.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "train/config/config_paths.h"
#include "train/pictures/preview.h"
#include "fit.h"
#include "modes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The mode that is chosen for a run takes at most this share of what is free. */
#define SHARE_OF_FREE 0.75

/* The model -------------------------------------------------------------------------------------------- */

/* What is asked of a second text encoder of a model that has one. */
static Status check_texts(const Config *config, const Model *m)
{
    if (m->clip_2)
        return STATUS_OK;
    if (config->method.text_encoder == TEXTS_SECOND)
        return status_refuse("method.text_encoder: second: model.base %s has one text encoder; write true",
                             config->model.base);
    return config->optimizer.text_encoder_2_lr > 0
               ? status_refuse(
                     "optimizer.text_encoder_2_lr: model.base %s has one text encoder, which learns by "
                     "optimizer.text_encoder_lr",
                     config->model.base)
               : STATUS_OK;
}

/* Parts that are trained whole are read as f32, so that nothing is lost before the first step. described:
 * shapes only. */
static Status load_model(const Config *config, bool described, Model **out)
{
    ModelRequest r = {.name = config->model.base,
                      .vae = config->model.vae,
                      .ema = config->model.ema,
                      .parts = MODEL_ALL,
                      .dtype = config->model.dtype,
                      .random = config->model.init == MODEL_INIT_RANDOM,
                      .seed = config->train.seed,
                      .described = described};
    if (config->model.quantise == QUANTISE_INT8)
        r.quantised = MODEL_UNET | MODEL_TEXT;
    if (config->method.kind == METHOD_FULL)
        r.wide = MODEL_UNET | (config_trains_text(config, 0) ? 1 << PART_TEXT : 0) |
                 (config_trains_text(config, 1) ? 1 << PART_TEXT_2 : 0);
    if (!model_is_builtin(r.name) && !file_exists(r.name))
        return config_path_missing(config, r.name, MODEL_KINDS);
    if (r.vae && !model_is_builtin(r.vae) && !file_exists(r.vae))
        return status_in(config_path_missing(config, r.vae, "folder or file"), "model.vae");
    TRY(model_open(&r, out));
    Model *m = *out;
    if (unet_config(m->unet)->in_channels != unet_config(m->unet)->out_channels)
        return status_refuse(
            "model.base %s: an inpainting model (its UNet takes %d channels) draws, but cannot be "
            "trained: train the model that it was made from, and give the LoRA to both",
            r.name, unet_config(m->unet)->in_channels);
    TRY(check_texts(config, m));
    m->offload = (Offload)(config->train.offload - 1);
    if (config->model.prediction > 0)
        TRY(model_set_prediction(m, objective_at(config->model.prediction - 1)->prediction));
    if (config->train.pack_weights == SWITCH_OFF) {
        layerset_keep_packed(unet_layers(m->unet), PACKED_NOT);
        layerset_keep_packed(vae_layers(m->vae), PACKED_NOT);
    } else if (config->train.checkpointing == SWITCH_ON) {
        layerset_keep_packed(unet_layers(m->unet), PACKED_FORWARD); /* memory is what is asked for */
    }
    return STATUS_OK;
}

/* Sizes ------------------------------------------------------------------------------------------------ */

/* What of the model the sizes depend on. */
static SizeModel size_model(const Setup *s)
{
    return (SizeModel){s->model->size_multiple, s->model->default_size};
}

/* The run's resolutions, whether a dataset has its own or not. */
static Status check_sizes(Config *config, const Model *m)
{
    const SizeModel sizes = {m->size_multiple, m->default_size};
    const ConfigDataset plain = {.path = "train"};
    Resolutions *r = &config->train.resolution;
    FrameRule rule;
    if (r->sides[0] == 0)
        r->sides[0] = m->default_size;
    for (int i = 0; i < r->count; i++)
        TRY(size_rule(config, &plain, i, &sizes, &rule));
    return STATUS_OK;
}

static Checkpointing checkpointing_of(const Config *config)
{
    if (config->train.checkpointing != SWITCH_ON)
        return CHECKPOINTING_OFF;
    return config->train.mode == MODE_MINIMAL ? CHECKPOINTING_WHOLE : CHECKPOINTING_ON;
}

static StepShape shape_of(const Config *config, const Model *m, bool report)
{
    return (StepShape){.model = m,
                       .batch = config_samples(config),
                       .channels = vae_config(m->vae)->latent_channels,
                       .text = conditioning_shape(m),
                       .clip_skip = config->method.clip_skip,
                       .text_on_tape = config->method.text_encoder,
                       .backward = true,
                       .checkpointing = checkpointing_of(config),
                       .report = report};
}

static StepShape shape_at(const Setup *s, Size pixels)
{
    StepShape shape = s->shape;
    shape.size = size_divided(pixels, vae_factor(s->model->vae));
    return shape;
}

/* Plans ------------------------------------------------------------------------------------------------ */

/* Plans of further sizes that are kept; SD1.5's step has one of half a megabyte. */
#define PLANS_BYTES ((size_t)24 << 20)

typedef struct PlanKey {
    int32_t width, height, validation;
} PlanKey;

static Status plan_at(Setup *s, Size size, bool validation, const Plan **out)
{
    Step step = {.shape = shape_at(s, size), .data = {.grad_scale = 1}};
    const Plan *own = validation ? s->validation_plan : s->plan;
    const PlanKey key = {size.width, size.height, validation};
    *out = own;
    if (own && size_equal(step.shape.size, s->shape.size))
        return STATUS_OK;
    if (!s->plans && !(s->plans = plans_new(PLANS_BYTES)))
        return STATUS_FAILED;
    if (validation)
        step = validation_step(&step.shape);
    return plans_get(s->plans, s->c, &key, sizeof key, train_step, &step, out);
}

Status setup_plan(Setup *s, Size size, const Plan **out)
{
    return plan_at(s, size, false, out);
}

Status setup_validation_plan(void *setup, Size size, const Plan **out)
{
    return plan_at(setup, size, true, out);
}

static void drop_plans(Setup *s)
{
    plan_free(s->plan);
    plan_free(s->validation_plan);
    plans_free(s->plans);
    s->plan = s->validation_plan = NULL;
    s->plans = NULL;
}

static void take_larger(Setup *s, size_t bytes, ArenaWork work, Size size)
{
    if (bytes <= s->arena_bytes)
        return;
    s->arena_bytes = bytes;
    s->arena_work = work;
    s->arena_size = size;
}

/* The sizes of the pictures; before they have been looked at, the square that most of them are of. */
static RunSizes sizes_of(const Setup *s, RunSize *square)
{
    *square =
        (RunSize){.size = config_size(s->config), .samples = 1, .held = s->config->validation.share > 0};
    return s->sizes.count ? s->sizes : (RunSizes){square, 1};
}

/* Steps, validation and encoding at one size. *peak: of the step, the largest so far. */
static Status plan_size(Setup *s, const RunSize *size, size_t *peak)
{
    const Plan *plan;
    size_t bytes;
    if (size->samples > 0) {
        TRY(setup_plan(s, size->size, &plan));
        s->step_flop += (double)size->samples * plan_flop(plan);
        take_larger(s, plan_peak_bytes(plan), ARENA_STEP, size->size);
        if (plan_peak_bytes(plan) > *peak) {
            *peak = plan_peak_bytes(plan);
            s->shape.size = size_divided(size->size, vae_factor(s->model->vae));
        }
    }
    if (size->held > 0) {
        TRY(setup_validation_plan(s, size->size, &plan));
        take_larger(s, plan_peak_bytes(plan), ARENA_VALIDATION, size->size);
    }
    TRY(pipeline_encode_picture_plan(s->pipeline, size->size, &bytes));
    take_larger(s, bytes, ARENA_PICTURE, size->size);
    return STATUS_OK;
}

/* The step of every size, and which of them takes the most. */
static Status plan_sizes(Setup *s)
{
    RunSize square;
    const RunSizes sizes = sizes_of(s, &square);
    size_t peak = 0;
    double samples = 0;
    s->step_flop = 0;
    for (int i = 0; i < sizes.count; i++) {
        TRY(plan_size(s, &sizes.items[i], &peak));
        samples += (double)sizes.items[i].samples;
    }
    s->step_flop /= samples;
    Step step = {.shape = s->shape, .data = {.grad_scale = 1}};
    TRY(ctx_rehearse(s->c, train_step, &step, &s->plan));
    if (s->config->validation.share > 0) {
        Step validation = validation_step(&s->shape);
        TRY(ctx_rehearse(s->c, train_step, &validation, &s->validation_plan));
        take_larger(s, plan_peak_bytes(s->validation_plan), ARENA_VALIDATION,
                    size_multiplied(s->shape.size, vae_factor(s->model->vae)));
    }
    return STATUS_OK;
}

/* Of fused updates: gradients have places of their own, the same at any size. */
static Status plan_gradients(Setup *s)
{
    Step step = {.shape = s->shape, .data = {.grad_scale = 1}};
    return s->config->train.fused_backward ? fused_new(s->c, s->parameters, train_step, &step, &s->fused)
                                           : STATUS_OK;
}

/* The arena is as large as the largest plan of the run: the step, validation, encoding, a preview. */
static Status plan_all(Setup *s)
{
    const Config *config = s->config;
    size_t bytes = 0;
    s->arena_bytes = 0;
    TRY(plan_sizes(s));
    TRY(plan_gradients(s));
    if (!config->method.text_encoder) {
        TRY(pipeline_encode_text_plan(s->pipeline, config->method.clip_skip, &bytes));
        take_larger(s, bytes, ARENA_CAPTION, (Size){0});
    }
    if (config->preview.every > 0 && config->preview.prompt_count > 0) {
        TRY(preview_plan(s->pipeline, config, &bytes));
        take_larger(s, bytes, ARENA_PREVIEW, (Size){0});
        TRY(guard_plan(s->guard, &bytes));
        take_larger(s, bytes, ARENA_PREVIEW, (Size){0});
    }
    if (s->prior.missing > 0) {
        RunSize square;
        const RunSizes sizes = sizes_of(s, &square);
        TRY(prior_plan(s->pipeline, config, &sizes, &s->prior, &bytes));
        take_larger(s, bytes, ARENA_CLASS, s->prior.largest);
    }
    return STATUS_OK;
}

/* Processes of one machine share its cores, unless their starter has given each its own. */
static int threads_for(const Setup *s)
{
    const int asked = s->config->train.threads;
    if (asked > 0 || s->comm->sharing == 1) /* asking how many there are would start them */
        return asked;
    const int share = ctx_threads(0) / s->comm->sharing;
    return share > 1 ? share : 1;
}

/* A grid of previews is one picture. */
static Status check_watermark(const Setup *s, int previews)
{
    const char *mark = guard_watermark(&(GuardRequest){.watermark = s->config->safety.watermark});
    const Size one = largest_preview(s),
               grid = {previews * (one.width + PICTURE_GRID_GAP) - PICTURE_GRID_GAP, one.height};
    return mark && previews ? status_in(watermark_check(grid, mark), "safety.watermark: previews")
                            : STATUS_OK;
}

/* A prompt that is forbidden is refused before anything is drawn. */
static Status make_guard(Setup *s, bool described)
{
    static const char *const CHECKS[] = {"off", "auto", "on"};
    const Config *c = s->config;
    const int previews = c->preview.every > 0 ? c->preview.prompt_count : 0;
    const bool draws = previews > 0 || config_has_prior(c);
    TRY(check_watermark(s, previews));
    TRY(status_in(guard_new(&(GuardRequest){CHECKS[draws ? c->safety.check : SAFETY_CHECK_OFF],
                                            c->safety.prompt_filter, NULL},
                            &s->guard),
                  "safety.prompt_filter"));
    for (int i = 0; i < c->preview.prompt_count; i++)
        TRY(status_in(guard_prompt(s->guard, c->preview.prompts[i]), "preview.prompts"));
    if (config_has_prior(c))
        TRY(status_in(guard_prompt(s->guard, c->prior.prompt), "prior.prompt"));
    TRY(status_in(guard_load(s->guard, s->model, s->c, described), "safety.check"));
    pipeline_guard(s->pipeline, s->guard);
    return STATUS_OK;
}

/* Model, parameters and context; described: shapes only. The context is made once. */
static Status make_parts(Setup *s, bool described)
{
    Config *config = s->config;
    TRY(load_model(config, described, &s->model));
    TRY(check_sizes(config, s->model));
    const DType dtype = config->model.dtype;
    const CtxOptions options = {dtype, config->model.tf32, threads_for(s), s->stop};
    if (!s->c && !(s->c = ctx_new(s->dev, &options)))
        return STATUS_FAILED;
    ctx_set_capture(s->c, true);
    config->train.threads = s->c->threads;
    TRY(parameters_new(config, s->c->dev, s->comm, s->model, &s->parameters));
    TRY(pipeline_new(s->c, s->model, &s->pipeline));
    return make_guard(s, described);
}

static void drop_parts(Setup *s)
{
    fused_free(s->fused);
    s->fused = NULL;
    pipeline_free(s->pipeline);
    guard_free(s->guard);
    s->guard = NULL;
    parameters_free(s->parameters);
    model_free(s->model);
    s->pipeline = NULL;
    s->parameters = NULL;
    s->model = NULL;
}

/* Which class pictures are there: once, and not where the run has its own dataset of them already. */
static Status count_prior(Setup *s)
{
    if (!config_has_prior(s->config) || s->prior.there + s->prior.missing > 0)
        return STATUS_OK;
    s->prior.there = s->config->prior.pictures;
    return s->prior_built ? STATUS_OK : prior_look(s->config, s->model, &s->prior);
}

/* Plans the configuration as it stands; mode: for what it leaves open. */
static Status plan_mode(Setup *s, TrainMode mode)
{
    drop_plans(s);
    drop_parts(s);
    mode_settle(s->config, mode);
    TRY(make_parts(s, true));
    TRY(count_prior(s));
    s->shape = shape_of(s->config, s->model, s->report);
    s->shape.masked = s->sources && sources_masked(s->sources);
    TRY(plan_all(s));
    s->memory = memory_need(s);
    return STATUS_OK;
}

/* mode auto: the fastest one that leaves something free. */
static Status plan_described(Setup *s)
{
    const size_t available = fit_limit(s->dev, s->comm->local_size);
    const Config asked = *s->config;
    if (asked.train.mode != MODE_AUTO)
        return plan_mode(s, asked.train.mode);
    for (TrainMode mode = MODE_SPEED;; mode--) {
        s->config->train = asked.train;
        TRY(plan_mode(s, mode));
        const double most = SHARE_OF_FREE * (double)available;
        if (mode == MODE_MINIMAL || (double)memory_total(&s->memory) <= most)
            return STATUS_OK;
    }
}

Status setup_try(const Setup *like, Config *config, MemoryNeed *need)
{
    Setup s = {.config = config,
               .dev = like->dev,
               .comm = like->comm,
               .sources = like->sources,
               .prior = like->prior,
               .base_bytes = like->base_bytes,
               .stop = like->stop,
               .report = like->report};
    RunSizes sizes = {0};
    Status status = check_sizes(config, like->model);
    if (s.sources && status == STATUS_OK) { /* other resolutions make other sizes */
        const SizeModel m = size_model(like);
        status = sources_sizes(s.sources, config, &m, &sizes);
    }
    s.sizes = sizes;
    if (status == STATUS_OK)
        status = plan_described(&s);
    if (status == STATUS_OK)
        *need = s.memory;
    sizes_free(&sizes);
    drop_plans(&s);
    drop_parts(&s);
    ctx_free(s.c);
    return status;
}

/* What the process has once its libraries have made what the plans ask for, and what the run takes with it.
 */
static Status measure_base(Setup *s)
{
    TRY(s->c->dev->warm_up ? s->c->dev->warm_up() : STATUS_OK);
    s->base_bytes = machine_current_bytes();
    s->memory = memory_need(s);
    return STATUS_OK;
}

static size_t waiting_bytes(const LayerSet *set)
{
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++)
        bytes += set->items[i]->streamed ? tensor_bytes(set->items[i]->weight) : 0;
    return bytes;
}

static SetupNeed need_of(const Setup *s)
{
    const Parameters *p = s->parameters;
    return (SetupNeed){
        .memory = s->memory,
        .base = s->base_bytes,
        .flop = s->step_flop,
        .waiting = waiting_bytes(unet_layers(s->model->unet)),
        .recomputed = s->config->train.checkpointing == SWITCH_ON,
        .updates_on_host = p->steps_on && !s->fused,
        .reached = p->steps_on && s->fused ? parameters_block_bytes(p) + parameters_optimizer_bytes(p) : 0,
        .trained = parameters_elements(p)};
}

Status setup_need(Config *config, const Device *dev, SetupNeed *need)
{
    Setup s = {.config = config,
               .asked = *config,
               .dev = dev,
               .comm = comm_alone(),
               .base_bytes = machine_current_bytes()};
    Status status = plan_described(&s);
    if (status == STATUS_OK)
        status = measure_base(&s);
    if (status == STATUS_OK && need->base) {
        s.base_bytes = need->base;
        s.memory = memory_need(&s);
    }
    if (status == STATUS_OK)
        *need = need_of(&s);
    drop_plans(&s);
    drop_parts(&s);
    ctx_free(s.c);
    return status;
}

/* The whole -------------------------------------------------------------------------------------------- */

static Status count_steps(Setup *s)
{
    const Config *config = s->config;
    const int64_t per_step = (int64_t)config->train.batch * config->train.accumulate;
    const int64_t samples = s->sources->epoch_samples;
    const double asked = config->train.epochs > 0
                             ? ceil((double)config->train.epochs * (double)samples / (double)per_step)
                             : (double)config->train.steps;
    if (asked < 1 || asked > INT32_MAX)
        return status_refuse(
            "the run comes to %.0f steps; set train.steps or train.epochs so that it has 1 to %d", asked,
            INT32_MAX);
    s->steps = (int64_t)asked;
    return STATUS_OK;
}

double setup_epochs(const Setup *s, int64_t steps)
{
    const int64_t per_step = (int64_t)s->config->train.batch * s->config->train.accumulate;
    return (double)steps * (double)per_step / (double)s->sources->epoch_samples;
}

/* Process 0 builds what is to be built in the run's folder; the others find it there. */
static Status open_sources(Setup *s, const char *folder, SourcesKept keep)
{
    Status status = STATUS_OK;
    const SizeModel m = size_model(s);
    if (s->comm->rank == 0)
        status = sources_open(s->config, &m, folder, keep, s->stop, &s->sources);
    if (folder)
        status = comm_agree(s->comm, status);
    return status == STATUS_OK && s->comm->rank > 0
               ? sources_open(s->config, &m, folder, SOURCES_SEEN, s->stop, &s->sources)
               : status;
}

/* Once the pictures have been looked at: all sizes that come, where they are more than the square that was
 * planned, and with masks a step has more to do. */
static Status plan_found(Setup *s)
{
    const RunSizes *sizes = &s->sources->sizes;
    s->sizes = *sizes;
    if (sizes->count == 1 && size_equal(sizes->items[0].size, config_size(s->config)) &&
        !sources_masked(s->sources))
        return STATUS_OK;
    s->config->train = s->asked.train;
    return plan_described(s);
}

static Status build(Setup *s, const char *folder, SourcesKept keep)
{
    s->base_bytes = machine_current_bytes();
    s->prior_built = folder && keep != SOURCES_ANEW && config_has_prior(s->config) &&
                     sources_prior_built(s->config, folder);
    TRY(plan_described(s));
    snprintf(s->device, sizeof s->device, "%s (%s)", s->dev->name, s->dev->chip);
    s->disk = disk_need(s);
    TRY(fit_memory(s));
    TRY(folder ? fit_disk(s, folder) : STATUS_OK);
    TRY(open_sources(s, folder, keep));
    TRY(plan_found(s));
    TRY(count_steps(s));
    TRY(measure_base(s));
    s->disk = disk_need(s);
    TRY(fit_memory(s));
    return folder ? fit_disk(s, folder) : STATUS_OK;
}

Status setup_device(Config *config, const Device **dev)
{
    TRY(status_in(device_choose(config->train.device, &config->model.dtype, dev), "train.device"));
    if (config->train.fused_backward && config->model.dtype == DTYPE_F16)
        return status_refuse("train.fused_backward: this GPU stores bf16 as f16, which is too narrow for it; "
                             "write model.dtype: f32");
    TRY(status_in(device_choose_tf32(*dev, config->model.dtype, &config->model.tf32), "model.tf32"));
    return strcmp(config->train.device, DEVICE_AUTO) == 0 ? config_set_device(config, (*dev)->name)
                                                          : STATUS_OK;
}

Status setup_new(Config *config, const Device *dev, Comm *comm, const char *folder, SourcesKept keep,
                 bool report, const volatile sig_atomic_t *stop, Setup **out)
{
    if (!dev)
        TRY(setup_device(config, &dev));
    Setup *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    *s =
        (Setup){.config = config, .asked = *config, .dev = dev, .comm = comm, .stop = stop, .report = report};
    const Status status = build(s, folder, keep);
    if (status != STATUS_OK) {
        setup_free(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

Status setup_load(Setup *s)
{
    const Config *config = s->config;
    drop_parts(s);
    TRY(make_parts(s, false));
    TRY(model_hash(s->model, s->weights));
    mem_give_back(); /* weights that have moved into blocks, and what loading took */
    s->shape.model = s->model;
    TRY(plan_gradients(s));
    if (config->method.text_encoder)
        return STATUS_OK;
    return texts_new(s->pipeline, config->method.clip_skip, step_text_size(&s->shape), SETUP_TEXTS_BYTES,
                     &s->texts);
}

Export setup_export(const Setup *s)
{
    return (Export){.config = s->config,
                    .model = s->model,
                    .parameters = s->parameters,
                    .sources = s->sources,
                    .steps = s->steps,
                    .epoch_samples = s->sources->epoch_samples};
}

void setup_free(Setup *s)
{
    if (!s)
        return;
    drop_plans(s);
    texts_free(s->texts);
    sources_close(s->sources);
    drop_parts(s);
    ctx_free(s->c);
    mem_free(s);
}
