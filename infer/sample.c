/* The command `atelier sample`: reads the options, loads the model and the LoRAs, makes the pictures one
 * after the other, and prints the names of the files. A seed belongs to one picture: picture i of --batch
 * uses seed + i, whatever the others are. */
#include "sample.h"
#include "infer/adapters/adapters.h"
#include "infer/files/marks.h"
#include "infer/pipeline/picture_text.h"
#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/sample_trace.h"
#include "infer/samplers/sampler.h"
#include "kernels/base/json.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "kernels/devices/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LORAS 16
#define MAX_PICTURES 4096

/* Options ---------------------------------------------------------------------------------------------- */

typedef struct Arguments {
    const char *model, *prediction, *dtype, *device, *offload, *quantise, *seeds_text, *out, *save_latents,
        *trace;
    OptionList lora_texts;
    SampleRequest request;
    double guidance;
    int threads, batch;
    bool json;
    UsedLora loras[MAX_LORAS];
    uint64_t *seeds;
    int picture_count;
} Arguments;

/* "FILE" or "FILE:SCALE"; a file that is there under the whole name is that file. */
static Status parse_lora(const char *text, UsedLora *out)
{
    const char *colon = strrchr(text, ':');
    double scale = 1;
    *out = (UsedLora){.scale = 1};
    if (!file_exists(text) && colon && colon != text) {
        if (!text_to_float(colon + 1, &scale))
            return status_in(file_missing(text, "file"), "--lora (`%s` is no scale)", colon + 1);
        char *path = mem_printf("%.*s", (int)(colon - text), text);
        *out = (UsedLora){.path = path, .scale = (float)scale};
        return path ? STATUS_OK : STATUS_FAILED;
    }
    out->path = mem_strdup(text);
    return out->path ? STATUS_OK : STATUS_FAILED;
}

/* "1,5,9", each with the batch - 1 seeds after it. */
static Status parse_seeds(Arguments *a)
{
    int listed = 1;
    for (const char *p = a->seeds_text; *p; p++)
        listed += *p == ',';
    if ((int64_t)listed * a->batch > MAX_PICTURES)
        return status_refuse("sample: more than %d pictures at once", MAX_PICTURES);
    a->seeds = mem_calloc((size_t)listed * (size_t)a->batch, sizeof *a->seeds);
    if (!a->seeds)
        return STATUS_FAILED;
    const char *p = a->seeds_text;
    for (int i = 0; i < listed; i++) {
        char word[32];
        const size_t length = strcspn(p, ",");
        uint64_t seed;
        snprintf(word, sizeof word, "%.*s", (int)(length < 31 ? length : 31), p);
        if (!text_to_uint(word, &seed))
            return status_refuse("sample: --seed %s: `%s` is no whole number of 0 or more", a->seeds_text,
                                 word);
        for (int k = 0; k < a->batch; k++)
            a->seeds[a->picture_count++] = seed + (uint64_t)k;
        p += length + 1;
    }
    return STATUS_OK;
}

/* What each sampler is, for the help. */
static void describe_samplers(char *out, size_t size)
{
    int count;
    const SamplerKind *kinds = sampler_kinds(&count);
    size_t used = (size_t)snprintf(out, size, "The way from noise to picture.");
    for (int i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, " %s: %s.", kinds[i].name, kinds[i].description);
}

