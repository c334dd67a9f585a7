#include "memory.h"

#include "data/loader/sample.h"
#include "infer/convert/carry.h"
#include "infer/models/parts.h"
#include "train/step/learning.h"
#include "setup.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What is counted nowhere else and does not depend on processor or model: HDF5's own memory for a cache,
 * holes in the heap, what reading back and summing the first checkpoint takes, pages of code that are touched
 * after the plan is made. 8 to 11 MB over instruction sets, types and modes, of which 1.5 MB come and go from
 * run to run; what oneDNN makes (3 MB of code, or 14) is in the process when it is measured (Device.warm_up).
 */
#define UNCOUNTED_BYTES ((size_t)9 << 20)
#define LOADER_STEPS 3 /* the loader's ring: one step being looked at, two ahead */

size_t memory_total(const MemoryNeed *m)
{
    return m->weights + m->activations + m->gradients + m->optimizer + m->workspace + m->other;
}

size_t memory_of_host(const MemoryNeed *m)
{
    return m->host ? m->host : memory_total(m);
}

const char *bytes_text(size_t bytes, char *buf, size_t size)
{
    if (bytes >= 1000000000u)
        snprintf(buf, size, "%.2f GB", (double)bytes / 1e9);
    else
        snprintf(buf, size, "%.0f MB", (double)bytes / 1e6);
    return buf;
}

/* Weights ---------------------------------------------------------------------------------------------- */

/* A part's layers: storage of their own, which they have from loading on; what is mapped, once it is touched;
 * the further forms of frozen convolutions, in the orders and type that the device multiplies them in. Of a
 * mapped table of `looked_up` rows only the rows that are looked up are touched, and all of it when the model
 * is written. */
typedef struct Held {
    size_t own, mapped, packed, table;
    size_t streamed; /* in the host's memory, on a device with memory of its own */
} Held;

/* What the part has besides its own storage once it has been used. */
static size_t touched(const Held *h)
{
    return h->mapped + h->packed;
}

static void hold_tensor(Held *h, const Tensor *t, int64_t looked_up)
{
    if (!t)
        return;
    if (t->owned || !t->data || t->requires_grad)
        h->own += tensor_bytes(t);
    else if (t->ndim == 2 && t->shape[0] == looked_up)
        h->table += tensor_bytes(t);
    else
        h->mapped += tensor_bytes(t);
}

static void hold_layer(Held *h, const LayerSet *set, const Layer *l, int64_t looked_up)
{
    if (l->streamed)
        h->streamed += tensor_bytes(l->weight);
    else if (set->trained_on_host && l->weight && l->weight->requires_grad)
        h->streamed += tensor_bytes(l->weight);
    else if (l->packed_only) /* mapped pages go back once it has been packed; in 8 bits it is rounded from
                                them */
        h->streamed += l->weight->owned || l->weight->scales ? tensor_bytes(l->weight) : 0;
    else
        hold_tensor(h, l->weight, looked_up);
    if (l->weight && l->weight->scales)
        hold_tensor(h, l->weight->scales, 0);
    if (l->bias && l->bias->requires_grad && set->trained_on_host)
        h->streamed += tensor_bytes(l->bias);
    else
        hold_tensor(h, l->bias, 0);
    h->packed += layerset_packed_bytes(set, l); /* noted when the steps were rehearsed */
}

static Held hold_set(const LayerSet *set, int64_t looked_up)
{
    Held h = {0};
    for (int i = 0; i < set->count; i++)
        hold_layer(&h, set, set->items[i], looked_up);
    return h;
}

static Held held_together(Held a, Held b)
{
    return (Held){a.own + b.own, a.mapped + b.mapped, a.packed + b.packed, a.table + b.table,
                  a.streamed + b.streamed};
}

/* All text encoders; looked_up: only rows of their tables are. */
static Held hold_texts(const Model *m, bool looked_up)
{
    Held h = {0};
    Clip *const encoders[] = {m->clip, m->clip_2};
    for (int i = 0; i < 2; i++)
        if (encoders[i])
            h = held_together(
                h, hold_set(clip_layers(encoders[i]), looked_up ? clip_config(encoders[i])->vocab_size : 0));
    return h;
}

