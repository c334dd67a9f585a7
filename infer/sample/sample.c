/* The command `atelier sample`: loads the model and the LoRAs, makes the pictures one after the other, and
 * prints the names of the files, or the picture itself. A seed belongs to one picture: picture i of --batch
 * uses seed + i, whatever the others are. */
#include "sample.h"

#include "infer/adapters/adapters.h"
#include "infer/files/marks.h"
#include "infer/pipeline/pipeline.h"
#include "infer/samplers/sampler.h"
#include "infer/text/prompt_syntax.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "kernels/devices/devices.h"
#include "options.h"
#include "outputs.h"
#include "picture_text.h"
#include "sample_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Making the pictures ---------------------------------------------------------------------------------- */

typedef struct Session {
    SampleArguments a;
    Model *model;
    Ctx *c;
    Pipeline *pipeline;
    Guard *guard;
    LoraFile *loras[SAMPLE_MAX_LORAS];
    Progress progress;
    int picture;     /* which one is being made */
    int steps;       /* of one picture */
    Tensor *latents; /* (N,4,h,w), with --save-latents */
    char weights[MODEL_HASH_SIZE];
    char **paths;
} Session;

/* Says how much of a prompt the text encoder will not see. */
static Status tell_cut(const Model *m, const char *what, const char *text)
{
    int32_t *ids;
    int count;
    const int seen = clip_config(m->clip)->positions - 2;
    TRY(status_in(tokenizer_encode(m->tokenizer, text, &ids, &count), "sample: --%s", what));
    mem_free(ids);
    if (count > seen)
        log_warn("the %s has %d tokens; the text encoder sees the first %d", what, count, seen);
    return STATUS_OK;
}

static Status tell_surprises(const Session *s)
{
    const SampleRequest *r = &s->a.request;
    const char *const prompts[] = {r->prompt, r->negative};
    prompt_syntax_tell(prompts, 2);
    const NoiseSchedule *schedule = &s->model->schedule;
    TRY(tell_cut(s->model, "prompt", r->prompt));
    if (r->negative)
        TRY(tell_cut(s->model, "negative", r->negative));
    const SamplerKind *kind = sampler_kind(r->sampler);
    if (schedule->clip_sample && kind && kind->clips)
        log_warn("the model's scheduler_config.json does not turn \"clip_sample\" off, so %s clips its "
                 "predictions to "
                 "%g, as diffusers does; if pictures look flat, set it to false there",
                 kind->label, schedule->clip_sample_range);
    return STATUS_OK;
}

/* auto: a text encoder that is used once for each prompt, and a VAE once for each picture, need not lie in
 * the GPU's memory. */
static Offload offload_of(const char *word)
{
    return !strcmp(word, "all") ? OFFLOAD_ALL : !strcmp(word, "off") ? OFFLOAD_OFF : OFFLOAD_IDLE;
}

static Status session_open(Session *s)
{
    SampleArguments *a = &s->a;
    DType dtype;
    const Device *dev;
    TRY(dtype_parse(a->dtype, &dtype));
    TRY(status_in(device_choose(a->device, &dtype, &dev), "sample: --device"));
    a->dtype = dtype_name(dtype);
    TRY(model_open(&(ModelRequest){.name = a->model,
                                   .parts = MODEL_ALL,
                                   .dtype = dtype,
                                   .quantised = strcmp(a->quantise, "int8") ? 0 : MODEL_UNET | MODEL_TEXT},
                   &s->model));
    TRY(model_hash(s->model, s->weights));
    s->model->offload = offload_of(a->offload);
    if (!strcmp(a->prediction, "epsilon") || !strcmp(a->prediction, "v_prediction"))
        TRY(model_set_prediction(s->model, a->prediction[0] == 'e' ? PREDICT_EPSILON : PREDICT_V));
    TRY(status_in(pipeline_check_size(s->model, &a->request.size), "sample"));
    TRY(tell_surprises(s));
    for (int i = 0; i < a->lora_texts.count; i++)
        TRY(lora_attach(s->model, a->loras[i].path, a->loras[i].scale, &s->loras[i]));
    s->c = ctx_new(dev, &(CtxOptions){.dtype = dtype, .threads = a->threads, .stop = stop_flag()});
    s->paths = mem_calloc((size_t)a->picture_count, sizeof *s->paths);
    if (!s->c || !s->paths)
        return STATUS_FAILED;
    TRY(pipeline_new(s->c, s->model, &s->pipeline));
    TRY(status_in(guard_open(&a->guard, s->model, s->c, &s->guard), "sample: --safety"));
    pipeline_guard(s->pipeline, s->guard);
    return STATUS_OK;
}

