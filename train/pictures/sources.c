#include "sources.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/random.h"
#include "kernels/base/text.h"
#include "train/config/config_paths.h"
#include "built.h"
#include "owned.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The split's key: no epoch has this number. */
#define SPLIT_STEP 0xffffffffu

/* "cat" of "data/cat.h5" and of "data/cat". Caller: mem_free. NULL: out of memory. */
static char *stem_of(const char *path)
{
    char *name = mem_strdup(path_base(path));
    char *dot = name ? strrchr(name, '.') : NULL;
    if (dot && strcasecmp(dot, ".h5") == 0)
        *dot = 0;
    return name;
}

static const char *path_of(const Config *config, int i)
{
    return i < config->dataset_count ? config->datasets[i].path : config->prior.path;
}

char *source_label(const Config *config, int i)
{
    char *name = stem_of(path_of(config, i));
    bool taken = false;
    for (int k = 0; k < i && name && !taken; k++) {
        char *other = stem_of(path_of(config, k));
        taken = other && strcmp(other, name) == 0;
        mem_free(other);
    }
    if (!taken)
        return name;
    char *numbered = mem_printf("%s-%d", name, i + 1);
    mem_free(name);
    return numbered;
}

/* Where the dataset is that a folder is built into. Caller: mem_free. NULL: out of memory, or no folder. */
static char *built_path(const Config *config, int i, const char *folder)
{
    char *name = folder ? source_label(config, i) : NULL;
    char *path = name ? path_in(folder, "%s.h5", name) : NULL;
    mem_free(name);
    return path;
}

/* NAME.h5 in the run's folder is to be written, or is used as it is. */
static Status take_built(const char *folder, const Config *config, int i)
{
    char *name = source_label(config, i), *file = name ? mem_printf("%s.h5", name) : NULL;
    const Status s = file ? owned_take(folder, file) : STATUS_FAILED;
    mem_free(name);
    mem_free(file);
    return s;
}

static Status open_dataset(Source *s, const Config *config, int i, const char *folder, SourcesKept keep,
                           const volatile sig_atomic_t *stop)
{
    const char *path = path_of(config, i);
    char *built = built_path(config, i, folder);
    bool kept = false;
    Status status = built || !folder ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK)
        status = built_look(s, built, keep, stop, &kept);
    if (status == STATUS_OK && !kept && !file_exists(path))
        status = config_path_missing(config, path, "folder of pictures or .h5 file");
    if (status == STATUS_OK && !kept && !file_is_dir(path))
        status = dataset_open(path, &s->dataset);
    if (status == STATUS_OK && !s->dataset && folder && keep != SOURCES_SEEN)
        status = take_built(folder, config, i);
    if (status == STATUS_OK && !kept && !s->dataset)
        status = built_make(s, built, stop, &s->dataset);
    if (status == STATUS_OK && !s->dataset)
        status = dataset_open(built, &s->dataset);
    mem_free(built);
    return status;
}

/* A picture without a caption is named, and stops the run unless the configuration says what stands for it.
 */
static Status check_captions(const Source *s)
{
    enum { SHOWN = 8 };
    char names[512] = "";
    const char *missing = s->config->caption.missing, *more;
    const int all = dataset_count(s->dataset);
    int without = 0;
    for (int i = 0; i < all; i++) {
        const char *caption = dataset_caption(s->dataset, i);
        const size_t used = strlen(names);
        if (!caption[strspn(caption, " \t\n")] && without++ < SHOWN)
            snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                     dataset_name(s->dataset, i));
    }
    if (without == 0)
        return STATUS_OK;
    more = without > SHOWN ? ", …" : "";
    if (!missing)
        return status_refuse("%s: %d of %d picture%s %s no caption: %s%s; give them one, or say with "
                             "dataset.caption.missing what stands for it (\"\": nothing)",
                             dataset_path(s->dataset), without, all, text_plural(all),
                             without == 1 ? "has" : "have", names, more);
    if (!file_is_dir(s->config->path)) /* of a folder, building has said it */
        log_info("%s: %d of %d picture%s %s no caption and get%s \"%s\" (dataset.caption.missing): %s%s",
                 s->config->path, without, all, text_plural(all), without == 1 ? "has" : "have",
                 without == 1 ? "s" : "", missing, names, more);
    return dataset_set_missing_caption(s->dataset, missing);
}

/* Which pictures are held out: the first of a permutation by the seed, then each part in the dataset's own
 * order. */
