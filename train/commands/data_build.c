/* `atelier data build`: a folder becomes a dataset file, with encoded latents and texts in it if asked for.
 *
 * With --cache the dataset is built in a temporary folder beside its final place, encoded into a cache file
 * there, and the caches are copied in before it gets its name: what stands under the final name is always
 * whole. */
#include "data/dataset/dataset.h"
#include "data/dataset/layout.h"
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/devices/devices.h"
#include "train/pictures/caching.h"
#include "train/pictures/owned.h"
#include "data.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct Arguments {
    const char *folder, *out, *caption;
    const char *cache, *model, *dtype, *device, *folder_names;
    int resolution, clip_skip;
    bool skip_bad, flip, json;
    bool latents, text; /* of cache */
} Arguments;

/* A dataset may be replaced by another, but not under a run that goes on with it. */
static Status check_out(const char *out)
{
    bool listed = false;
    char *folder = path_parent(out);
    Status s = folder ? owned_find(folder, path_base(out), &listed) : STATUS_FAILED;
    if (s == STATUS_OK && listed && file_exists(out))
        s = status_refuse(
            "%s: was built by the run in this folder, which goes on with it; choose another name", out);
    mem_free(folder);
    return s == STATUS_OK ? dataset_check_target(out) : s;
}

static Status parse(int argc, char **argv, Arguments *a, bool *done)
{
    OptionList folder = {0};
    const Option table[] = {
        {"out", OPTION_TEXT, &a->out, .value = "FILE.h5", .help = "The dataset file to write.",
         .required = true},
        {"caption", OPTION_TEXT, &a->caption, .value = "TEXT",
         .help = "The caption of every picture that has none of its own."},
        {"skip-bad", OPTION_FLAG, &a->skip_bad,
         .help = "Leaves out, and names, pictures that cannot be read or are too small, instead of failing."},
        {"folder-names", OPTION_TEXT, &a->folder_names, .value = "HOW", .help = FOLDER_NAMES_HELP,
         .choices = FOLDER_NAMES_CHOICES, .shown = "auto"},
        {.kind = OPTION_HEADING, .help = "Encoding now, so that training runs need not"},
        {"cache", OPTION_TEXT, &a->cache, .value = "latents,text",
         .help =
             "Encodes the pictures with the model's VAE (latents), the captions with its text encoder "
             "(text), or both, and keeps the results in the dataset. A run uses them if its model, dtype, "
             "resolution and clip skip are the same. Training encodes by itself what it does not find.",
         .choices = "latents|text|latents,text|text,latents"},
        {"model", OPTION_TEXT, &a->model, .value = "M",
         .help = "The model that will be trained: a diffusers folder, a .safetensors or .ckpt file, or "
                 "builtin:tiny."},
        {"resolution", OPTION_INT, &a->resolution, .value = "N",
         .help = "Side of the training pictures in pixels.", .min = 16, .max = 4096,
         .shown = "the size the model was made for"},
        {"flip", OPTION_FLAG, &a->flip,
         .help = "Encodes the mirrored pictures too, for dataset.augment.flip."},
        {"clip-skip", OPTION_INT, &a->clip_skip, .value = "N",
         .help = "As method.clip_skip of the configuration.", .min = 0, .max = 11, .shown = "0"},
        {"dtype", OPTION_TEXT, &a->dtype, .value = "D", .help = "As model.dtype of the configuration.",
         .choices = DTYPE_CHOICES, .shown = "bf16"},
        {"device", OPTION_TEXT, &a->device, .value = DEVICE_VALUES, .help = DEVICE_HELP,
         .shown = DEVICE_AUTO},
        {.kind = OPTION_HEADING, .help = "Output"},
        {"json", OPTION_FLAG, &a->json, .help = "Prints the summary as JSON."},
    };
    const Command command = {
        .name = "data build",
        .usage = "FOLDER --out FILE.h5 [options]",
        .summary =
            "Packs the pictures of a folder (JPEG, PNG, WebP; sub-folders too) and their captions into one "
            "dataset file. Every picture is decoded once, so a damaged one is found here.",
        .example = "atelier data build photos/dog --out dog.h5 --caption \"a photo of sks dog\"",
        .notes =
            "A picture's caption is looked for in NAME.txt, then NAME.caption beside it, then in "
            "metadata.jsonl "
            "(\"file_name\", \"text\"), then in its folder's name (\"10_sks dog\": 10 repeats, caption \"sks "
            "dog\"; only folders inside of FOLDER, and what was taken so is listed), then --caption is "
            "taken.",
        .options = table,
        .option_count = sizeof table / sizeof *table,
        .positional = &folder,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "FOLDER",
    };
    TRY(options_parse(&command, argc, argv, done));
    if (*done)
        return STATUS_OK;
    a->folder = folder.items[0];
    a->latents = a->cache && strstr(a->cache, "latents");
    a->text = a->cache && strstr(a->cache, "text");
    if (a->cache && !a->model)
        return status_refuse("data build: --cache needs --model, the model that is to be trained");
    if (!a->cache && (a->model || a->resolution || a->flip || a->clip_skip))
        return status_refuse(
            "data build: --model, --resolution, --flip and --clip-skip say how to encode; give --cache "
            "latents,text with them");
    return check_out(a->out);
}

