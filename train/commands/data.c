/* `atelier data`: datasets made (data_build.c), looked at and checked. */
#include "data.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "train/pictures/encoded.h"
#include "train/sizes/sizes.h"
#include "commands.h"
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define USUAL_RESOLUTION 512
#define SMALL_RESOLUTION 256 /* below it steps are finer: it is no model of the usual sizes */
#define FINE_STEP 16

Status data_framer(int resolution, bool square, SizeModel model, Framer **out)
{
    const int side = resolution ? resolution : USUAL_RESOLUTION;
    FrameRule rule = {.side = side, .buckets = !square, .enlarge = true};
    if (model.multiple == 0)
        model = (SizeModel){side < SMALL_RESOLUTION ? FINE_STEP : 8, side};
    TRY(frame_settle(&rule, model.multiple, model.made_for));
    return framer_new(&rule, out);
}

/* info ------------------------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int count_distinct_captions(const Dataset *d)
{
    const int n = dataset_count(d);
    const char **captions = malloc((size_t)n * sizeof *captions);
    int distinct = 0;
    if (!captions)
        return 0;
    for (int i = 0; i < n; i++)
        captions[i] = dataset_caption(d, i);
    qsort(captions, (size_t)n, sizeof *captions, by_text);
    for (int i = 0; i < n; i++)
        distinct += i == 0 || strcmp(captions[i], captions[i - 1]) != 0;
    free(captions);
    return distinct;
}

static json_t *size_facts(const Dataset *d)
{
    int smallest = 0, largest = 0;
    int64_t least = INT64_MAX, most = 0;
    char from[32], to[32];
    for (int i = 0; i < dataset_count(d); i++) {
        const int64_t pixels = size_area(dataset_size(d, i));
        if (pixels < least)
            least = pixels, smallest = i;
        if (pixels > most)
            most = pixels, largest = i;
    }
    const Size low = dataset_size(d, smallest), high = dataset_size(d, largest);
    snprintf(from, sizeof from, "%dx%d", low.width, low.height);
    snprintf(to, sizeof to, "%dx%d", high.width, high.height);
    return json_pack("{ss ss}", "smallest", from, "largest", to);
}

static json_t *caption_facts(const Dataset *d)
{
    size_t longest = 0;
    for (int i = 0; i < dataset_count(d); i++) {
        const size_t n = strlen(dataset_caption(d, i));
        longest = n > longest ? n : longest;
    }
    return json_pack("{si sI ss}", "distinct", count_distinct_captions(d), "longest_bytes",
                     (json_int_t)longest, "first", dataset_caption(d, 0));
}

static void add_records(const CacheLabel *label, int64_t count, void *arg)
{
    json_t *caches = arg;
    char name[96];
    const bool latents = label->kind == CACHE_LATENTS;
    snprintf(name, sizeof name, "%s %ux%u", latents ? "latents" : "text", label->dims[latents ? 2 : 0],
             label->dims[latents ? 3 : 1]);
    json_object_set_new(caches, name,
                        json_integer(count + json_integer_value(json_object_get(caches, name))));
}

/* What lies beside the dataset; a file of another kind there is nobody's cache. */
static json_t *cache_facts(const char *path)
{
    char *beside = encoded_path(path);
    json_t *caches = json_object();
    Cache *cache = NULL;
    if (beside && cache_open(beside, NULL, &cache) == STATUS_OK)
        cache_list(cache, add_records, caches);
    cache_close(cache);
    mem_free(beside);
    return caches;
}

/* One number, or the fewest and the most where kohya's folders have several. */
static json_t *repeats_facts(const Dataset *d)
{
    int fewest = dataset_repeats(d, 0), most = fewest;
    for (int i = 1; i < dataset_count(d); i++) {
        const int repeats = dataset_repeats(d, i);
        fewest = repeats < fewest ? repeats : fewest;
        most = repeats > most ? repeats : most;
    }
    return fewest == most ? json_integer(most) : json_pack("[i,i]", fewest, most);
}

/* How many, and the names of the first. */
static json_t *left_out_facts(const Dataset *d)
{
    const char *names;
    const int count = dataset_left_out(d, &names);
    json_t *list = json_array();
    for (size_t n; *names; names += n + (names[n] == '\n')) {
        n = strcspn(names, "\n");
        json_array_append_new(list, json_stringn(names, n));
    }
    return json_pack("{si so}", "pictures", count, "names", list);
}

/* What names of folders were taken for. */
static json_t *folder_facts(const FoldersTaken *taken)
{
    json_t *folders = json_object();
    for (int i = 0; i < taken->count; i++) {
        const FolderTaken *f = &taken->items[i];
        json_object_set_new(
            folders, f->name,
            json_pack("{si si si}", "repeats", f->repeats, "pictures", f->pictures, "captions", f->captions));
    }
    return folders;
}

/* What was decided of pictures that could have been decided otherwise. */
static Status add_remarks(const DataInfo *info, const Dataset *d, const Framer *framer, json_t *facts)
{
    Remarks remarks;
    char text[2048];
    json_t *list = json_object();
    TRY(dataset_remarks(d, framer, &remarks));
    for (int k = 0; k < REMARK_KINDS; k++)
        if ((k != REMARK_ENLARGED || info->resolution) &&
            remark_text(&remarks, (RemarkKind)k, text, sizeof text))
            json_object_set_new(list, remark_word((RemarkKind)k), json_string(text));
    if (json_object_size(list))
        json_object_set(facts, "remarks", list);
    json_decref(list);
    remarks_free(&remarks);
    return STATUS_OK;
}

