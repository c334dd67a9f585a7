#include "session.h"

#include "infer/pipeline/memory_limit.h"
#include "infer/samplers/sampler.h"
#include "infer/text/foreign_syntax.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "kernels/devices/devices.h"

#include <stdio.h>
#include <string.h>

/* What is said of a request ------------------------------------------------------------------------------ */

/* Says how much of a prompt the text encoder will not see. */
static Status tell_cut(const Model *m, const SampleRequest *r, const char *what, const char *text)
{
    PromptChunks chunks;
    const int positions = clip_config(m->clip)->positions, seen = positions - 2;
    if (r->reading.chunks)
        return STATUS_OK;
    TRY(status_in(prompt_chunks(m->tokenizer, r->embeddings, r->reading, text, positions, &chunks),
                  "sample: --%s", what));
    if (chunks.tokens > seen)
        log_warn("the %s has %d tokens; the text encoder sees the first %d (--long-prompts: all)", what,
                 chunks.tokens, seen);
    prompt_chunks_free(&chunks);
    return STATUS_OK;
}

static Status tell_surprises(const Session *s, const SampleArguments *a)
{
    const SampleRequest *r = &a->request;
    const char *const prompts[] = {r->prompt, r->negative, r->prompt_2, r->negative_2};
    static const char *const names[] = {"prompt", "negative", "prompt-2", "negative-prompt-2"};
    if (r->reading.syntax == PROMPT_PLAIN)
        foreign_syntax_tell(prompts, 4);
    const NoiseSchedule *schedule = &s->model->schedule;
    for (int i = 0; i < 4; i++)
        if (prompts[i])
            TRY(tell_cut(s->model, r, names[i], prompts[i]));
    const SamplerKind *kind = sampler_kind(r->sampler);
    const double clip = kind ? sampler_clip(r->sampler, schedule) : 0;
    if (clip > 0)
        log_warn("the model's scheduler_config.json does not turn \"clip_sample\" off, so %s clips its "
                 "predictions to "
                 "%g, as diffusers does; if pictures look flat, set it to false there",
                 kind->label, clip);
    return STATUS_OK;
}

/* The model ---------------------------------------------------------------------------------------------- */

/* auto: a text encoder that is used once for each prompt, and a VAE once for each picture, need not lie in
 * the GPU's memory. */
static Offload offload_of(const char *word)
{
    return !strcmp(word, "all") ? OFFLOAD_ALL : !strcmp(word, "off") ? OFFLOAD_OFF : OFFLOAD_IDLE;
}

/* On the processor auto lets only the text encoder rest, which is not needed again: the VAE would be prepared
 * anew for each picture. */
static Offload rest_of(const SampleArguments *a)
{
    return !strcmp(a->offload, "auto") && !a->max_memory ? OFFLOAD_OFF : offload_of(a->offload);
}

