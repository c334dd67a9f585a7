#include "prior.h"

#include "data/dataset/dataset.h"
#include "data/dataset/scan.h"
#include "infer/safety/licence.h"
#include "infer/sample/picture_text.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "sharing.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CAPTION_LIMIT ((size_t)1 << 20)
#define PNG_LIMIT (256u << 20)
#define WAIT_MICROSECONDS 300000 /* between looks at what another run draws */
#define NAME_FORMAT "class-%05d" /* SchemaKey prior.pictures has five digits */

/* Requests --------------------------------------------------------------------------------------------- */

/* For class picture number i. Its size is filled in, as it is written into the picture. */
static Status prior_request(const Config *config, const Model *m, int i, Size size, SampleRequest *out)
{
    SampleRequest r = sample_request_default();
    r.prompt = config->prior.prompt;
    r.negative =
        *config->prior.negative ? config->prior.negative : NULL; /* as `atelier sample` without one */
    r.steps = config->prior.steps;
    r.guidance = config->prior.guidance;
    if (config->prior.sampler)
        r.sampler = config->prior.sampler;
    r.seed = config->prior.seed + (uint64_t)i;
    r.size = size;
    r.clip_skip = config->method.clip_skip;
    r.unmarked = true;
    r.sampler = pipeline_sampler(m, &r);
    *out = r;
    return status_in(pipeline_check_size(m, &out->size), "prior.resolution");
}

/* Whether class pictures have the sizes of the subject's. */
static bool follows_subject(const Config *config)
{
    return config->prior.resolution == 0;
}

static PictureOrigin origin_of(const Config *config, const Model *m, const char *weights,
                               const SampleRequest *r)
{
    return (PictureOrigin){.request = r,
                           .tells_none = m->family == FAMILY_SDXL,
                           .model = config->model.base,
                           .weights = weights,
                           .dtype = dtype_name(config->model.dtype),
                           .tf32 = config->model.tf32};
}

Status prior_plan(Pipeline *p, const Config *config, const RunSizes *sizes, PriorNeed *need, size_t *bytes)
{
    RunSize square = {.size = size_square(config->prior.resolution), .samples = 1};
    const RunSizes drawn = follows_subject(config) ? *sizes : (RunSizes){&square, 1};
    double samples = 0, flop = 0;
    need->largest = (Size){0};
    *bytes = 0;
    for (int i = 0; i < drawn.count; i++) {
        SampleRequest r;
        size_t one;
        if (drawn.items[i].samples == 0)
            continue;
        TRY(prior_request(config, pipeline_model(p), 0, drawn.items[i].size, &r));
        TRY(status_in(pipeline_plan(p, &r, &one), "class pictures"));
        *bytes = one > *bytes ? one : *bytes;
        if (size_area(r.size) > size_area(need->largest))
            need->largest = r.size;
        samples += (double)drawn.items[i].samples;
        flop += (double)drawn.items[i].samples * pipeline_flop(p, &r);
    }
    need->flop = flop / samples;
    return STATUS_OK;
}

/* Looking ---------------------------------------------------------------------------------------------- */

/* What may differ between a picture that is there and one that would be drawn now: its last bits, how the
 * model's folder is called, and its size where another subject's was another. Pictures of before do not say
 * which weights drew them; there the name has to do. */
static void let_be(const Config *config, json_t *now, const json_t *then)
{
    if (follows_subject(config)) {
        json_object_del(now, "width");
        json_object_del(now, "height");
    }
    json_object_del(now, "version");
    json_object_del(now, "dtype");
    json_object_del(now, "tf32");
    json_object_del(now, json_object_get(then, "weights") ? "model" : "weights");
}