static void session_close(Session *s)
{
    for (int i = 0; s->paths && i < s->a.picture_count; i++)
        mem_free(s->paths[i]);
    mem_free(s->paths);
    tensor_free(s->latents);
    pipeline_free(s->pipeline);
    guard_free(s->guard);
    for (int i = s->a.lora_texts.count - 1; i >= 0; i--)
        if (i < SAMPLE_MAX_LORAS)
            lora_detach(s->model, s->loras[i]);
    ctx_free(s->c);
    model_free(s->model);
    sample_arguments_free(&s->a);
}

static bool step_done(int step, int steps, const float *latents, void *arg)
{
    (void)latents;
    (void)steps;
    Session *s = arg;
    if (s->a.picture_count > 1)
        progress_update(&s->progress, (int64_t)s->picture * s->steps + step, "picture %d of %d",
                        s->picture + 1, s->a.picture_count);
    else
        progress_update(&s->progress, step, NULL);
    return !*stop_flag();
}

static Status print_picture(const Picture *picture, const PictureText *text, int count)
{
    uint8_t *bytes;
    size_t size;
    TRY(picture_encode_png(picture, text, count, &bytes, &size));
    const bool written = fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0;
    mem_free(bytes);
    return written ? STATUS_OK : status_fail("sample: --out -: the picture cannot be written: %m");
}

/* path NULL: to standard output. */
static Status write_picture(Session *s, const SampleRequest *r, const Picture *picture, const char *path)
{
    const PictureOrigin origin = {.request = r,
                                  .model = s->a.model,
                                  .weights = s->weights,
                                  .loras = s->a.loras,
                                  .lora_count = s->a.lora_texts.count,
                                  .dtype = s->a.dtype};
    char *parameters = picture_parameters(&origin), *settings = picture_settings(&origin);
    const PictureText text[] = {{"parameters", parameters}, {PICTURE_SETTINGS, settings}};
    const Status status = !parameters || !settings ? STATUS_FAILED
                          : path                   ? picture_write_png(path, picture, text, 2)
                                                   : print_picture(picture, text, 2);
    mem_free(parameters);
    mem_free(settings);
    return status;
}

/* Puts picture i's latents into the tensor of all. */
static Status keep_latents(Session *s, int i, const Tensor *latents)
{
    if (!s->a.save_latents)
        return STATUS_OK;
    if (!s->latents) {
        const int64_t shape[] = {s->a.picture_count, latents->shape[1], latents->shape[2], latents->shape[3]};
        s->latents = tensor_new(DTYPE_F32, 4, shape);
        if (!s->latents)
            return STATUS_FAILED;
    }
    memcpy((char *)s->latents->data + (size_t)i * tensor_bytes(latents), latents->data,
           tensor_bytes(latents));
    return STATUS_OK;
}

static Status start_trace(Session *s, int i, char **folder)
{
    *folder = NULL;
    if (!s->a.trace)
        return STATUS_OK;
    *folder = outputs_trace(&s->a, i);
    if (!*folder)
        return STATUS_FAILED;
    pipeline_trace(s->pipeline, sample_trace_write, *folder);
    return dir_make(*folder);
}