static bool is(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

bool session_same_model(const SampleArguments *a, const SampleArguments *b)
{
    return is(a->model, b->model) && is(a->vae, b->vae) && a->ema == b->ema &&
           is(a->prediction, b->prediction) && is(a->dtype, b->dtype) && a->tf32 == b->tf32 &&
           is(a->device, b->device) && is(a->offload, b->offload) && is(a->quantise, b->quantise) &&
           is(a->max_memory, b->max_memory) && is(a->guard.safety, b->guard.safety) &&
           is(a->guard.prompt_filter, b->guard.prompt_filter) && is(a->guard.watermark, b->guard.watermark) &&
           a->threads == b->threads;
}

static void unload(Session *s)
{
    guard_free(s->guard);
    s->guard = NULL;
    ctx_free(s->c);
    model_free(s->model);
    s->c = NULL;
    s->model = NULL;
}

/* Those of all pictures that are drawn with the model that a asks for. *out: caller's, mem_free. */
static Status list_pictures(const Session *s, const SampleArguments *a, MemoryPicture **out, int *count)
{
    *count = 0;
    *out = mem_calloc((size_t)s->all_count, sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    for (int i = 0; i < s->all_count; i++) {
        SampleArguments *b = &s->all[i];
        if (!session_same_model(a, b))
            continue;
        TRY(begin_arguments_open(&b->begin, &b->request.begin));
        (*out)[(*count)++] = (MemoryPicture){&b->request, b->loras, b->lora_count};
    }
    return STATUS_OK;
}

/* For all of these pictures, as they then need not be looked at again. */
static void take_quantise(Session *s, const SampleArguments *a, const char *word)
{
    for (int i = 0; i < s->all_count; i++)
        if (&s->all[i] != a && session_same_model(a, &s->all[i]))
            s->all[i].quantise = word;
}

static Status limit_memory(Session *s, SampleArguments *a, const Device *dev, DType *dtype)
{
    size_t limit;
    char tiles[64] = "";
    MemoryPicture *pictures;
    MemoryChoice m = {.model = a->model,
                      .vae = a->vae,
                      .ema = a->ema,
                      .dev = dev,
                      .threads = a->threads,
                      .keep_dtype = a->dtype_given || a->tf32,
                      .tf32 = a->tf32,
                      .keep_int8 = a->quantise_given,
                      .keep_tile = strcmp(a->vae_tile, "auto") != 0,
                      .offload = offload_of(a->offload),
                      .dtype = *dtype,
                      .int8 = strcmp(a->quantise, "none") != 0,
                      .tile = a->request.vae_tile};
    TRY(memory_limit_parse(a->max_memory, &limit));
    Status status = list_pictures(s, a, &pictures, &m.count);
    m.pictures = pictures;
    if (status == STATUS_OK)
        status = memory_limit_choose(&m, limit);
    mem_free(pictures);
    TRY(status);
    if (m.tile)
        snprintf(tiles, sizeof tiles, ", the VAE by tiles of %d pixels", m.tile);
    log_info("--max-memory %s: %.0f MB are needed in %s%s%s", a->max_memory, (double)m.bytes / 1e6,
             dtype_name(m.dtype), m.int8 ? ", UNet and text encoder in 8 bits" : "", tiles);
    *dtype = m.dtype;
    if (m.int8 && !strcmp(a->quantise, "none")) {
        take_quantise(s, a, "int8");
        a->quantise = "int8";
    }
    a->request.vae_tile = m.tile;
    return STATUS_OK;
}

/* auto: what the model says. */
static Status set_prediction(Model *m, const char *word)
{
    static const struct {
        const char *word;
        PredictionType type;
    } WORDS[] = {{"epsilon", PREDICT_EPSILON}, {"v_prediction", PREDICT_V}, {"sample", PREDICT_SAMPLE}};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++)
        if (!strcmp(word, WORDS[i].word))
            return model_set_prediction(m, WORDS[i].type);
    return STATUS_OK;
}

static Status load(Session *s, SampleArguments *a)
{
    DType dtype;
    const Device *dev;
    TRY(status_in(guard_new(&a->guard, &s->guard), "sample: --prompt-filter"));
    TRY(status_in(guard_prompt(s->guard, a->request.prompt), "sample"));
    if (a->request.prompt_2)
        TRY(status_in(guard_prompt(s->guard, a->request.prompt_2), "sample"));
    TRY(dtype_parse(a->dtype, &dtype));
    TRY(status_in(device_choose(a->device, &dtype, &dev), "sample: --device"));
    bool tf32 = a->tf32;
    TRY(status_in(device_choose_tf32(dev, dtype, &tf32), "sample: --tf32"));
    TRY(begin_arguments_open(&a->begin, &a->request.begin));
    if (a->max_memory)
        TRY(status_in(limit_memory(s, a, dev, &dtype), "sample: --max-memory"));
    s->vae_tile = a->request.vae_tile;
    TRY(model_open(&(ModelRequest){.name = a->model,
                                   .vae = a->vae,
                                   .ema = a->ema,
                                   .parts = MODEL_ALL,
                                   .dtype = dtype,
                                   .quantised = strcmp(a->quantise, "none") ? MODEL_UNET | MODEL_TEXT : 0,
                                   .narrow = strcmp(a->quantise, "int8-dynamic") ? 0 : MODEL_UNET},
                   &s->model));
    TRY(model_hash(s->model, s->weights));
    s->model->offload = offload_of(a->offload);
    TRY(set_prediction(s->model, a->prediction));
    s->c =
        ctx_new(dev, &(CtxOptions){.dtype = dtype, .tf32 = tf32, .threads = a->threads, .stop = stop_flag()});
    s->licence = licence_of(s->model);
    return s->c ? status_in(guard_load(s->guard, s->model, s->c, false), "sample: --safety") : STATUS_FAILED;
}

/* Words that files have vectors for --------------------------------------------------------------------- */

static bool same_list(const OptionList *a, const OptionList *b)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = is(a->items[i], b->items[i]);
    return same;
}

