/* The command `atelier sample`: loads the model and the LoRAs, makes the pictures one after the other, and
 * prints the names of the files, or the picture itself. A seed belongs to one picture: picture i of --batch
 * uses seed + i, whatever the others are. */
#include "sample.h"

#include "infer/files/marks.h"
#include "infer/pipeline/pipeline.h"
#include "infer/safety/watermark.h"
#include "kernels/base/buffer.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/device.h"
#include "live.h"
#include "outputs.h"
#include "picture_text.h"
#include "sample_trace.h"
#include "session.h"
#include "sheet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Making the pictures ---------------------------------------------------------------------------------- */

typedef struct Work {
    Shots shots;
    Session session;
    Progress progress;
    int picture;             /* which one is being made */
    bool flagged;            /* that one, by the safety checker */
    int64_t steps_done;      /* of those before it */
    int steps;               /* its own */
    Live *live;              /* or NULL */
    const Pipeline *live_of; /* what it was made ready for */
    Tensor *latents;         /* (N,4,h,w), with --save-latents */
    char **paths;            /* by place; NULL: not made yet, or not written for itself */
    Picture *pictures;       /* by place, of a sheet */
    char **settings;         /* of those, as picture_settings has them */
    char *sheet;             /* where that was written */
} Work;

/* A preview that fails ends no work: it is said once, and there are no more. */
static void show(Work *w, Status shown)
{
    if (shown == STATUS_OK)
        return;
    log_warn("--live: %s", status_message());
    live_free(w->live);
    w->live = NULL;
}

static bool step_done(int step, int steps, const SampleView *view, void *arg)
{
    Work *w = arg;
    w->steps = steps;
    if (w->live)
        show(w, live_show(w->live, view));
    if (w->shots.count > 1)
        progress_update(&w->progress, w->steps_done + step, "picture %d of %d", w->picture + 1,
                        w->shots.count);
    else
        progress_update(&w->progress, step, NULL);
    return !*stop_flag();
}

static Status print_picture(const Work *w, const Picture *picture, const PictureText *text, int count)
{
    uint8_t *bytes;
    size_t size;
    TRY(picture_encode(picture, outputs_format(&w->shots), w->shots.first.quality, text, count, &bytes,
                       &size));
    const bool written = fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0;
    mem_free(bytes);
    return written ? STATUS_OK : status_fail("sample: --out -: the picture cannot be written: %m");
}

/* path NULL: to standard output. parameters and settings are freed. */
static Status write_with(const Work *w, const Picture *picture, char *parameters, char *settings,
                         const char *path)
{
    const PictureText text[] = {{PICTURE_COMMENT, parameters}, {PICTURE_SETTINGS, settings}};
    const Status status =
        !parameters || !settings ? STATUS_FAILED
        : path ? picture_write(path, picture, outputs_format(&w->shots), w->shots.first.quality, text, 2)
               : print_picture(w, picture, text, 2);
    mem_free(parameters);
    mem_free(settings);
    return status;
}

static PictureOrigin origin_of(const Work *w, const SampleArguments *a, const SampleRequest *r)
{
    return (PictureOrigin){.request = r,
                           .tells_none = w->session.model->family == FAMILY_SDXL,
                           .model = a->model,
                           .weights = w->session.weights,
                           .loras = a->loras,
                           .lora_count = a->lora_count,
                           .dtype = dtype_name(w->session.c->dtype),
                           .tf32 = w->session.c->tf32,
                           .licence = w->session.licence.name,
                           .watermark = guard_watermark(&a->guard),
                           .flagged = w->flagged,
                           .begin = &a->begin,

                           .options = a->options};
}

static Status write_picture(const Work *w, const SampleRequest *r, const Picture *picture, const char *path)
{
    const PictureOrigin origin = origin_of(w, w->session.a, r);
    return write_with(w, picture, picture_parameters(&origin), picture_settings(&origin), path);
}

/* Puts picture i's latents into the tensor of all. */
static Status keep_latents(Work *w, int i, const Tensor *latents)
{
    const int N = w->shots.count;
    if (!w->shots.first.save_latents)
        return STATUS_OK;
    if (!w->latents) {
        const int64_t shape[] = {N, latents->shape[1], latents->shape[2], latents->shape[3]};
        w->latents = tensor_new(DTYPE_F32, 4, shape);
        if (!w->latents)
            return STATUS_FAILED;
    }
    if (tensor_bytes(latents) * (size_t)N != tensor_bytes(w->latents))
        return status_refuse("sample: --save-latents: pictures of several sizes do not go into one tensor");
    memcpy((char *)w->latents->data + (size_t)i * tensor_bytes(latents), latents->data,
           tensor_bytes(latents));
    return STATUS_OK;
}