/* Building --------------------------------------------------------------------------------------------- */

static void show(int done, int total, void *arg)
{
    Progress *p = arg;
    if (p->total != total)
        progress_begin(p, "build", "picture", 0, total);
    progress_update(p, done, NULL);
}

static Status build(const Arguments *a, const char *out, DatasetSummary *summary)
{
    Progress progress = {0};
    const DatasetBuild b = {.folder = a->folder,
                            .out = out,
                            .caption = a->caption,
                            .skip_bad = a->skip_bad,
                            .folder_names = folder_names_of(a->folder_names),
                            .progress = show,
                            .arg = &progress,
                            .stop = stop_flag()};
    const Status s = dataset_build(&b, summary);
    if (progress.total)
        progress_end(&progress);
    return s;
}

/* Encoding --------------------------------------------------------------------------------------------- */

typedef struct Encoding {
    const Arguments *a;
    DType dtype;
    Model *model;
    Ctx *c;
    Pipeline *pipeline;
    Dataset *dataset;
    const char *cache; /* the cache file */
    Progress progress;
} Encoding;

static bool show_encoded(const char *what, int done, int total, void *arg)
{
    Encoding *e = arg;
    if (done == 0)
        progress_begin(&e->progress, what, strcmp(what, "text") == 0 ? "caption" : "picture", 0, total);
    progress_update(&e->progress, done, NULL);
    if (done == total)
        progress_end(&e->progress);
    return !*stop_flag();
}

/* The parts of the model that encode. */
static int parts_of(const Arguments *a)
{
    return (a->latents ? MODEL_VAE : 0) | (a->text ? MODEL_TEXT | MODEL_TOKENIZER : 0);
}

/* What can be said of the model before the pictures are read. */
static Status check_model(const Arguments *a)
{
    Model *m;
    DType dtype;
    const Device *dev;
    TRY(dtype_parse(a->dtype, &dtype));
    TRY(status_in(device_choose(a->device, &dtype, &dev), "data build: --device"));
    TRY(model_open(&(ModelRequest){.name = a->model, .parts = parts_of(a), .dtype = dtype, .described = true},
                   &m));
    const int side = a->resolution, multiple = m->size_multiple;
    model_free(m);
    if (side % multiple)
        return status_refuse("data build: --resolution %d is not a multiple of %d; take %d or %d", side,
                             multiple, side / multiple * multiple, (side / multiple + 1) * multiple);
    return STATUS_OK;
}