static Status split(Source *s, const Config *config, int number)
{
    const int n = dataset_count(s->dataset);
    const float share = config->validation.share;
    int held = share > 0 ? (int)lround((double)share * n) : 0;
    if (share > 0 && held == 0 && n > 1)
        held = 1;
    if (n - held < 1)
        return status_refuse("%s: has %d picture%s, and validation.share %g leaves none to train on",
                             dataset_path(s->dataset), n, text_plural(n), (double)share);
    uint32_t *order = mem_alloc((size_t)n * sizeof *order);
    bool *is_held = mem_calloc((size_t)n, sizeof *is_held);
    s->trained = mem_alloc((size_t)n * sizeof *s->trained);
    s->held = mem_alloc((size_t)n * sizeof *s->held);
    Status status = order && is_held && s->trained && s->held ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK) {
        const RandomKey key = {.seed = config->train.seed,
                               .step = SPLIT_STEP,
                               .sample = (uint32_t)number,
                               .purpose = RANDOM_ORDER};
        random_permutation(key, order, (uint32_t)n);
        for (int i = 0; i < held; i++)
            is_held[order[i]] = true;
        for (int i = 0; i < n; i++) {
            if (is_held[i])
                s->held[s->held_count++] = i;
            else
                s->trained[s->trained_count++] = i;
        }
    }
    mem_free(order);
    mem_free(is_held);
    return status;
}

/* How often the trained pictures come in an epoch. The loader knows one number for a list of pictures; where
 * kohya's folders have several, the list itself has each picture that often. */
static Status repeat(Source *s)
{
    const int fixed = s->config->repeats, first = dataset_repeats(s->dataset, s->trained[0]);
    int64_t total = 0;
    bool differ = false;
    for (int i = 0; i < s->trained_count; i++) {
        const int repeats = dataset_repeats(s->dataset, s->trained[i]);
        differ |= repeats != first;
        total += repeats;
    }
    s->distinct = s->trained_count;
    s->repeats = fixed > 0 ? fixed : differ ? 1 : first;
    if (fixed > 0 || !differ)
        return STATUS_OK;
    if (total > INT32_MAX)
        return status_refuse("%s: %lld samples an epoch are too many; use fewer repeats",
                             dataset_path(s->dataset), (long long)total);
    int *list = mem_alloc((size_t)total * sizeof *list), n = 0;
    if (!list)
        return STATUS_FAILED;
    for (int i = 0; i < s->trained_count; i++)
        for (int k = dataset_repeats(s->dataset, s->trained[i]); k > 0; k--)
            list[n++] = s->trained[i];
    mem_free(s->trained);
    s->trained = list;
    s->trained_count = n;
    return STATUS_OK;
}

/* A key that does nothing is a mistake. */
static Status check_keys(const ConfigDataset *d)
{
    if (!file_exists(d->path) || file_is_dir(d->path) ||
        (d->folder_names == FOLDER_NAMES_AUTO && !d->skip_bad))
        return STATUS_OK;
    return status_refuse(
        "dataset.%s: says how a folder is built into a dataset, and %s is a dataset already; leave "
        "the key out, or build the file again with --%s",
        d->skip_bad ? "skip_bad" : "folder_names", d->path, d->skip_bad ? "skip-bad" : "folder-names");
}

static Status frame(Source *s, const Config *config, const SizeModel *m)
{
    TRY(entries_make(config, s->config, m, s->dataset, s->trained, s->trained_count, &s->entries));
    return entries_make(config, s->config, m, s->dataset, s->held, s->held_count, &s->held_entries);
}

static Status count_sizes(const Source *s, RunSizes *sizes)
{
    TRY(sizes_add(sizes, &s->entries, s->repeats));
    return sizes_add(sizes, &s->held_entries, 0);
}

Status sources_sizes(const Sources *s, const Config *config, const SizeModel *m, RunSizes *out)
{
    Status status = STATUS_OK;
    *out = (RunSizes){0};
    for (int i = 0; i < s->count && status == STATUS_OK; i++) {
        Source other = s->items[i];
        other.config = &config->datasets[i];
        other.entries = other.held_entries = (Entries){0};
        status = frame(&other, config, m);
        if (status == STATUS_OK)
            status = count_sizes(&other, out);
        entries_free(&other.entries);
        entries_free(&other.held_entries);
    }
    if (status != STATUS_OK)
        sizes_free(out);
    return status;
}

static Status open_all(Sources *s, const Config *config, const SizeModel *m, const char *folder,
                       SourcesKept keep, const volatile sig_atomic_t *stop)
{
    s->items = mem_calloc((size_t)config->dataset_count + 1, sizeof *s->items);
    if (!s->items)
        return STATUS_FAILED;
    for (int i = 0; i < config->dataset_count; i++) {
        const ConfigDataset *d = &config->datasets[i];
        Source *source = &s->items[s->count++];
        source->config = d;
        TRY(check_keys(d));
        TRY(open_dataset(source, config, i, folder, keep, stop));
        TRY(check_captions(source));
        TRY(dataset_style_captions(source->dataset,
                                   &(CaptionStyle){d->caption.prefix, d->caption.suffix, d->caption.lines}));
        TRY(split(source, config, i));
        TRY(repeat(source));
        TRY(frame(source, config, m));
        TRY(count_sizes(source, &s->sizes));
        s->epoch_samples += (int64_t)source->entries.count * source->repeats;
        s->held_count += source->held_entries.count;
    }
    return STATUS_OK;
}