/* Refuses the picture if it was drawn with another setting; the first one that differs is named. */
static Status compare_settings(const Config *config, const char *path, const json_t *then, json_t *now)
{
    const char *key;
    json_t *value;
    let_be(config, now, then);
    json_object_foreach(now, key, value)
    {
        json_t *other = json_object_get(then, key);
        if (other && json_equal(other, value))
            continue;
        char *was = other ? json_text(json_incref(other), JSON_ENCODE_ANY | JSON_REAL_PRECISION(7)) : NULL;
        char *is = json_text(json_incref(value), JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        const Status s = status_refuse(
            "%s: was drawn with %s %s, and this run's class pictures are drawn with %s; name another "
            "prior.path, or remove the pictures in %s",
            path, key, was ? was : "unknown", is ? is : "another", config->prior.path);
        free(was);
        free(is);
        return s;
    }
    return STATUS_OK;
}

/* A picture of the name that number i would get: one that this run would draw the same, or somebody's own. */
static Status check_picture(const Config *config, const Model *m, const char *weights, int i,
                            const char *path)
{
    SampleRequest r;
    char *bytes = NULL, *text = NULL;
    size_t size;
    TRY(prior_request(config, m, i, size_square(config->prior.resolution), &r));
    TRY(file_read(path, PNG_LIMIT, &bytes, &size));
    Status s = status_in(picture_text((const uint8_t *)bytes, size, PICTURE_SETTINGS, &text),
                         "class picture %s", path);
    mem_free(bytes);
    if (s == STATUS_OK && text) {
        const PictureOrigin origin = origin_of(config, m, weights, &r);
        char *expected = picture_settings(&origin);
        json_error_t error;
        json_t *then = json_parse(text, 0, &error);
        json_t *now = expected ? json_parse(expected, 0, &error) : NULL;
        s = now && then ? compare_settings(config, path, then, now)
                        : status_fail("class picture %s: its settings: %s", path,
                                      expected ? error.text : "out of memory");
        json_decref(then);
        json_decref(now);
        mem_free(expected);
    }
    mem_free(text);
    return s;
}

/* "FOLDER/class-00003.png". Caller: mem_free. NULL: out of memory. */
static char *picture_path(const Config *config, int i, const char *ending)
{
    return path_in(config->prior.path, NAME_FORMAT "%s", i, ending);
}

/* What stands in class-00003.txt. Caller: mem_free. NULL: out of memory. */
static char *caption_text(const Config *config)
{
    return mem_printf("%s\n", config->prior.prompt);
}

/* Where number i's picture is missing, a caption of its name is one that a run left which was killed before
 * it wrote the picture, or it is somebody's. */
static Status check_caption(const Config *config, int i)
{
    char *path = picture_path(config, i, ".txt"), *wanted = caption_text(config), *there = NULL;
    size_t size;
    Status s = path && wanted ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path) && !file_is_dir(path)) { /* told by file_try */
        const bool known = file_read(path, CAPTION_LIMIT, &there, &size) == STATUS_OK;
        if (!known || strcmp(there, wanted) != 0)
            s = status_refuse("%s: is there without its picture, and is not the caption of the class picture "
                              "that would be drawn under that name; move it away, or name another prior.path",
                              path);
    }
    mem_free(there);
    mem_free(path);
    mem_free(wanted);
    return s;
}

/* Calls visit for each number whose picture is, or is not, there. */
static Status for_each_number(const Config *config, bool there, Status (*visit)(int i, const char *, void *),
                              void *arg)
{
    Status s = STATUS_OK;
    for (int i = 0; i < config->prior.pictures && s == STATUS_OK; i++) {
        char *path = picture_path(config, i, ".png");
        if (!path)
            return STATUS_FAILED;
        if (file_exists(path) == there)
            s = visit(i, path, arg);
        mem_free(path);
    }
    return s;
}

typedef struct Look {
    const Config *config;
    const Model *m;
    char weights[MODEL_HASH_SIZE];
} Look;

static Status look_at(int i, const char *path, void *arg)
{
    const Look *l = arg;
    return check_picture(l->config, l->m, l->weights, i, path);
}

static Status look_for_caption(int i, const char *path, void *arg)
{
    (void)path;
    const Look *l = arg;
    return check_caption(l->config, i);
}

static Status count_file(const Config *config, int *there)
{
    Dataset *d = NULL;
    TRY(status_in(dataset_open(config->prior.path, &d), "prior.path"));
    *there = dataset_count(d);
    dataset_close(d);
    if (*there < config->prior.pictures)
        return status_refuse(
            "%s: has %d picture%s, and prior.pictures is %d; a dataset file is used as it is: set "
            "prior.pictures to %d, or give prior.path a folder, where missing ones are drawn",
            config->prior.path, *there, text_plural(*there), config->prior.pictures, *there);
    return STATUS_OK;
}