static Status start_trace(Work *w, int i, char **folder)
{
    *folder = NULL;
    if (!w->shots.first.trace)
        return STATUS_OK;
    *folder = outputs_trace(&w->shots, i);
    if (!*folder)
        return STATUS_FAILED;
    pipeline_trace(w->session.pipeline, sample_trace_write, *folder);
    return dir_make(*folder);
}

static Status write_to(Work *w, int i, const SampleRequest *r, const Picture *picture)
{
    char *path = outputs_picture(&w->shots, i);
    const Status s = path ? write_picture(w, r, picture, path) : STATUS_FAILED;
    if (s == STATUS_OK)
        w->paths[w->shots.items[i].place] = path;
    else
        mem_free(path);
    return s;
}

static Status finish_picture(Work *w, int i, const SampleRequest *r, SampleResult *result)
{
    const int place = w->shots.items[i].place;
    if (w->shots.first.again && w->shots.count == 1)
        again_compare(&w->shots.again, w->shots.first.again, &result->picture);
    TRY(keep_latents(w, place, result->latents));
    if (w->shots.sheet) {
        if (w->shots.first.sheet_pictures)
            TRY(write_to(w, i, r, &result->picture));
        const PictureOrigin origin = origin_of(w, w->session.a, r);
        w->settings[place] = picture_settings(&origin);
        w->pictures[place] = result->picture;
        result->picture = (Picture){0};
        return w->settings[place] ? STATUS_OK : STATUS_FAILED;
    }
    return outputs_to_stdout(&w->shots) ? write_picture(w, r, &result->picture, NULL)
                                        : write_to(w, i, r, &result->picture);
}

static Status make_picture(Work *w, int i)
{
    const Shot *shot = &w->shots.items[i];
    SampleResult result = {0};
    char *folder;
    w->picture = i;
    w->steps = 0;
    TRY(session_use(&w->session, shot->a));
    SampleRequest r = shot->a->request;
    r.seed = shot->seed;
    if (w->live && w->session.pipeline != w->live_of)
        show(w, live_use(w->live, w->session.pipeline));
    w->live_of = w->session.pipeline;
    Status status = start_trace(w, i, &folder);
    if (status == STATUS_OK)
        status = pipeline_sample(w->session.pipeline, &r, step_done, w, &result);
    w->flagged = result.flagged;
    if (status == STATUS_OK && w->live)
        show(w, live_finish(w->live, &result.picture));
    if (status == STATUS_OK)
        status = finish_picture(w, i, &r, &result);
    pipeline_trace(w->session.pipeline, NULL, NULL);
    mem_free(folder);
    sample_result_free(&result);
    return status;
}

/* Sampling steps of picture i; those of another model are guessed to be as many as were asked for. */
static int steps_of(const Work *w, int i)
{
    const SampleArguments *a = w->shots.items[i].a;
    int steps = a->request.steps;
    if (session_same_model(a, w->session.a) &&
        pipeline_steps(w->session.model, &a->request, &steps) != STATUS_OK)
        return a->request.steps;
    return steps;
}

static Status make_pictures(Work *w)
{
    int64_t all = 0;
    for (int i = 0; i < w->shots.count; i++)
        all += steps_of(w, i);
    Status status = STATUS_OK;
    progress_begin(&w->progress, "sample", "step", 0, all);
    for (int i = 0; status == STATUS_OK && i < w->shots.count; i++) {
        status = make_picture(w, i);
        w->steps_done += w->steps;
    }
    if (status == STATUS_OK)
        progress_end(&w->progress);
    else
        progress_clear(&w->progress);
    return status;
}

/* The settings of all pictures that are on the sheet. Caller: mem_free. */
static char *sheet_settings(const Work *w)
{
    Buffer all = {0};
    char *text;
    const char *between = "";
    buffer_add(&all, "{\"pictures\":[");
    for (int i = 0; i < w->shots.count; i++) {
        if (!w->settings[i])
            continue;
        buffer_add(&all, "%s%s", between, w->settings[i]);
        between = ",";
    }
    buffer_add(&all, "]}");
    return buffer_take(&all, &text) == STATUS_OK ? text : NULL;
}