static Status parse(int argc, char **argv, Arguments *a, bool *done)
{
    char samplers[512];
    describe_samplers(samplers, sizeof samplers);
    SampleRequest *r = &a->request;
    const Option table[] = {
        {NULL, OPTION_HEADING, NULL, .help = "What to draw"},
        {"model", OPTION_TEXT, &a->model, .value = "M", .required = true,
         .help = "A diffusers folder, a single .safetensors file, or builtin:tiny."},
        {"lora", OPTION_LIST, &a->lora_texts, .value = "FILE[:SCALE]",
         .help = "An adapter: a file with kohya's, PEFT's or diffusers' names (LoRA, LoHa, LoKr), or PEFT's "
                 "folder; and how strongly it counts: :0.8, or :1 "
                 "where nothing is said. May be given several times."},
        {"prompt", OPTION_TEXT, &r->prompt, .value = "TEXT", .required = true,
         .help = "What the picture shows."},
        {"negative", OPTION_TEXT, &r->negative, .value = "TEXT", .help = "What it should not show."},
        {"clip-skip", OPTION_INT, &r->clip_skip, .value = "N", .max = 64,
         .help = "Leaves out the last N layers of the text encoder (as in diffusers; A1111 counts one more).",
         .shown = "0"},
        {"prediction", OPTION_TEXT, &a->prediction, .value = "KIND", .choices = "auto|epsilon|v_prediction",
         .help = "What the model predicts. Single files of Stable Diffusion 2.x mostly do not say it and are "
                 "taken to "
                 "predict v, as the 768-pixel models do; the 512-pixel base needs epsilon.",
         .shown = "auto: what the model says"},
        {NULL, OPTION_HEADING, NULL, .help = "How"},
        {"steps", OPTION_INT, &r->steps, .value = "N", .min = 1, .max = 100000, .help = "Sampling steps.",
         .shown = "20"},
        {"cfg", OPTION_FLOAT, &a->guidance, .value = "S", .min = 0, .max = 1000,
         .help = "Guidance scale: how far to go from the negative prompt towards the prompt. 1 or less: no "
                 "guidance.",
         .shown = "7.5"},
        {"sampler", OPTION_TEXT, &r->sampler, .value = "NAME", .help = samplers, .shown = SAMPLER_DEFAULT},
        {"seed", OPTION_TEXT, &a->seeds_text, .value = "N[,N...]",
         .help = "One picture for each. The noise is PyTorch's for that seed.", .shown = "0"},
        {"batch", OPTION_INT, &a->batch, .value = "N", .min = 1, .max = MAX_PICTURES,
         .help = "N pictures for each seed: with seed, seed + 1, and so on.", .shown = "1"},
        {"width", OPTION_INT, &r->size.width, .value = "W", .min = 1, .max = PICTURE_MAX_SIDE,
         .help = "Width in pixels.", .shown = "the size the model was made for"},
        {"height", OPTION_INT, &r->size.height, .value = "H", .min = 1, .max = PICTURE_MAX_SIDE,
         .help = "Height in pixels.", .shown = "the size the model was made for"},
        {"dtype", OPTION_TEXT, &a->dtype, .value = "TYPE", .choices = DTYPE_CHOICES,
         .help = "What weights and activations are stored in. 16 bits take half the memory.", .shown = "f32"},
        {"quantise", OPTION_TEXT, &a->quantise, .value = "HOW", .choices = "none|int8",
         .help = "Stores the weights of UNet and text encoder in 8 bits: half the memory of 16.",
         .shown = "none"},
        {"device", OPTION_TEXT, &a->device, .value = DEVICE_VALUES, .help = DEVICE_HELP,
         .shown = DEVICE_AUTO},
        {"offload", OPTION_TEXT, &a->offload, .value = "WHAT", .choices = "auto|" OFFLOAD_CHOICES,
         .help = "What waits in the machine's memory while the GPU does not need it: text encoder and VAE "
                 "(idle), "
                 "the UNet's weights too (all). Slower, in less of the GPU's memory.",
         .shown = "auto: idle"},
        {"threads", OPTION_INT, &a->threads, .value = "N", .min = 1, .max = 4096,
         .help = "Threads that compute.", .shown = "physical cores"},
        {NULL, OPTION_HEADING, NULL, .help = "What to write"},
        {"out", OPTION_TEXT, &a->out, .value = "FILE|DIR",
         .help = "A .png file (several pictures: FILE-SEED.png), or a folder. A picture of before is "
                 "replaced, any "
                 "other file is left alone.",
         .shown = "atelier-SEED.png in the current folder, numbered where the name is taken"},
        {"save-latents", OPTION_TEXT, &a->save_latents, .value = "FILE",
         .help = "Writes the final latents of all pictures, as safetensors: `latents`, f32, (N,4,h,w)."},
        {"trace", OPTION_TEXT, &a->trace, .value = "DIR",
         .help = "Writes what went in and came out of each sampling step, as safetensors, one file a step."},
        {"json", OPTION_FLAG, &a->json, .help = "Prints the files and settings as JSON."},
    };
    const Command command = {
        .name = "sample",
        .usage = "--model M --prompt TEXT [options]",
        .summary = "Makes pictures from a prompt, and prints the names of their files. Each "
                   "holds how it was made, in the PNG text that A1111 and others read "
                   "(`parameters`).",
        .example = "atelier sample --model builtin:tiny --prompt \"a red heart\" --seed 1,2,3\n"
                   "atelier sample --model sd15/ --lora runs/cat/lora.safetensors:0.8 \\\n"
                   "    --prompt \"a photo of sks cat\" --dtype bf16 --out cat.png",
        .options = table,
        .option_count = sizeof table / sizeof *table};
    return options_parse(&command, argc, argv, done);
}