Status sources_open(const Config *config, const SizeModel *m, const char *folder, SourcesKept keep,
                    const volatile sig_atomic_t *stop, Sources **out)
{
    Sources *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    Status status = open_all(s, config, m, folder, keep, stop);
    if (status == STATUS_OK && (config->loss.mask_floor > 0 || config->loss.mask_normalise) &&
        !sources_masked(s))
        status =
            status_refuse("loss.%s: does nothing, as no picture has a mask (NAME.mask.png beside NAME.jpg, "
                          "or dataset.mask: alpha); remove it",
                          config->loss.mask_floor > 0 ? "mask_floor" : "mask_normalise");
    if (status != STATUS_OK) {
        sources_close(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

bool sources_masked(const Sources *s)
{
    for (int i = 0; i < s->count; i++) {
        const Source *source = &s->items[i];
        for (int k = 0; k < source->trained_count; k++)
            if (mask_is_there(source->dataset, source->config->mask, source->trained[k]))
                return true;
    }
    return false;
}

void sources_close(Sources *s)
{
    if (!s)
        return;
    for (int i = 0; s->items && i < s->count + (s->prior != NULL); i++) {
        Source *source = &s->items[i];
        cache_close(source->cache);
        dataset_close(source->dataset);
        mem_free(source->trained);
        mem_free(source->held);
        entries_free(&source->entries);
        entries_free(&source->held_entries);
    }
    sizes_free(&s->sizes);
    caching_free(s->caching);
    mem_free(s->items);
    mem_free(s);
}

/* Class pictures ---------------------------------------------------------------------------------------- */

bool sources_prior_built(const Config *config, const char *folder)
{
    char *built = built_path(config, config->dataset_count, folder);
    const bool found = built && file_exists(built);
    mem_free(built);
    return found;
}

/* What nobody means: the subject without a word of its own, class pictures' captions that are not looked at.
 */
static void tell_captions(const Sources *s)
{
    const Source *prior = s->prior;
    int others = 0;
    for (int i = 0; i < prior->trained_count; i++)
        others += strcmp(dataset_caption(prior->dataset, i), prior->caption) != 0;
    if (others)
        log_info("%s: %d of the class pictures have a caption of their own; all are trained as \"%s\" "
                 "(prior.prompt)",
                 prior->config->path, others, prior->caption);
    for (int i = 0; i < s->count; i++) {
        const Dataset *d = s->items[i].dataset;
        for (int k = 0; k < dataset_count(d); k++)
            if (strcmp(dataset_caption(d, k), prior->caption) == 0) {
                log_warn("%s: %s has the class's own caption, \"%s\"; the subject wants a rare word "
                         "besides, as in \"sks %s\"",
                         s->items[i].config->path, dataset_name(d, k), prior->caption, prior->caption);
                break;
            }
    }
}

/* Drawn for another subject, or somebody's own. */
static void tell_sizes(const Source *prior)
{
    const Entries *e = &prior->entries;
    int others = 0;
    for (int i = 0; i < e->count; i++)
        others += !size_equal(dataset_size(prior->dataset, e->pictures[i]), e->fits[i].bucket);
    if (others)
        log_info("%s: %d of the class pictures %s not of the sizes that the subject comes in, and %s scaled "
                 "and cut to them",
                 prior->config->path, others, others == 1 ? "is" : "are", others == 1 ? "is" : "are");
}

Status sources_open_prior(Sources *s, const Config *config, const char *folder, SourcesKept keep,
                          const volatile sig_atomic_t *stop)
{
    Source *prior = &s->items[s->count];
    s->prior_config = (ConfigDataset){.path = config->prior.path,
                                      .repeats = 1,
                                      .weight = 1,
                                      .mask = MASK_NONE,
                                      .folder_names = FOLDER_NAMES_PLAIN};
    *prior = (Source){.config = &s->prior_config, .caption = config->prior.prompt, .repeats = 1};
    s->prior = prior;
    TRY(open_dataset(prior, config, s->count, folder, keep, stop));
    const int count = dataset_count(prior->dataset), wanted = config->prior.pictures;
    if (count < wanted)
        return status_refuse("%s: has %d class picture%s, and prior.pictures is %d",
                             dataset_path(prior->dataset), count, text_plural(count), wanted);
    prior->trained = mem_alloc((size_t)wanted * sizeof *prior->trained);
    if (!prior->trained)
        return STATUS_FAILED;
    for (int i = 0; i < wanted; i++)
        prior->trained[prior->trained_count++] = i;
    tell_captions(s);
    TRY(sizes_share(&s->sizes, prior->dataset, wanted, &prior->entries));
    tell_sizes(prior);
    return STATUS_OK;
}