static Status make_picture(Session *s, int i)
{
    SampleRequest r = s->a.request;
    SampleResult result = {0};
    char *folder;
    r.seed = s->a.seeds[i];
    s->picture = i;
    Status status = start_trace(s, i, &folder);
    if (status == STATUS_OK)
        status = pipeline_sample(s->pipeline, &r, step_done, s, &result);
    if (status == STATUS_OK)
        status = keep_latents(s, i, result.latents);
    if (status == STATUS_OK) {
        s->paths[i] = outputs_to_stdout(&s->a) ? NULL : outputs_picture(&s->a, i);
        status = s->paths[i] || outputs_to_stdout(&s->a) ? write_picture(s, &r, &result.picture, s->paths[i])
                                                         : STATUS_FAILED;
    }
    pipeline_trace(s->pipeline, NULL, NULL);
    mem_free(folder);
    sample_result_free(&result);
    return status;
}

static Status make_pictures(Session *s)
{
    TRY(status_in(pipeline_steps(s->model, &s->a.request, &s->steps), "sample"));
    Status status = STATUS_OK;
    progress_begin(&s->progress, "sample", "step", 0, (int64_t)s->steps * s->a.picture_count);
    for (int i = 0; status == STATUS_OK && i < s->a.picture_count; i++)
        status = make_picture(s, i);
    if (status == STATUS_OK)
        progress_end(&s->progress);
    else
        progress_clear(&s->progress);
    return status;
}

static Status save_latents(const Session *s)
{
    if (!s->a.save_latents)
        return STATUS_OK;
    const SafeItem item = {.name = "latents", .tensor = s->latents, .dtype = DTYPE_F32, .ndim = -1};
    const TensorMeta mark = mark_of(MARK_LATENTS);
    TRY(mark_check(s->a.save_latents, MARK_LATENTS)); /* once more: a picture may have that name by now */
    return safetensors_write(s->a.save_latents, &item, 1, &mark, 1);
}

/* What was made ---------------------------------------------------------------------------------------- */

static json_t *lora_facts(const Session *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->a.lora_texts.count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:f}", "file", s->a.loras[i].path, "scale", (double)s->a.loras[i].scale));
    return list;
}

static Status print_json(const Session *s)
{
    const SampleRequest *r = &s->a.request;
    json_t *pictures = json_array();
    for (int i = 0; i < s->a.picture_count; i++) {
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->a.seeds[i]);
        json_array_append_new(pictures, json_pack("{s:s, s:s}", "file", s->paths[i], "seed", seed));
    }
    json_t *facts = json_pack(
        "{s:o, s:s, s:s, s:s, s:i, s:f, s:s, s:i, s:i, s:i, s:s, s:o, s:s, s:i, s:I}", "pictures", pictures,
        "model", s->a.model, "prompt", r->prompt, "negative", r->negative ? r->negative : "", "steps",
        r->steps, "cfg", s->a.guidance, "sampler", r->sampler, "width", r->size.width, "height",
        r->size.height, "clip_skip", r->clip_skip, "dtype", s->a.dtype, "loras", lora_facts(s), "device",
        s->c->dev->name, "threads", s->c->threads, "peak_bytes", (json_int_t)machine_peak_bytes());
    char *text = json_text(facts, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    if (!text)
        return status_in(STATUS_FAILED, "sample --json");
    puts(text);
    free(text);
    return STATUS_OK;
}

static Status print_files(const Session *s)
{
    for (int i = 0; i < s->a.picture_count; i++)
        if (s->paths[i])
            puts(s->paths[i]);
    return STATUS_OK;
}

static Status run(Session *s)
{
    TRY(outputs_check(&s->a));
    TRY(session_open(s));
    TRY(outputs_prepare(&s->a));
    const Status made = make_pictures(s);
    if (made != STATUS_OK) {
        print_files(s); /* those that were finished */
        return made;
    }
    TRY(save_latents(s));
    return s->a.json ? print_json(s) : print_files(s);
}

int command_sample(int argc, char **argv)
{
    Session s = {0};
    bool done = false;
    Status status = sample_arguments_read(argc, argv, &s.a, &done);
    if (status == STATUS_OK && !done) {
        stop_catch();
        status = run(&s);
    }
    session_close(&s);
    if (status != STATUS_OK)
        log_error("%s", status_message());
    return (int)status;
}