/* Also of pictures that were made before something failed. */
static Status write_sheet(Work *w)
{
    Picture sheet = {0};
    const Shot *shot = &w->shots.items[0];
    SampleRequest r = shot->a->request;
    r.seed = shot->seed;
    const PictureOrigin origin = origin_of(w, shot->a, &r);
    char *path = outputs_to_stdout(&w->shots) ? NULL : outputs_sheet(&w->shots);
    Status s =
        path || outputs_to_stdout(&w->shots) ? sheet_compose(&w->shots, w->pictures, &sheet) : STATUS_FAILED;
    const char *mark = guard_watermark(&shot->a->guard);
    if (s == STATUS_OK && mark) /* those of its pictures do not lie where a reader looks */
        s = watermark_write(&sheet, mark, strlen(mark));
    if (s == STATUS_OK)
        s = write_with(w, &sheet, picture_parameters(&origin), sheet_settings(w), path);
    picture_free(&sheet);
    if (s == STATUS_OK)
        w->sheet = path;
    else
        mem_free(path);
    return s;
}

static Status save_latents(const Work *w)
{
    const char *path = w->shots.first.save_latents;
    if (!path)
        return STATUS_OK;
    const SafeItem item = {.name = "latents", .tensor = w->latents, .dtype = DTYPE_F32, .ndim = -1};
    const TensorMeta mark = mark_of(MARK_LATENTS);
    TRY(mark_check(path, MARK_LATENTS)); /* once more: a picture may have that name by now */
    return safetensors_write(path, &item, 1, &mark, 1);
}

/* What was made ---------------------------------------------------------------------------------------- */

static json_t *lora_facts(const SampleArguments *a)
{
    json_t *list = json_array();
    for (int i = 0; i < a->lora_count; i++)
        json_array_append_new(list, used_lora_json(&a->loras[i], a->loras[i].path));
    return list;
}

static json_t *name_of(const char *path)
{
    return path ? json_name(path) : NULL;
}

static json_t *picture_facts(const Work *w)
{
    const Shots *shots = &w->shots;
    json_t *pictures = json_array();
    for (int place = 0; place < shots->count; place++) {
        int i = 0;
        while (shots->items[i].place != place)
            i++;
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)shots->items[i].seed);
        json_array_append_new(pictures, json_pack("{s:o*, s:s, s:s}", "file", name_of(w->paths[place]),
                                                  "seed", seed, "prompt", shots->items[i].a->request.prompt));
    }
    return pictures;
}

static Status print_json(const Work *w)
{
    const SampleArguments *a = w->shots.items[0].a;
    const SampleRequest *r = &a->request;
    json_t *facts = json_pack(
        "{s:o*, s:o, s:o, s:s, s:s, s:i, s:f, s:s, s:i, s:i, s:i, s:s, s:o, s:s, s:i, s:I}", "sheet",
        name_of(w->sheet), "pictures", picture_facts(w), "model", json_name(a->model), "prompt", r->prompt,
        "negative", r->negative ? r->negative : "", "steps", r->steps, "cfg", a->guidance, "sampler",
        r->sampler, "width", r->size.width, "height", r->size.height, "clip_skip", r->clip_skip, "dtype",
        dtype_name(w->session.c->dtype), "loras", lora_facts(a), "device", w->session.c->dev->name, "threads",
        w->session.c->threads, "peak_bytes", (json_int_t)machine_peak_bytes());
    if (w->session.c->tf32)
        json_object_set_new(facts, "tf32", json_true());
    if (r->prompt_2 && *r->prompt_2)
        json_object_set_new(facts, "prompt_2", json_string(r->prompt_2));
    if (r->negative_2 && *r->negative_2)
        json_object_set_new(facts, "negative_2", json_string(r->negative_2));
    char *text = json_text(facts, JSON_INDENT(2) | JSON_REAL_PRECISION(7));
    if (!text)
        return status_in(STATUS_FAILED, "sample --json");
    puts(text);
    free(text);
    return STATUS_OK;
}

