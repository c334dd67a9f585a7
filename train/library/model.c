/* AtlModel: a model with its context, pipeline, guard and adapters. */
#include "handle.h"

#include "infer/adapters/adapters.h"
#include "infer/safety/licence.h"
#include "infer/sample/picture_text.h"
#include "kernels/base/mem.h"
#include "kernels/devices/devices.h"
#include "request.h"

#include <string.h>

struct AtlModel {
    Handle handle;
    Model *model;
    Ctx *c;
    Pipeline *pipeline; /* NULL: it is made anew at the next picture */
    Guard *guard;
    char *safety, *prompt_filter, *watermark;
    LoraFile **loras;
    UsedLora *used; /* paths are owned */
    int lora_count, lora_capacity, used_capacity;
    char weights[MODEL_HASH_SIZE];
    Licence licence;
    DType dtype;
};

/* Opening ---------------------------------------------------------------------------------------------- */

static const char *word_of(const char *word, const char *otherwise)
{
    return word ? word : otherwise;
}

/* Where `word` stands in "a|b|c"; refused with the field's name. */
static Status choose(const char *field, const char *word, const char *choices, int *out)
{
    int i = *out = 0;
    for (const char *p = choices; *p; i++) {
        const size_t n = strcspn(p, "|");
        if (strlen(word) == n && !strncmp(word, p, n)) {
            *out = i;
            return STATUS_OK;
        }
        p += n + (p[n] == '|');
    }
    return status_refuse("AtlModelOptions.%s: %s is none of %s", field, word, choices);
}

/* A copy, or NULL of NULL. */
static Status keep_text(const char *text, char **out)
{
    *out = text ? mem_strdup(text) : NULL;
    return !text || *out ? STATUS_OK : STATUS_FAILED;
}

static Status load(AtlModel *m, const char *name, const AtlModelOptions *o)
{
    const Device *dev;
    int offload, quantise, safety;
    TRY(choose("offload", word_of(o->offload, "idle"), OFFLOAD_CHOICES, &offload));
    TRY(choose("quantise", word_of(o->quantise, "none"), "none|int8|int8-dynamic", &quantise));
    TRY(choose("safety", word_of(o->safety, "auto"), SAFETY_CHOICES, &safety));
    TRY(status_in(dtype_parse(word_of(o->dtype, "f32"), &m->dtype), "AtlModelOptions.dtype"));
    TRY(status_in(device_choose(word_of(o->device, DEVICE_AUTO), &m->dtype, &dev), "AtlModelOptions.device"));
    bool tf32 = o->tf32;
    TRY(status_in(device_choose_tf32(dev, m->dtype, &tf32), "AtlModelOptions.tf32"));
    if (dev != device_cpu())
        handle_take_card(&m->handle);
    TRY(keep_text(o->safety, &m->safety));
    TRY(keep_text(o->prompt_filter, &m->prompt_filter));
    TRY(keep_text(o->watermark, &m->watermark));
    TRY(guard_new(&(GuardRequest){m->safety, m->prompt_filter, m->watermark}, &m->guard));
    TRY(model_open(&(ModelRequest){.name = name,
                                   .parts = MODEL_ALL,
                                   .dtype = m->dtype,
                                   .quantised = quantise ? MODEL_UNET | MODEL_TEXT : 0,
                                   .narrow = quantise > 1 ? MODEL_UNET : 0},
                   &m->model));
    TRY(model_hash(m->model, m->weights));
    m->model->offload = (Offload)offload;
    m->licence = licence_of(m->model);
    m->c = ctx_new(
        dev, &(CtxOptions){.dtype = m->dtype, .tf32 = tf32, .threads = o->threads, .stop = &m->handle.stop});
    return m->c ? guard_load(m->guard, m->model, m->c, false) : STATUS_FAILED;
}

int atl_model_open(const char *name, const AtlModelOptions *options, AtlModel **out)
{
    AtlModelOptions o;
    *out = NULL;
    if (!name)
        return (int)status_refuse("atl_model_open: no name");
    TRY(handle_read_struct("AtlModelOptions", options, sizeof o, &o, sizeof o));
    AtlModel *m = mem_calloc(1, sizeof *m);
    if (!m)
        return (int)STATUS_FAILED;
    m->handle.listener = o.listener;
    Status s = handle_enter(&m->handle, name);
    if (s == STATUS_OK)
        s = (Status)handle_leave(&m->handle, load(m, name, &o));
    if (s == STATUS_OK)
        *out = m;
    else
        atl_model_close(m);
    return (int)s;
}

static void detach(AtlModel *m)
{
    pipeline_free(m->pipeline);
    m->pipeline = NULL;
    while (m->lora_count > 0) {
        m->lora_count--;
        lora_detach(m->loras[m->lora_count]);
        mem_free((char *)m->used[m->lora_count].path);
    }
}

void atl_model_close(AtlModel *m)
{
    if (!m)
        return;
    if (m->c && m->c->dev != device_cpu())
        handle_take_card(&m->handle);
    detach(m);
    guard_free(m->guard);
    ctx_free(m->c);
    model_free(m->model);
    handle_release_card(&m->handle);
    mem_free(m->loras);
    mem_free(m->used);
    mem_free(m->safety);
    mem_free(m->prompt_filter);
    mem_free(m->watermark);
    mem_free(m);
}