static Status read_arguments(int argc, char **argv, Arguments *a, bool *done)
{
    *a = (Arguments){.prediction = "auto",
                     .dtype = "f32",
                     .device = DEVICE_AUTO,
                     .offload = "auto",
                     .quantise = "none",
                     .seeds_text = "0",
                     .batch = 1};
    a->request = sample_request_default();
    a->guidance = (double)a->request.guidance;
    TRY(parse(argc, argv, a, done));
    if (*done)
        return STATUS_OK;
    a->request.guidance = (float)a->guidance;
    if (a->lora_texts.count > MAX_LORAS)
        return status_refuse("sample: more than %d LoRAs", MAX_LORAS);
    for (int i = 0; i < a->lora_texts.count; i++)
        TRY(parse_lora(a->lora_texts.items[i], &a->loras[i]));
    return parse_seeds(a);
}

static void arguments_free(Arguments *a)
{
    for (int i = 0; i < a->lora_texts.count && i < MAX_LORAS; i++)
        mem_free((char *)a->loras[i].path);
    mem_free(a->seeds);
}

/* File names ------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), length = strlen(end);
    return n >= length && strcmp(text + n - length, end) == 0;
}

static Status check_out(const Arguments *a)
{
    const char *base = a->out ? path_base(a->out) : "";
    if (a->out && !*a->out)
        return status_refuse("sample: --out is empty");
    if (a->out && !file_is_dir(a->out) && strrchr(base, '.') && strrchr(base, '.') != base &&
        !ends_with(base, ".png"))
        return status_refuse("sample: --out %s: pictures are written as .png", a->out);
    return STATUS_OK;
}

/* DIR/atelier-SEED.png, or with -2, -3, … where that is taken. */
static char *free_name(const char *folder, uint64_t seed)
{
    char *path = NULL;
    for (int n = 1; n < 1000000; n++) {
        char number[16] = "";
        if (n > 1)
            snprintf(number, sizeof number, "-%d", n);
        mem_free(path);
        path = mem_printf("%s%satelier-%llu%s.png", folder, *folder && !ends_with(folder, "/") ? "/" : "",
                          (unsigned long long)seed, number);
        if (!path || !file_exists(path))
            break;
    }
    return path;
}

/* Caller: mem_free. NULL: out of memory. */
static char *picture_path(const Arguments *a, int i)
{
    if (!a->out)
        return free_name("", a->seeds[i]);
    if (!ends_with(a->out, ".png") || file_is_dir(a->out))
        return free_name(a->out, a->seeds[i]);
    if (a->picture_count == 1)
        return mem_strdup(a->out);
    return mem_printf("%.*s-%llu.png", (int)strlen(a->out) - 4, a->out, (unsigned long long)a->seeds[i]);
}

/* Where picture i's trace goes. Caller: mem_free. NULL: out of memory. */
static char *trace_folder(const Arguments *a, int i)
{
    return a->picture_count > 1 ? mem_printf("%s/seed-%llu", a->trace, (unsigned long long)a->seeds[i])
                                : mem_strdup(a->trace);
}