static Status count_folder(const Config *config, int *there)
{
    Scan scan;
    TRY(status_in(scan_folder(config->prior.path, config->prior.prompt, FOLDER_NAMES_PLAIN, NULL, &scan),
                  "prior.path"));
    *there = scan.count;
    scan_free(&scan);
    return STATUS_OK;
}

static bool names_file(const char *path)
{
    const char *dot = strrchr(path_base(path), '.');
    return dot && strcasecmp(dot, ".h5") == 0;
}

Status prior_look(const Config *config, const Model *m, PriorNeed *out)
{
    const char *path = config->prior.path;
    Look look = {.config = config, .m = m};
    SampleRequest r;
    int there = 0;
    out->there = out->missing = 0;
    TRY(prior_request(config, m, 0, size_square(config->prior.resolution), &r));
    if (file_is_dir(path)) {
        TRY(model_hash(m, look.weights));
        TRY(for_each_number(config, true, look_at, &look));
        TRY(count_folder(config, &there));
    } else if (file_exists(path) || names_file(path)) {
        TRY(count_file(config, &there));
    }
    out->there = there < config->prior.pictures ? there : config->prior.pictures;
    out->missing = config->prior.pictures - out->there;
    if (out->missing && file_is_dir(path))
        TRY(for_each_number(config, false, look_for_caption, &look));
    return STATUS_OK;
}

/* Drawing ---------------------------------------------------------------------------------------------- */

typedef struct Drawing {
    const Config *config;
    const RunSizes *run; /* the subject's */
    Size *sizes;         /* of each class picture */
    Pipeline *p;
    Comm *comm;
    char weights[MODEL_HASH_SIZE];
    const volatile sig_atomic_t *stop;
    Progress progress;
    Sharing *sharing; /* with other runs; process 0 */
    int32_t *missing; /* numbers of the pictures that are to come, from this run or another; process 0 */
    int64_t first;    /* of those that are still to come, among `missing` */
    int32_t *numbers; /* of those that are drawn next */
    int64_t total, count;
    int done;  /* by this run */
    int steps; /* of a picture */
} Drawing;

static bool step_done(int step, int steps, const SampleView *view, void *arg)
{
    (void)steps;
    (void)view;
    Drawing *d = arg;
    comm_alive(d->comm);
    progress_update(&d->progress, (int64_t)d->done * d->steps + step, "picture %d of %lld", d->done + 1,
                    (long long)d->total);
    return !stop_asked(d->stop);
}

/* The prompt first: a picture that is there has its caption. */
static Status write_both(const Drawing *d, int i, const char *path, const SampleRequest *r, const Picture *p)
{
    const Licence licence = licence_of(pipeline_model(d->p));
    PictureOrigin origin = origin_of(d->config, pipeline_model(d->p), d->weights, r);
    origin.licence = licence.name; /* not asked for again: pictures of before do not say it */
    char *caption_path = picture_path(d->config, i, ".txt"), *caption = caption_text(d->config);
    char *parameters = picture_parameters(&origin), *settings = picture_settings(&origin);
    Status s = caption_path && caption && parameters && settings ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_write_atomic(caption_path, caption, strlen(caption));
    if (s == STATUS_OK)
        s = picture_write_png(path, p,
                              (PictureText[]){{"parameters", parameters}, {PICTURE_SETTINGS, settings}}, 2);
    mem_free(caption_path);
    mem_free(caption);
    mem_free(parameters);
    mem_free(settings);
    return s;
}

/* The request for the k-th of those that are drawn next. */
static Status request_of(const Drawing *d, int64_t k, SampleRequest *out)
{
    const int i = d->numbers[k];
    return prior_request(d->config, pipeline_model(d->p), i, d->sizes[i], out);
}