static Status encode_latents(Encoding *e)
{
    const int resolution = e->a->resolution ? e->a->resolution : e->model->default_size;
    CacheKind kind;
    DatasetCache *cache;
    Views views = {.dataset = e->dataset, .count = dataset_count(e->dataset)};
    BucketFit *fits = mem_alloc((size_t)views.count * sizeof *fits);
    if (!fits)
        return STATUS_FAILED;
    for (int i = 0; i < views.count; i++)
        fits[i] = bucket_fit_size(dataset_size(e->dataset, i), size_square(resolution));
    views.fits = fits;
    TRY(caching_latents_kind(e->model, e->dtype, &views, &kind));
    TRY(cache_open(e->cache, &kind, dataset_count(e->dataset), &cache));
    const Status s = caching_latents(e->pipeline, comm_alone(), &views, e->a->flip, cache, show_encoded, e);
    mem_free(fits);
    const Status closed = cache_close(cache);
    return s == STATUS_OK ? closed : s;
}

static Status encode_texts(Encoding *e)
{
    CacheKind kind;
    DatasetCache *cache;
    TRY(caching_text_kind(e->model, e->dtype, e->a->clip_skip, &kind));
    TRY(cache_open(e->cache, &kind, dataset_count(e->dataset), &cache));
    const Status s =
        caching_text(e->pipeline, comm_alone(), e->dataset, e->a->clip_skip, cache, show_encoded, e);
    const Status closed = cache_close(cache);
    return s == STATUS_OK ? closed : s;
}

static Status encode_with_model(Encoding *e, const char *dataset)
{
    const Device *dev;
    TRY(dtype_parse(e->a->dtype, &e->dtype));
    TRY(device_choose(e->a->device, &e->dtype, &dev));
    TRY(model_load(e->a->model, parts_of(e->a), e->dtype, &e->model));
    e->c = ctx_new(dev, &(CtxOptions){.dtype = e->dtype, .stop = stop_flag()});
    if (!e->c)
        return STATUS_FAILED;
    TRY(pipeline_new(e->c, e->model, &e->pipeline));
    TRY(dataset_open(dataset, &e->dataset));
    if (e->a->latents)
        TRY(encode_latents(e));
    if (e->a->text)
        TRY(encode_texts(e));
    return STATUS_OK;
}

static Status encode(const Arguments *a, const char *dataset, const char *cache)
{
    Encoding e = {.a = a, .cache = cache};
    const Status s = encode_with_model(&e, dataset);
    dataset_close(e.dataset);
    pipeline_free(e.pipeline);
    ctx_free(e.c);
    model_free(e.model);
    return s;
}

static Status build_in(const char *folder, const Arguments *a, DatasetSummary *summary)
{
    char *set = path_join(folder, "set.h5"), *cache = path_join(folder, "cache.h5");
    Status s = set && cache ? build(a, set, summary) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = encode(a, set, cache);
    if (s == STATUS_OK)
        s = cache_copy_into(set, cache);
    if (s == STATUS_OK)
        s = file_put_in_place(set, a->out);
    mem_free(set);
    mem_free(cache);
    return s;
}

static Status build_and_encode(const Arguments *a, DatasetSummary *summary)
{
    int hold = -1;
    TRY(check_model(a));
    TRY(file_try(a->out));
    char *folder = path_aside(a->out, "build");
    Status s = folder ? aside_folder(folder, a->out, &hold) : STATUS_FAILED;
    if (s == STATUS_OK) {
        char why[STATUS_MESSAGE_SIZE];
        s = build_in(folder, a, summary);
        memcpy(why, status_message(), sizeof why);
        dir_remove(folder);
        if (s != STATUS_OK)
            status_fail("%s", why);
        close(hold);
    }
    mem_free(folder);
    return s;
}

int command_data_build(int argc, char **argv)
{
    Arguments a = {.dtype = "bf16", .device = DEVICE_AUTO};
    bool done;
    Status s = parse(argc, argv, &a, &done);
    if (s != STATUS_OK || done)
        return command_end(s);
    stop_catch();
    DatasetSummary summary;
    s = a.cache ? build_and_encode(&a, &summary) : build(&a, a.out, &summary);
    if (s == STATUS_OK)
        s = data_print_info(&(DataInfo){.path = a.out, .json = a.json, .built = &summary});
    return command_end(s);
}