/* The half of the VAE that encodes, or the other. */
static Held hold_vae(const Vae *vae, bool encoder)
{
    Held h = {0};
    const LayerSet *set = vae_layers((Vae *)vae);
    for (int i = 0; i < set->count; i++)
        if (vae_layer_encodes(set->items[i]) == encoder)
            hold_layer(&h, set, set->items[i], 0);
    return h;
}

/* Host memory ------------------------------------------------------------------------------------------ */

static bool any_dropout(const Config *config)
{
    for (int i = 0; i < config->dataset_count; i++)
        if (config->datasets[i].caption.dropout > 0)
            return true;
    return false;
}

static bool has_previews(const Config *config)
{
    return config->preview.every > 0 && config->preview.prompt_count > 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Pixels of the largest size. */
static size_t largest_area(const Setup *s)
{
    return (size_t)size_area(s->sizes.count ? sizes_largest(&s->sizes) : config_size(s->config));
}

/* Floats of the largest latent. */
static size_t largest_latent(const Setup *s)
{
    const int factor = vae_factor(s->model->vae);
    return (size_t)s->shape.channels * largest_area(s) / (size_t)(factor * factor);
}

/* What decoding a picture takes: all its pixels; but a PNG (told by its name: its bytes are not looked at for
 * this) goes by rows into the window, unless windows are cut out of it anew each time and the whole is kept
 * for that. */
static size_t decoded_bytes(const Source *s, int i, Size cut)
{
    const Size size = dataset_size(s->dataset, i);
    const size_t w = (size_t)size.width, h = (size_t)size.height, whole = 3 * w * h;
    const char *dot = strrchr(dataset_name(s->dataset, i), '.');
    const bool moved =
        s->config->crop == CROP_RANDOM || s->config->augment.shift > 0 || s->config->augment.scale > 0;
    if (!dot || strcasecmp(dot, ".png") != 0 || (moved && whole <= PIXEL_CACHE_BYTES))
        return whole;
    const size_t columns = (size_t)cut.width, rows = (size_t)cut.height;
    const size_t seen = smaller(h, (w * rows + columns - 1) / columns); /* rows that the window sees */
    return smaller(whole, 3 * columns * seen + 7 * w); /* rows across, and two rows as they come */
}

/* Pictures decoded: the largest of all, and what is cut out of it. */
static size_t decoding_bytes(const Setup *s)
{
    size_t largest = 0;
    for (int i = 0; s->sources && i < s->sources->count; i++) {
        const Source *source = &s->sources->items[i];
        const Entries *const lists[] = {&source->entries, &source->held_entries};
        for (int k = 0; k < 2; k++)
            for (int n = 0; n < lists[k]->count; n++) {
                const int picture = lists[k]->pictures[n];
                const size_t bytes = decoded_bytes(source, picture, lists[k]->fits[n].bucket) +
                                     (size_t)dataset_encoded_size(source->dataset, picture);
                largest = bytes > largest ? bytes : largest;
            }
    }
    return largest + 3 * largest_area(s) * (1 + sizeof(float));
}

static size_t pictures_count(const Setup *s)
{
    size_t count = 0;
    for (int i = 0; s->sources && i < s->sources->count; i++)
        count += (size_t)dataset_count(s->sources->items[i].dataset);
    return count;
}

/* The batch, captions kept as states, latents held out, pictures ahead in the loader, the grid being drawn.
 */
static size_t step_host_bytes(const Setup *s)
{
    const Config *config = s->config;
    const size_t B = (size_t)s->shape.batch, latent = largest_latent(s) * sizeof(float),
                 text = (size_t)step_text_size(&s->shape) * sizeof(float), pixels = 3 * largest_area(s),
                 per_step = B * (size_t)config->train.accumulate;
    const bool masked = s->shape.masked;
    size_t bytes = B * ((4 + (size_t)masked) * latent + text) + text;
    if (!config->method.text_encoder) {
        const size_t kept = (pictures_count(s) + 1 + config_has_prior(config)) * text;
        bytes += kept < SETUP_TEXTS_BYTES ? kept : SETUP_TEXTS_BYTES;
    }
    if (s->sources)
        bytes += (size_t)s->sources->held_count * (1 + (size_t)masked) * latent;
    if (!config->train.cache_latents)
        bytes += LOADER_STEPS * per_step * pixels * sizeof(float);
    if (masked)
        bytes += smaller((pictures_count(s) + LOADER_STEPS * per_step) * latent / (size_t)s->shape.channels,
                         MASK_CACHE_BYTES);
    if (!config->train.cache_latents || masked)
        bytes += decoding_bytes(s);
    if (has_previews(config)) {
        const int side = s->model->default_size;
        const Size size = {config->preview.width ? config->preview.width : side,
                           config->preview.height ? config->preview.height : side};
        const size_t preview = 3 * (size_t)size_area(size);
        bytes += (size_t)config->preview.prompt_count * 2 * preview + preview * sizeof(float);
    }
    return bytes;
}

/* Phases ----------------------------------------------------------------------------------------------- */

typedef struct Phase {
    size_t weights, arena, host;
} Phase;

static Phase fuller(Phase a, Phase b)
{
    return a.weights + a.arena + a.host >= b.weights + b.arena + b.host ? a : b;
}

static Phase fullest_phase(const Setup *s)
{
    const Config *config = s->config;
    const Model *m = s->model;
    const Held unet = hold_set(unet_layers(m->unet), 0), clip = hold_texts(m, true),
               encoder = hold_vae(m->vae, true), decoder = hold_vae(m->vae, false);
    const size_t own = unet.own + clip.own + encoder.own + decoder.own;
    const bool texts_in_steps = has_previews(config) || !config->train.cache_text || any_dropout(config);
    /* the arena has been touched as far as the largest plan by the trial step, before anything is encoded */
    const Phase pictures = {own + touched(&encoder), s->arena_bytes, decoding_bytes(s)};
    const Phase captions = {own + touched(&clip), s->arena_bytes, 0};
    Phase steps = {own + touched(&unet), s->arena_bytes, step_host_bytes(s)};
    if (!config->train.cache_latents)
        steps.weights += touched(&encoder);
    if (has_previews(config))
        steps.weights += touched(&decoder) + guard_bytes(s->guard);
    if (texts_in_steps)
        steps.weights += touched(&clip);
    Phase most = steps;
    if (s->prior.missing > 0) {
        const Phase drawing = {own + touched(&unet) + touched(&clip) + touched(&decoder) +
                                   guard_bytes(s->guard),
                               s->arena_bytes, 3 * (size_t)size_area(s->prior.largest) * (2 + sizeof(float))};
        most = fuller(most, drawing);
    }
    if (config->train.cache_latents)
        most = fuller(most, pictures);
    if (config->train.cache_text)
        most = fuller(most, captions);
    /* a whole model is written, and before the first step it is tried: every part of its files is looked at
     */
    Phase saving = {own + touched(&unet) + clip.mapped + clip.table + encoder.mapped + decoder.mapped +
                        model_save_bytes(m, config->output.dtype),
                    s->arena_bytes, 0};
    if (has_previews(config))
        saving.weights += decoder.packed;
    return config->method.kind == METHOD_FULL ? fuller(most, saving) : most;
}

/* A part's layers where all of them are on the device. */
static size_t placed(const Held *h)
{
    return h->own + h->mapped + h->table + h->packed;
}

/* On a device with memory of its own: every part is there from loading on, and what the device has packed. */
static Phase placed_phase(const Setup *s)
{
    const Model *m = s->model;
    const Held unet = hold_set(unet_layers(m->unet), 0), clip = hold_texts(m, false),
               encoder = hold_vae(m->vae, true), decoder = hold_vae(m->vae, false);
    const size_t decoding = decoding_bytes(s), stepping = step_host_bytes(s);
    return (Phase){placed(&unet) + placed(&clip) + placed(&encoder) + placed(&decoder) +
                       guard_bytes(s->guard),
                   s->arena_bytes,
                   unet.streamed + clip.streamed + encoder.streamed + decoder.streamed +
                       (decoding > stepping ? decoding : stepping)};
}

MemoryNeed memory_need(const Setup *s)
{
    const size_t trained = parameters_block_bytes(s->parameters),
                 gradients = s->fused ? fused_bytes(s->fused) : trained;
    const size_t summed = sums_bytes(s->comm, s->parameters->flat.size, s->config->train.accumulate,
                                     s->config->train.reproducible == SUMS_EXACT);
    const bool apart = !s->dev->host_memory;
    const Phase phase = apart ? placed_phase(s) : fullest_phase(s);
    const size_t host = s->base_bytes + UNCOUNTED_BYTES + phase.host +
                        (s->plans ? plans_bytes(s->plans) : 0) + (apart ? 0 : learning_bytes(s->parameters));
    MemoryNeed m = {.weights = phase.weights,
                    .optimizer = parameters_optimizer_bytes(s->parameters) + s->parameters->scratch_bytes};
    if (s->parameters->module_count)
        m.weights += trained;
    m.gradients = plan_kind_bytes(s->plan, PLACE_GRADIENT);
    if (apart && s->parameters->steps_on && !s->fused) { /* what an update needs: all beside the weights */
        m.other = s->dev->own_bytes;
        m.host = host + trained + summed + m.optimizer + learning_bytes(s->parameters);
        m.optimizer = 0;
    } else {
        m.gradients += gradients + summed;
        m.other = apart ? s->dev->own_bytes + learning_bytes(s->parameters) : host;
        m.host = apart ? host : 0;
    }
    if (apart && s->parameters->steps_on && s->fused) { /* its state, which the device reaches there */
        m.host += parameters_optimizer_bytes(s->parameters);
        m.optimizer = s->parameters->scratch_bytes;
    }
    m.workspace = plan_kind_bytes(s->plan, PLACE_WORKSPACE);
    m.weights += plan_kind_bytes(s->plan, PLACE_WEIGHT);
    m.activations = phase.arena - plan_kind_bytes(s->plan, PLACE_GRADIENT) -
                    plan_kind_bytes(s->plan, PLACE_WEIGHT) - m.workspace;
    return m;
}

/* Disk ------------------------------------------------------------------------------------------------- */

static size_t model_elements(const Model *m)
{
    size_t n = 0;
    for (int i = 0; i < PART_COUNT; i++) {
        const LayerSet *set = part_layers((PartId)i, m);
        n += set ? layerset_elements(set) : 0;
    }
    return n;
}

DiskNeed disk_need(const Setup *s)
{
    const Config *config = s->config;
    const size_t trained = (size_t)parameters_elements(s->parameters);
    const int64_t every = config->output.save_every;
    const int64_t steps = s->steps ? s->steps : config->train.steps; /* not counted yet: epochs come later */
    int64_t saves = every > 0 ? steps / every + (steps % every != 0) : 1;
    if (saves > config->output.keep)
        saves = (int64_t)config->output.keep + 1; /* the oldest goes when the newest is there */
    saves += config->validation.share > 0;        /* the best one */
    DiskNeed d = {.checkpoint = trained * sizeof(float) + parameters_all_optimizer_bytes(s->parameters)};
    if (config->method.kind == METHOD_FULL)
        d.result = model_elements(s->model) * dtype_size(config->output.dtype) *
                       (1 + (size_t)config->output.single) +
                   carry_bytes(s->model);
    else
        d.result =
            trained * dtype_size(config->output.dtype) * (size_t)(config->output.kohya + config->output.peft);
    d.total = d.checkpoint * (size_t)saves + d.result;
    return d;
}
