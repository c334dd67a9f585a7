#include "built.h"

#include "data/dataset/compare.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/progress.h"
#include "kernels/base/text.h"

/* What stands for a missing caption. */
static const char *caption_for_missing(const Source *s)
{
    return s->caption ? s->caption : s->config->caption.missing;
}

/* Making ----------------------------------------------------------------------------------------------- */

static void show_built(int done, int total, void *arg)
{
    Progress *p = arg;
    if (p->total != total)
        progress_begin(p, "dataset", "picture", 0, total);
    progress_update(p, done, NULL);
}

Status built_make(const Source *s, const char *out, const volatile sig_atomic_t *stop, Dataset **view)
{
    const ConfigDataset *config = s->config;
    Progress progress = {0};
    DatasetSummary summary = {0};
    const DatasetBuild b = {.folder = config->path,
                            .out = out,
                            .caption = caption_for_missing(s),
                            .skip_bad = config->skip_bad,
                            .folder_names = config->folder_names,
                            .progress = show_built,
                            .arg = &progress,
                            .stop = stop};
    const Status status = out ? dataset_build(&b, &summary) : dataset_view(&b, &summary, view);
    if (progress.total)
        progress_end(&progress);
    if (status == STATUS_OK)
        log_info("%s: %d picture%s %s%s%s%s", config->path, summary.pictures, text_plural(summary.pictures),
                 out ? "built into " : "looked at", out ? out : "",
                 summary.skipped ? "; those left out are named above" : "",
                 summary.unused_files ? "; files that are not used are named above" : "");
    return status;
}

/* Looking ---------------------------------------------------------------------------------------------- */

static Status find_changes(const Source *s, const char *built, const volatile sig_atomic_t *stop,
                           DatasetChanges *out)
{
    Dataset *d = NULL;
    const DatasetBuild b = {.folder = s->config->path,
                            .caption = caption_for_missing(s),
                            .skip_bad = s->config->skip_bad,
                            .folder_names = s->config->folder_names,
                            .stop = stop};
    TRY(dataset_open(built, &d));
    const Status status = dataset_compare(d, &b, out);
    dataset_close(d);
    return status;
}

/* Class pictures are those that the run began with, whatever came later; that is said where they differ. */
static Status compare_class(const Source *s, const char *built, const volatile sig_atomic_t *stop)
{
    DatasetChanges c;
    if (!file_is_dir(s->config->path))
        return STATUS_OK;
    TRY(find_changes(s, built, stop, &c));
    if (c.pictures + c.gone)
        log_info(
            "%s: since the run began %d of the class pictures %s edited or removed; the run's own copy of "
            "them is used: %s",
            s->config->path, c.pictures + c.gone, c.pictures + c.gone == 1 ? "was" : "were", built);
    return STATUS_OK;
}

/* The run's own copy of a folder's pictures, against the folder. *changed: it is not to be used. */
static Status compare_built(const Source *s, const char *built, SourcesKept keep,
                            const volatile sig_atomic_t *stop, bool *changed)
{
    DatasetChanges c;
    char text[256];
    const char *path = s->config->path;
    TRY(find_changes(s, built, stop, &c));
    *changed = dataset_changed(&c);
    dataset_changes_text(&c, text, sizeof text);
    if (!*changed)
        log_info("%s: the run's own copy of its %d picture%s is used again, nothing has changed since it was "
                 "made: %s",
                 path, c.same, text_plural(c.same), built);
    else if (keep == SOURCES_KEPT_OR_ANEW)
        log_warn("%s: since the run began %s, %d are as they were; its copy of them is built anew", path,
                 text, c.same);
    else
        return status_refuse(
            "%s: since the run began %s, %d are as they were. Going on would end in something "
            "that was never begun: put back what it was, begin a new run in another output.dir, "
            "or go on all the same with --allow-changes",
            path, text, c.same);
    return STATUS_OK;
}

Status built_look(const Source *s, const char *built, SourcesKept keep, const volatile sig_atomic_t *stop,
                  bool *kept)
{
    const char *path = s->config->path;
    bool changed = false;
    *kept = keep != SOURCES_ANEW && built && file_exists(built) && (!file_exists(path) || file_is_dir(path));
    if (keep == SOURCES_SEEN && !*kept && file_is_dir(path))
        return status_refuse("%s: process 0 has built no dataset of this folder's name (there is no %s); the "
                             "datasets have to be the same for all processes",
                             path, built);
    if (!*kept || keep == SOURCES_SEEN)
        return STATUS_OK;
    if (s->caption)
        return compare_class(s, built, stop);
    if (file_exists(path))
        TRY(compare_built(s, built, keep, stop, &changed));
    else
        log_info("%s: is not there any more; the run's own copy of its pictures is used: %s", path, built);
    *kept = !changed;
    return STATUS_OK;
}