static Status print_files(const Work *w)
{
    for (int i = 0; i < w->shots.count; i++)
        if (w->paths[i])
            puts(w->paths[i]);
    if (w->sheet)
        puts(w->sheet);
    return STATUS_OK;
}

/* Every picture's settings against the model that is loaded, so that nothing is refused after hours. */
static Status check_all(Work *w)
{
    for (int i = 0; i < w->shots.set_count; i++)
        if (session_same_model(&w->shots.sets[i], w->session.a))
            TRY(session_check(&w->session, &w->shots.sets[i]));
    return STATUS_OK;
}

/* A sheet's pictures, and that they fit onto one. */
static Status prepare_sheet(Work *w)
{
    Size cell = {0};
    if (!w->shots.sheet)
        return STATUS_OK;
    for (int i = 0; i < w->shots.set_count; i++) {
        const Size size = w->shots.sets[i].request.size;
        cell.width = size.width > cell.width ? size.width : cell.width;
        cell.height = size.height > cell.height ? size.height : cell.height;
    }
    w->pictures = mem_calloc((size_t)w->shots.count, sizeof *w->pictures);
    w->settings = mem_calloc((size_t)w->shots.count, sizeof *w->settings);
    return w->pictures && w->settings ? sheet_check(&w->shots, cell) : STATUS_FAILED;
}

static bool has_pictures(const Work *w)
{
    for (int i = 0; w->pictures && i < w->shots.count; i++)
        if (w->pictures[i].rgb)
            return true;
    return false;
}

/* Writes the sheet of what there is; what went wrong before counts more than what goes wrong now. */
static Status finish_sheet(Work *w, Status made)
{
    const KeptStatus kept = status_keep(made);
    const Status written = write_sheet(w);
    return made == STATUS_OK ? written : status_again(&kept);
}

static void tell_lossy(const Work *w)
{
    const PictureFormat format = outputs_format(&w->shots);
    const int quality = w->shots.first.quality;
    if (guard_watermark(&w->shots.items[0].a->guard) &&
        (format == PICTURE_JPEG || (format == PICTURE_WEBP && quality < 100)))
        log_warn("a watermark does not outlive %s of quality %d; PNG keeps it",
                 format == PICTURE_JPEG ? "JPEG" : "WebP", quality);
}

static Status run(Work *w)
{
    TRY(outputs_check(&w->shots));
    tell_lossy(w);
    w->paths = mem_calloc((size_t)w->shots.count, sizeof *w->paths);
    if (!w->paths)
        return STATUS_FAILED;
    w->session.all = w->shots.sets;
    w->session.all_count = w->shots.set_count;
    TRY(session_use(&w->session, w->shots.items[0].a));
    TRY(check_all(w));
    if (w->shots.again.weights && strcmp(w->shots.again.weights, w->session.weights))
        log_warn("%s was made with another model than %s (or other weights of it)", w->shots.first.again,
                 w->session.a->model);
    TRY(prepare_sheet(w));
    TRY(live_new(w->shots.first.live, &w->live));
    TRY(outputs_prepare(&w->shots));
    Status made = make_pictures(w);
    if (has_pictures(w))
        made = finish_sheet(w, made);
    if (made != STATUS_OK) {
        print_files(w); /* those that were finished */
        return made;
    }
    TRY(save_latents(w));
    return w->shots.first.json ? print_json(w) : print_files(w);
}

static void work_free(Work *w)
{
    for (int i = 0; w->paths && i < w->shots.count; i++)
        mem_free(w->paths[i]);
    for (int i = 0; w->pictures && i < w->shots.count; i++)
        picture_free(&w->pictures[i]);
    for (int i = 0; w->settings && i < w->shots.count; i++)
        mem_free(w->settings[i]);
    mem_free(w->settings);
    mem_free(w->paths);
    mem_free(w->pictures);
    mem_free(w->sheet);
    live_free(w->live);
    tensor_free(w->latents);
    session_close(&w->session);
    shots_free(&w->shots);
}

int command_sample(int argc, char **argv, SampleOfRun of_run)
{
    Work w = {0};
    bool done = false;
    Status status = shots_read(argc, argv, of_run, &w.shots, &done);
    if (status == STATUS_OK && !done) {
        stop_catch();
        status = run(&w);
    }
    work_free(&w);
    if (status != STATUS_OK)
        log_error("%s", status_message());
    return (int)status;
}