static Status draw_one(int64_t k, void *rgb, void *arg)
{
    Drawing *d = arg;
    SampleRequest r;
    SampleResult result = {0};
    TRY(request_of(d, k, &r));
    const Status s = status_in(pipeline_sample(d->p, &r, step_done, d, &result),
                               "class picture %s/" NAME_FORMAT ".png", d->config->prior.path, d->numbers[k]);
    if (s == STATUS_OK && result.flagged) {
        sample_result_free(&result);
        return status_fail("class picture %s/" NAME_FORMAT
                           ".png: the safety checker flags it, and a black one would "
                           "be trained on; take another prior.seed or prior.prompt, or safety.check: off",
                           d->config->prior.path, d->numbers[k]);
    }
    if (s == STATUS_OK)
        memcpy(rgb, result.picture.rgb, 3 * (size_t)size_area(r.size));
    sample_result_free(&result);
    return s;
}

static Status take_one(int64_t k, const void *rgb, void *arg)
{
    Drawing *d = arg;
    SampleRequest r;
    TRY(request_of(d, k, &r));
    char *path = picture_path(d->config, d->numbers[k], ".png");
    const Picture picture = {r.size, (uint8_t *)(uintptr_t)rgb};
    const Status s = path ? write_both(d, d->numbers[k], path, &r, &picture) : STATUS_FAILED;
    mem_free(path);
    d->done += s == STATUS_OK;
    return s;
}

static Status list_one(int i, const char *path, void *arg)
{
    (void)path;
    Drawing *d = arg;
    d->missing[d->total++] = i;
    return STATUS_OK;
}

/* A folder that cannot be written to costs no drawing. */
static Status try_first(const Drawing *d)
{
    char *caption = picture_path(d->config, d->missing[0], ".txt"),
         *path = picture_path(d->config, d->missing[0], ".png");
    Status s = caption && path ? file_try(caption) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_try(path);
    mem_free(caption);
    mem_free(path);
    return status_in(s, "prior.path");
}

/* What is missing, in process 0. */
static Status list_missing(Drawing *d)
{
    PriorNeed need;
    TRY(prior_look(d->config, pipeline_model(d->p), &need));
    if (!need.missing)
        return STATUS_OK;
    TRY(status_in(dir_make(d->config->prior.path), "prior.path"));
    TRY(for_each_number(d->config, false, list_one, d));
    if (d->total > need.missing) /* others of the folder stand in for some */
        d->total = need.missing;
    TRY(model_hash(pipeline_model(d->p), d->weights));
    TRY(d->total ? try_first(d) : STATUS_OK);
    return sharing_open(d->config->prior.path, &d->sharing);
}

/* Takes picture i for this run, unless it is there or has come meanwhile. *other: another run is at it. */
static Status take_picture(Drawing *d, int i, bool *taken, bool *other)
{
    char *path = picture_path(d->config, i, ".png");
    if (!path)
        return STATUS_FAILED;
    *taken = *other = false;
    if (!file_exists(path)) {
        *taken = sharing_take(d->sharing, i);
        *other = !*taken;
        if (*taken && file_exists(path)) {
            sharing_leave(d->sharing, i);
            *taken = false;
        }
    }
    mem_free(path);
    return STATUS_OK;
}

/* Takes as many of the missing pictures as there are processes; what another run is at is left to it.
 * *waiting: how many those are. In process 0. */
static Status take_some(Drawing *d, int *waiting)
{
    *waiting = 0;
    d->count = 0;
    for (int64_t k = d->first; k < d->total && d->count < d->comm->size; k++) {
        bool taken, other;
        TRY(take_picture(d, d->missing[k], &taken, &other));
        *waiting += other;
        if (taken)
            d->numbers[d->count++] = d->missing[k];
        if (!other) /* one that is waited for takes its place */
            d->missing[k] = d->missing[d->first++];
    }
    return STATUS_OK;
}

/* Some of the pictures, shared out among the run's processes. */
static Status draw_some(Drawing *d, size_t bytes, void *one)
{
    const Status s = comm_work(
        d->comm,
        &(CommWork){
            .count = d->count, .bytes = bytes, .thing = one, .make = draw_one, .take = take_one, .arg = d});
    for (int64_t k = 0; k < d->count && d->sharing; k++)
        sharing_leave(d->sharing, d->numbers[k]);
    return s;
}