/* How many pictures come to each size, and how much of them is cut away. */
static Status add_buckets(const DataInfo *info, const Dataset *d, const Framer *framer, json_t *facts)
{
    RunSizes sizes = {0};
    char name[48], text[96];
    const int side = info->resolution ? info->resolution : USUAL_RESOLUTION;
    Status s = STATUS_OK;
    json_t *all = json_object();
    for (int i = 0; i < dataset_count(d) && s == STATUS_OK; i++) {
        BucketFit fit;
        int picture = i;
        if (framer_fit(framer, dataset_size(d, i), &fit) == STATUS_OK)
            s = sizes_add(&sizes, &(Entries){&picture, &fit, 1}, 1);
    }
    for (int i = 0; i < sizes.count && s == STATUS_OK; i++) {
        const RunSize *z = &sizes.items[i];
        snprintf(name, sizeof name, "%dx%d", z->size.width, z->size.height);
        snprintf(text, sizeof text, "%d, %.1f %% cut away", z->entries, 100 * z->lost / z->entries);
        json_object_set_new(all, name, json_string(text));
    }
    sizes_free(&sizes);
    snprintf(name, sizeof name, "%s at %d", info->square ? "square" : "buckets", side);
    json_object_set_new(facts, name, all);
    return s;
}

static json_t *dataset_facts(const char *path, const Dataset *d, const FoldersTaken *taken,
                             const DatasetSummary *built)
{
    uint64_t encoded = 0;
    for (int i = 0; i < dataset_count(d); i++)
        encoded += dataset_encoded_size(d, i);
    json_t *facts = json_pack("{so si}", "path", json_name(path), "pictures", dataset_count(d));
    if (built && facts) {
        json_object_set_new(facts, "skipped", json_integer(built->skipped));
        json_object_set_new(facts, "unused_files", json_integer(built->unused_files));
    }
    json_t *rest = json_pack("{so ss sI sI so so}", "repeats", repeats_facts(d), "source", dataset_source(d),
                             "encoded_bytes", (json_int_t)encoded, "file_bytes", (json_int_t)file_size(path),
                             "sizes", size_facts(d), "captions", caption_facts(d));
    const char *names;
    if (dataset_left_out(d, &names))
        json_object_set_new(rest, "left_out", left_out_facts(d));
    if (dataset_masks(d))
        json_object_set_new(rest, "masks", json_integer(dataset_masks(d)));
    if (taken->count)
        json_object_set_new(rest, "folders", folder_facts(taken));
    json_t *caches = cache_facts(path);
    if (json_object_size(caches))
        json_object_set(rest, "caches", caches);
    json_decref(caches);
    json_object_update(facts, rest);
    json_decref(rest);
    return facts;
}

static Status print_facts(const DataInfo *info, const Dataset *d, const FoldersTaken *taken)
{
    Framer *framer;
    TRY(data_framer(info->resolution, info->square, info->model, &framer));
    json_t *facts = dataset_facts(info->path, d, taken, info->built);
    Status s = facts ? add_buckets(info, d, framer, facts) : STATUS_OK;
    if (facts && s == STATUS_OK)
        s = add_remarks(info, d, framer, facts);
    framer_free(framer);
    if (s == STATUS_OK)
        return facts_print(facts, info->json);
    json_decref(facts);
    return s;
}

Status data_print_info(const DataInfo *info)
{
    Dataset *d;
    FoldersTaken taken = {0};
    if (file_is_dir(info->path))
        return status_refuse(
            "%s: is a folder, not a dataset file; `atelier data lint` looks at a folder, `atelier "
            "data build` makes a dataset of it",
            info->path);
    TRY(dataset_open(info->path, &d));
    Status s = dataset_folders(d, &taken);
    if (s == STATUS_OK)
        s = print_facts(info, d, &taken);
    folders_taken_free(&taken);
    dataset_close(d);
    return s;
}

static Status info(int argc, char **argv)
{
    OptionList files = {0};
    bool done;
    DataInfo i = {.resolution = 0};
    const Option table[] = {
        {"resolution", OPTION_INT, &i.resolution, .value = "N",
         .help = "As train.resolution: what buckets the pictures come to, and what is enlarged.", .min = 16,
         .max = 4096, .shown = "512"},
        {"square", OPTION_FLAG, &i.square,
         .help = "As dataset.buckets: off, a square is cut out of each picture."},
        {"json", OPTION_FLAG, &i.json, .help = "Prints JSON."}};
    const Command command = {
        .name = "data info",
        .usage = "FILE.h5 [options]",
        .summary =
            "Says what a dataset file holds: how many pictures, their sizes, the buckets that they are "
            "trained in and how much of them is cut away, captions, caches.",
        .example = "atelier data info dog.h5",
        .options = table,
        .option_count = sizeof table / sizeof *table,
        .positional = &files,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "FILE.h5",
    };
    TRY(options_parse(&command, argc, argv, &done));
    i.path = done ? NULL : files.items[0];
    return done ? STATUS_OK : data_print_info(&i);
}

static int command_info(int argc, char **argv)
{
    return command_end(info(argc, argv));
}

/* The family ------------------------------------------------------------------------------------------- */

int command_data(int argc, char **argv)
{
    static const Subcommand commands[] = {
        {"build", "FOLDER --out FILE.h5", "pack a folder of pictures into a dataset", command_data_build,
         false},
        {"info", "FILE.h5 [options]", "what a dataset holds", command_info, false},
        {"lint", "FOLDER|FILE.h5", "what is wrong with a folder or a dataset", command_data_lint, false},
    };
    static const Family family = {
        .name = "data",
        .summary = "Makes datasets of pictures and their captions, and looks at them.",
        .commands = commands,
        .count = sizeof commands / sizeof *commands,
    };
    return dispatch(&family, argc, argv);
}