/* Facts ------------------------------------------------------------------------------------------------ */

void atl_model_size(const AtlModel *m, int *width, int *height, int *multiple)
{
    if (width)
        *width = m->model->default_size;
    if (height)
        *height = m->model->default_size;
    if (multiple)
        *multiple = m->model->size_multiple;
}

const char *atl_model_licence(const AtlModel *m)
{
    return m->licence.name[0] ? m->licence.name : NULL;
}

void atl_model_stop(AtlModel *m)
{
    handle_stop(&m->handle);
}

/* Working ---------------------------------------------------------------------------------------------- */

/* A stop that was asked for before counts for nothing. */
static Status enter(AtlModel *m)
{
    TRY(handle_enter(&m->handle, m->model->name));
    ctx_enter(m->c);
    m->handle.stop = 0;
    if (m->c->dev != device_cpu())
        handle_take_card(&m->handle);
    return STATUS_OK;
}

static Status add_lora(AtlModel *m, const char *path, float scale)
{
    const int n = m->lora_count;
    if (!path)
        return status_refuse("atl_model_add_lora: no path");
    if (!mem_grow(&m->loras, n, &m->lora_capacity, sizeof *m->loras) ||
        !mem_grow(&m->used, n, &m->used_capacity, sizeof *m->used))
        return STATUS_FAILED;
    char *copy = mem_strdup(path);
    if (!copy)
        return STATUS_FAILED;
    pipeline_free(m->pipeline); /* it has plans for the layers as they were */
    m->pipeline = NULL;
    const Status s = lora_attach(m->model, path, scale, &m->loras[n]);
    if (s != STATUS_OK) {
        mem_free(copy);
        return s;
    }
    m->used[n] = (UsedLora){.path = copy, .strength = adapter_strength(scale)};
    m->lora_count++;
    return STATUS_OK;
}

int atl_model_add_lora(AtlModel *m, const char *path, float scale)
{
    TRY(enter(m));
    return handle_leave(&m->handle, add_lora(m, path, scale));
}

int atl_model_remove_loras(AtlModel *m)
{
    TRY(enter(m));
    detach(m);
    return handle_leave(&m->handle, STATUS_OK);
}

static bool step_done(int step, int steps, const SampleView *view, void *arg)
{
    (void)view;
    return handle_progress(arg, "sample", "step", step, steps, "");
}

/* What has been asked for, its size and sampler chosen. */
static Status draw_request(AtlModel *m, SampleRequest *r, SampleResult *result)
{
    int steps;
    TRY(pipeline_choose_size(m->model, r));
    TRY(pipeline_steps(m->model, r, &steps));
    r->sampler = pipeline_sampler(m->model, r);
    if (!m->pipeline)
        TRY(pipeline_new(m->c, m->model, &m->pipeline));
    pipeline_guard(m->pipeline, m->guard);
    return pipeline_sample(m->pipeline, r, step_done, &m->handle, result);
}

static Status hand_over(const AtlModel *m, const Asked *a, SampleResult *result, AtlPicture *out)
{
    const GuardRequest guard = {m->safety, m->prompt_filter, m->watermark};
    out->settings = picture_settings(&(PictureOrigin){.request = &a->request,
                                                      .model = m->model->name,
                                                      .weights = m->weights,
                                                      .tells_none = m->model->family == FAMILY_SDXL,
                                                      .loras = m->used,
                                                      .lora_count = m->lora_count,
                                                      .dtype = dtype_name(m->dtype),
                                                      .tf32 = m->c->tf32,
                                                      .licence = m->licence.name,
                                                      .watermark = guard_watermark(&guard),
                                                      .flagged = result->flagged,
                                                      .options = a->options});
    if (!out->settings)
        return STATUS_FAILED;
    out->width = result->picture.size.width;
    out->height = result->picture.size.height;
    out->flagged = result->flagged;
    out->rgb = result->picture.rgb;
    result->picture.rgb = NULL;
    return STATUS_OK;
}

static Status draw(AtlModel *m, const AtlSample *s, AtlPicture *out)
{
    Asked a;
    SampleResult result = {0};
    Status status = asked_read(s, m->model, &a);
    if (status == STATUS_OK)
        status = draw_request(m, &a.request, &result);
    if (status == STATUS_OK)
        status = hand_over(m, &a, &result, out);
    sample_result_free(&result);
    asked_free(&a);
    return status;
}

/* Bytes of the first version's. */
#define SAMPLE_LEAST (offsetof(AtlSample, clip_skip) + sizeof(int))

int atl_sample(AtlModel *m, const AtlSample *sample, AtlPicture *out)
{
    AtlSample s;
    *out = (AtlPicture){0};
    TRY(handle_read_struct("AtlSample", sample, SAMPLE_LEAST, &s, sizeof s));
    if (!s.prompt)
        return (int)status_refuse("AtlSample.prompt is NULL; \"\" draws without one");
    TRY(enter(m));
    return handle_leave(&m->handle, draw(m, &s, out));
}