static Status check_traces(const Arguments *a)
{
    Status s = path_check_words(a->trace, NULL);
    for (int i = 0; i < a->picture_count && s == STATUS_OK; i++) {
        char *folder = trace_folder(a, i);
        s = folder ? mark_check_folder(folder, "step-", MARK_TRACE) : STATUS_FAILED;
        mem_free(folder);
    }
    return s;
}

/* Pictures in a folder get names of their own; a file that is named may have one of before. */
static Status check_pictures(const Arguments *a)
{
    Status s = STATUS_OK;
    for (int i = 0; i < a->picture_count && s == STATUS_OK; i++) {
        char *path = picture_path(a, i);
        s = path ? picture_check_own(path) : STATUS_FAILED;
        mem_free(path);
    }
    return s;
}

/* Proves that the results can be written where they are to go, and that nothing of somebody's is replaced,
 * before the work. */
static Status prepare_out(const Arguments *a)
{
    char *first = picture_path(a, 0);
    Status s = first ? status_in(file_try(first), "sample: --out") : STATUS_FAILED;
    mem_free(first);
    TRY(s);
    TRY(status_in(check_pictures(a), "sample: --out"));
    if (a->save_latents && ends_with(a->save_latents, ".png"))
        return status_refuse("sample: --save-latents %s: latents are no picture; name it .safetensors",
                             a->save_latents);
    if (a->save_latents)
        TRY(status_in(file_try(a->save_latents), "sample: --save-latents"));
    if (a->save_latents)
        TRY(status_in(mark_check(a->save_latents, MARK_LATENTS), "sample: --save-latents"));
    return a->trace ? status_in(check_traces(a), "sample: --trace") : STATUS_OK;
}

/* Making the pictures ---------------------------------------------------------------------------------- */

typedef struct Session {
    Arguments a;
    Model *model;
    Ctx *c;
    Pipeline *pipeline;
    LoraFile *loras[MAX_LORAS];
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
    Arguments *a = &s->a;
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
    return pipeline_new(s->c, s->model, &s->pipeline);
}

static void session_close(Session *s)
{
    for (int i = 0; s->paths && i < s->a.picture_count; i++)
        mem_free(s->paths[i]);
    mem_free(s->paths);
    tensor_free(s->latents);
    pipeline_free(s->pipeline);
    for (int i = s->a.lora_texts.count - 1; i >= 0; i--)
        if (i < MAX_LORAS)
            lora_detach(s->model, s->loras[i]);
    ctx_free(s->c);
    model_free(s->model);
    arguments_free(&s->a);
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
    const Status status = parameters && settings ? picture_write_png(path, picture, text, 2) : STATUS_FAILED;
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
    *folder = trace_folder(&s->a, i);
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
        s->paths[i] = picture_path(&s->a, i);
        status = s->paths[i] ? write_picture(s, &r, &result.picture, s->paths[i]) : STATUS_FAILED;
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

static Status print_json(const Session *s)
{
    const SampleRequest *r = &s->a.request;
    json_t *pictures = json_array();
    for (int i = 0; i < s->a.picture_count; i++) {
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->a.seeds[i]);
        json_array_append_new(pictures, json_pack("{s:s, s:s}", "file", s->paths[i], "seed", seed));
    }
    json_t *facts =
        json_pack("{s:o, s:s, s:s, s:s, s:i, s:f, s:s, s:i, s:i, s:s, s:s, s:i, s:I}", "pictures", pictures,
                  "model", s->a.model, "prompt", r->prompt, "negative", r->negative ? r->negative : "",
                  "steps", r->steps, "cfg", s->a.guidance, "sampler", r->sampler, "width", r->size.width,
                  "height", r->size.height, "dtype", s->a.dtype, "device", s->c->dev->name, "threads",
                  s->c->threads, "peak_bytes", (json_int_t)machine_peak_bytes());
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
    TRY(check_out(&s->a));
    TRY(session_open(s));
    TRY(prepare_out(&s->a));
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
    Status status = read_arguments(argc, argv, &s.a, &done);
    if (status == STATUS_OK && !done) {
        stop_catch();
        status = run(&s);
    }
    session_close(&s);
    if (status != STATUS_OK)
        log_error("%s", status_message());
    return (int)status;
}
