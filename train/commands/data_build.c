/* `atelier data build`: a folder becomes a dataset file, with encoded latents and texts in it if asked for.
 *
 * With --cache the dataset is built in a temporary folder beside its final place, encoded into a cache file
 * there, and the caches are copied in before it gets its name: what stands under the final name is always
 * whole. */
#include "data/dataset/dataset.h"
#include "data/dataset/layout.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/devices/devices.h"
#include "train/pictures/encoded.h"
#include "train/pictures/owned.h"
#include "data.h"

#include <stdio.h>
#include <string.h>

typedef struct Arguments {
    const char *folder, *out, *caption;
    const char *cache, *model, *vae, *dtype, *device, *folder_names;
    int resolution, clip_skip;
    bool skip_bad, flip, square, tf32, json;
    bool latents, text; /* of cache */
    SizeModel sizes;    /* of the model, where latents are encoded */
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
         .help = "Encodes the pictures with the model's VAE (latents), the captions with its text encoder "
                 "(text), or both, and keeps the results beside the dataset, in NAME.cache. A run uses them "
                 "if its "
                 "model, dtype, resolution and clip skip are the same. Training encodes by itself what it "
                 "does not find.",
         .choices = "latents|text|latents,text|text,latents"},
        {"model", OPTION_TEXT, &a->model, .value = "M",
         .help = "The model that will be trained: a diffusers folder, a .safetensors or .ckpt file, or "
                 "builtin:tiny."},
        {"vae", OPTION_TEXT, &a->vae, .value = "V",
         .help = "Another VAE than the model's own: as model.vae of the configuration."},
        {"resolution", OPTION_INT, &a->resolution, .value = "N",
         .help = "As train.resolution of the configuration.", .min = 16, .max = 4096,
         .shown = "the size the model was made for"},
        {"square", OPTION_FLAG, &a->square,
         .help = "As dataset.buckets: off, a square is cut out of each picture."},
        {"flip", OPTION_FLAG, &a->flip,
         .help = "Encodes the mirrored pictures too, for dataset.augment.flip."},
        {"clip-skip", OPTION_INT, &a->clip_skip, .value = "N",
         .help = "As method.clip_skip of the configuration.", .min = 0, .max = 11, .shown = "0"},
        {"dtype", OPTION_TEXT, &a->dtype, .value = "D", .help = "As model.dtype of the configuration.",
         .choices = DTYPE_CHOICES, .shown = "bf16"},
        {"tf32", OPTION_FLAG, &a->tf32, .help = "As model.tf32 of the configuration, with --dtype f32."},
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
    if (!a->cache && (a->model || a->vae || a->resolution || a->square || a->flip || a->clip_skip))
        return status_refuse(
            "data build: --model, --vae, --resolution, --square, --flip and --clip-skip say how to "
            "encode; give --cache "
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
    Cache *cache;
    Caching *caching;
    Progress progress;
    const char *shown; /* what progress is about: "latents" */
} Encoding;

static bool show_encoded(const char *what, int done, int total, void *arg)
{
    Encoding *e = arg;
    if (!e->shown || strcmp(e->shown, what)) /* the first of it may have been done before */
        progress_begin(&e->progress, what, strcmp(what, "text") == 0 ? "caption" : "picture", done, total);
    e->shown = what;
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

/* What can be said of the model before the pictures are read: fills what was left open. */
static Status check_model(Arguments *a)
{
    Model *m;
    DType dtype;
    const Device *dev;
    TRY(dtype_parse(a->dtype, &dtype));
    TRY(status_in(device_choose(a->device, &dtype, &dev), "data build: --device"));
    TRY(status_in(device_choose_tf32(dev, dtype, &a->tf32), "data build: --tf32"));
    TRY(model_open(
        &(ModelRequest){
            .name = a->model, .vae = a->vae, .parts = parts_of(a), .dtype = dtype, .described = true},
        &m));
    const int multiple = m->size_multiple;
    if (a->latents) {
        a->sizes = (SizeModel){multiple, m->default_size};
        a->resolution = a->resolution ? a->resolution : m->default_size;
    }
    model_free(m);
    const int side = a->resolution;
    if (side % multiple)
        return status_refuse("data build: --resolution %d is not a multiple of %d; take %d or %d", side,
                             multiple, side / multiple * multiple, (side / multiple + 1) * multiple);
    return STATUS_OK;
}

/* Every picture as a run with buckets trains it, or as one without. */
static Status encode_latents(Encoding *e)
{
    Framer *framer;
    const int n = dataset_count(e->dataset);
    TRY(data_framer(e->a->resolution, e->a->square, e->a->sizes, &framer));
    int *pictures = mem_alloc((size_t)n * sizeof *pictures);
    BucketFit *fits = mem_alloc((size_t)n * sizeof *fits);
    Status s = pictures && fits ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < n && s == STATUS_OK; i++) {
        pictures[i] = i;
        s = framer_fit(framer, dataset_size(e->dataset, i), &fits[i]);
    }
    const Views views = {.dataset = e->dataset, .pictures = pictures, .fits = fits, .count = n};
    if (s == STATUS_OK)
        s = caching_fill_latents(e->caching, comm_alone(), e->cache, &views, e->a->flip, show_encoded, e);
    framer_free(framer);
    mem_free(pictures);
    mem_free(fits);
    return s;
}

static Status encode_with_model(Encoding *e)
{
    const Device *dev;
    TRY(dtype_parse(e->a->dtype, &e->dtype));
    TRY(device_choose(e->a->device, &e->dtype, &dev));
    TRY(model_open(
        &(ModelRequest){.name = e->a->model, .vae = e->a->vae, .parts = parts_of(e->a), .dtype = e->dtype},
        &e->model));
    e->c = ctx_new(dev, &(CtxOptions){.dtype = e->dtype, .tf32 = e->a->tf32, .stop = stop_flag()});
    if (!e->c)
        return STATUS_FAILED;
    TRY(pipeline_new(e->c, e->model, &e->pipeline));
    TRY(dataset_open(e->a->out, &e->dataset));
    TRY(caching_new(e->pipeline, e->dtype, e->a->clip_skip,
                    (e->a->latents ? CACHING_LATENTS : 0) | (e->a->text ? CACHING_TEXTS : 0), &e->caching));
    if (e->a->latents)
        TRY(encode_latents(e));
    return e->a->text ? caching_fill_texts(e->caching, comm_alone(), e->cache, e->dataset, show_encoded, e)
                      : STATUS_OK;
}

/* Into the cache beside the dataset, which stands by now. */
static Status encode(const Arguments *a, Cache *cache)
{
    Encoding e = {.a = a, .cache = cache};
    const Status s = encode_with_model(&e);
    caching_free(e.caching);
    dataset_close(e.dataset);
    pipeline_free(e.pipeline);
    ctx_free(e.c);
    model_free(e.model);
    return s;
}

static Status build_and_encode(Arguments *a, DatasetSummary *summary)
{
    char *path = encoded_path(a->out);
    Cache *cache = NULL;
    Status s = path ? check_model(a) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = file_try(path);
    if (s == STATUS_OK)
        s = cache_open(path, NULL, &cache);
    if (s == STATUS_OK)
        s = build(a, a->out, summary);
    if (s == STATUS_OK)
        s = encode(a, cache);
    cache_close(cache);
    mem_free(path);
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
        s = data_print_info(&(DataInfo){.path = a.out,
                                        .json = a.json,
                                        .built = &summary,
                                        .resolution = a.resolution,
                                        .model = a.sizes,
                                        .square = a.square});
    return command_end(s);
}