static bool same_embeddings(const SampleArguments *a, const SampleArguments *b)
{
    return same_list(&a->words.embeddings, &b->words.embeddings) &&
           is(a->words.embedding_dir, b->words.embedding_dir);
}

static Status read_embeddings(Session *s, const SampleArguments *a)
{
    const Clip *second = s->model->clip_2;
    const int width = clip_config(s->model->clip)->hidden, width_2 = second ? clip_config(second)->hidden : 0;
    embeddings_free(&s->embeddings);
    for (int i = 0; i < a->words.embeddings.count; i++)
        TRY(status_in(embeddings_add(&s->embeddings, a->words.embeddings.items[i]), "sample: --embedding"));
    for (int i = 0; i < s->embeddings.count; i++)
        TRY(status_in(embedding_check(&s->embeddings.items[i], width, width_2), "sample: --embedding"));
    if (a->words.embedding_dir)
        TRY(status_in(embeddings_add_folder(&s->embeddings, a->words.embedding_dir),
                      "sample: --embedding-dir"));
    s->embeddings.width = width;
    s->embeddings.width_2 = width_2;
    return STATUS_OK;
}

/* Its adapters ------------------------------------------------------------------------------------------- */

bool session_same_adapters(const SampleArguments *a, const SampleArguments *b)
{
    bool same = session_same_model(a, b) && a->lora_count == b->lora_count;
    for (int i = 0; same && i < a->lora_count; i++)
        same = is(a->loras[i].path, b->loras[i].path) &&
               adapter_strength_same(&a->loras[i].strength, &b->loras[i].strength);
    return same;
}

/* The pipeline goes too: it has plans for the layers as they were. */
static void detach(Session *s)
{
    pipeline_free(s->pipeline);
    s->pipeline = NULL;
    while (s->lora_count > 0)
        lora_detach(s->loras[--s->lora_count]);
}

static Status attach(Session *s, const SampleArguments *a)
{
    for (; s->lora_count < a->lora_count; s->lora_count++) {
        const UsedLora *l = &a->loras[s->lora_count];
        TRY(lora_attach_as(s->model, l->path, &l->strength, &s->loras[s->lora_count]));
    }
    TRY(pipeline_new(s->c, s->model, &s->pipeline));
    pipeline_guard(s->pipeline, s->guard);
    pipeline_rest(s->pipeline, rest_of(a));
    return STATUS_OK;
}

/* Ready for a request ------------------------------------------------------------------------------------ */

Status session_check(const Session *s, SampleArguments *a)
{
    int steps;
    Size final;
    TRY(begin_arguments_open(&a->begin, &a->request.begin));
    if (a->max_memory && !strcmp(a->vae_tile, "auto"))
        a->request.vae_tile = s->vae_tile;
    TRY(status_in(pipeline_choose_size(s->model, &a->request), "sample"));
    TRY(status_in(pipeline_final_size(s->model, &a->request, &final), "sample"));
    TRY(status_in(guard_admit(s->guard, a->request.prompt, &final), "sample"));
    if (a->request.prompt_2)
        TRY(status_in(guard_prompt(s->guard, a->request.prompt_2), "sample"));
    TRY(status_in(pipeline_steps(s->model, &a->request, &steps), "sample"));
    a->request.sampler = pipeline_sampler(s->model, &a->request);
    return STATUS_OK;
}

Status session_use(Session *s, SampleArguments *a)
{
    const SampleArguments *before = s->a;
    const bool loaded = before && session_same_model(before, a) && same_embeddings(before, a);
    a->request.embeddings = &s->embeddings;
    if (loaded && session_same_adapters(before, a)) {
        s->a = a;
        return session_check(s, a);
    }
    s->a = NULL; /* neither, until all has come */
    detach(s);
    if (!loaded) {
        unload(s);
        TRY(load(s, a));
        TRY(read_embeddings(s, a));
    }
    TRY(session_check(s, a));
    if (!s->told)
        TRY(tell_surprises(s, a));
    s->told = true;
    TRY(attach(s, a));
    s->a = a;
    return STATUS_OK;
}

void session_close(Session *s)
{
    embeddings_free(&s->embeddings);
    detach(s);
    unload(s);
}