/* Until all are there. What another run is at is waited for, as it may end without: then it is drawn here. */
static Status draw_until_there(Drawing *d, size_t bytes, void *one)
{
    for (bool told = false;;) {
        int waiting = 0;
        Status s = d->comm->rank == 0 ? take_some(d, &waiting) : STATUS_OK;
        if (s == STATUS_OK && stop_asked(d->stop))
            s = status_interrupted();
        TRY(comm_agree(d->comm, s));
        TRY(comm_tell(d->comm, &d->count, sizeof d->count));
        TRY(comm_tell(d->comm, &waiting, sizeof waiting));
        TRY(comm_tell(d->comm, d->numbers, (size_t)d->comm->size * sizeof *d->numbers));
        if (d->count > 0) {
            TRY(draw_some(d, bytes, one));
            continue;
        }
        if (!waiting)
            return STATUS_OK;
        if (!told)
            log_info("%s: another run draws the last %d class pictures; they are waited for",
                     d->config->prior.path, waiting);
        told = true;
        usleep(WAIT_MICROSECONDS);
    }
}

/* The size of each class picture, and room for the pixels of any. */
static Status choose_sizes(Drawing *d, size_t *bytes)
{
    const int count = d->config->prior.pictures;
    d->sizes = mem_alloc((size_t)count * sizeof *d->sizes);
    if (!d->sizes)
        return STATUS_FAILED;
    if (follows_subject(d->config))
        TRY(sizes_sequence(d->run, count, d->sizes));
    int64_t most = 0;
    for (int i = 0; i < count; i++) {
        if (!follows_subject(d->config))
            d->sizes[i] = size_square(d->config->prior.resolution);
        most = size_area(d->sizes[i]) > most ? size_area(d->sizes[i]) : most;
    }
    *bytes = 3 * (size_t)most;
    return STATUS_OK;
}

static Status draw_all(Drawing *d)
{
    SampleRequest r;
    size_t bytes;
    TRY(choose_sizes(d, &bytes));
    TRY(prior_request(d->config, pipeline_model(d->p), 0, d->sizes[0], &r));
    TRY(pipeline_steps(pipeline_model(d->p), &r, &d->steps));
    void *one = mem_alloc(bytes);
    if (!one)
        return STATUS_FAILED;
    progress_begin(&d->progress, "class pictures", "step", 0, (int64_t)d->steps * d->total);
    layerset_hold_still(unet_layers(pipeline_model(d->p)->unet), true);
    const Status s = draw_until_there(d, bytes, one);
    layerset_hold_still(unet_layers(pipeline_model(d->p)->unet), false);
    mem_free(one);
    if (s == STATUS_OK)
        progress_end(&d->progress);
    else
        progress_clear(&d->progress);
    if (s == STATUS_OK || d->done > 0)
        log_info("%s: %d of %lld class picture%s drawn%s, and kept for later runs", d->config->prior.path,
                 d->done, (long long)d->total, text_plural(d->total),
                 s == STATUS_OK && d->done < d->total ? " (the others by another run)" : "");
    return s;
}

/* What another run has drawn meanwhile is looked at like what was there. */
static Status look_again(const Drawing *d)
{
    PriorNeed need;
    return d->comm->rank == 0 && d->done < d->total ? prior_look(d->config, pipeline_model(d->p), &need)
                                                    : STATUS_OK;
}

Status prior_draw(const Config *config, const RunSizes *sizes, Pipeline *p, Comm *comm,
                  const volatile sig_atomic_t *stop)
{
    Drawing d = {.config = config, .run = sizes, .p = p, .comm = comm, .stop = stop};
    d.missing = mem_calloc((size_t)config->prior.pictures + 1, sizeof *d.missing);
    d.numbers = mem_calloc((size_t)comm->size, sizeof *d.numbers);
    Status s = d.numbers && d.missing ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && comm->rank == 0)
        s = list_missing(&d);
    s = comm_agree(comm, s);
    if (s == STATUS_OK)
        s = comm_tell(comm, &d.total, sizeof d.total);
    if (s == STATUS_OK && d.total > 0) {
        s = draw_all(&d);
        s = comm_agree(comm, s == STATUS_OK ? look_again(&d) : s);
    }
    sharing_close(d.sharing);
    mem_free(d.sizes);
    mem_free(d.numbers);
    mem_free(d.missing);
    return s;
}
