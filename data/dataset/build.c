/* dataset_build: a folder becomes a dataset file in one pass. Captions are looked for first, so that a
 * picture without one is told of at once and not after minutes; then each picture is read, decoded to be sure
 * that it is whole, and appended. Memory: one picture at a time. */
#include "dataset.h"

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "layout.h"
#include "masks.h"
#include "scan.h"
#include "view.h"

#include <stdio.h>

#define MAX_ENCODED ((size_t)1 << 30)
#define NAMES 1024 /* room for some names in a message */

static Status check_scan(const DatasetBuild *b, const Scan *scan)
{
    char names[NAMES], unused[NAMES];
    const int more = scan->problems.count - 1;
    if (scan->problems.count) {
        if (more)
            return status_fail("%s (and %d more; `atelier data lint` lists them)", scan->problems.items[0],
                               more);
        return status_fail("%s", scan->problems.items[0]);
    }
    if (scan->count == 0)
        return status_refuse(
            "%s: no pictures (JPEG, PNG, WebP) in it%s%s; put some there, or name another folder", b->folder,
            scan->unused.count ? "; not used: " : "", scan_list_names(&scan->unused, names, sizeof names));
    if (scan->without_caption)
        return status_fail(
            "%s: %d of %d picture%s %s no caption: %s; put the text into NAME.txt beside each, or give "
            "one for all with --caption (in a run's configuration: dataset.caption.missing)%s%s%s",
            b->folder, scan->without_caption, scan->count, text_plural(scan->count),
            scan->without_caption == 1 ? "has" : "have",
            scan_names_without_caption(scan, names, sizeof names),
            scan->named_itself ? "; the folder's own name is none: name the folder around it to have it taken"
                               : "",
            scan->unused.count ? "; not used: " : "", scan_list_names(&scan->unused, unused, sizeof unused));
    return STATUS_OK;
}

/* Where pictures go: into a file, or into rows. */
typedef struct Sink {
    DatasetWriter *file; /* NULL: rows */
    View rows;
} Sink;

/* Its mask, whole and of its shape. *path NULL: it has none. What cannot be used is *bad. */
static Status read_mask(const DatasetBuild *b, const Scan *scan, const ScanPicture *p, Size picture,
                        char **path, char **bytes, size_t *size)
{
    bool black;
    if (!p->mask)
        return STATUS_OK;
    *path = path_join(scan->folder, p->mask);
    TRY(*path ? file_read(*path, MAX_ENCODED, bytes, size) : STATUS_FAILED);
    return status_in(mask_check((uint8_t *)*bytes, *size, picture, &black), "the mask of %s/%s", b->folder,
                     p->shown);
}

static Status add_picture(const DatasetBuild *b, const Scan *scan, const ScanPicture *p, Sink *to, bool *bad)
{
    char *path = path_join(scan->folder, p->name), *bytes = NULL, *mask_path = NULL, *mask = NULL;
    size_t size = 0, mask_size = 0;
    PictureFacts facts = {0};
    DatasetEntry e = {.name = p->shown, .caption = p->caption, .repeats = p->repeats};
    Status s = path ? file_read(path, MAX_ENCODED, &bytes, &size) : STATUS_FAILED;
    if (s == STATUS_OK)
        s = status_in(picture_check((uint8_t *)bytes, size, &facts), "%s/%s", b->folder, p->shown);
    if (s == STATUS_OK)
        s = read_mask(b, scan, p, facts.size, &mask_path, &mask, &mask_size);
    *bad = s != STATUS_OK && !status_is_memory();
    e.picture = facts.size;
    e.orientation = facts.orientation;
    e.odd = facts.odd;
    e.bytes = (const uint8_t *)bytes;
    e.size = size;
    e.mask = (const uint8_t *)mask;
    e.mask_size = mask_size;
    if (s == STATUS_OK)
        s = to->file ? dataset_writer_add(to->file, &e) : view_add(&to->rows, &e, path, mask_path);
    mem_free(bytes);
    mem_free(path);
    mem_free(mask);
    mem_free(mask_path);
    return s;
}

static Status add_pictures(const DatasetBuild *b, const Scan *scan, Sink *to, DatasetSummary *summary)
{
    if (b->progress)
        b->progress(0, scan->count, b->arg);
    for (int i = 0; i < scan->count; i++) {
        bool bad;
        if (stop_asked(b->stop))
            return status_interrupted();
        const Status s = add_picture(b, scan, &scan->pictures[i], to, &bad);
        if (s != STATUS_OK && !bad)
            return s;
        if (s != STATUS_OK && !b->skip_bad)
            return status_fail(
                "%s; fix or remove it, or leave it out with --skip-bad (in a run's configuration: "
                "dataset.skip_bad: true)",
                status_message());
        if (s != STATUS_OK) {
            log_warn("left out: %s", status_message());
            summary->skipped++;
            TRY(to->file ? dataset_writer_leave_out(to->file, scan->pictures[i].shown) : STATUS_OK);
        } else {
            summary->pictures++;
            summary->masks += scan->pictures[i].mask != NULL;
        }
        if (b->progress)
            b->progress(i + 1, scan->count, b->arg);
    }
    if (summary->pictures == 0)
        return status_fail("%s: none of the %d picture%s can be used", b->folder, scan->count,
                           text_plural(scan->count));
    return STATUS_OK;
}

static uint64_t encoded_bytes(const Scan *scan)
{
    uint64_t sum = 0;
    for (int i = 0; i < scan->count; i++) {
        char *path = path_join(scan->folder, scan->pictures[i].name);
        const int64_t size = path ? file_size(path) : 0;
        sum += size > 0 ? (uint64_t)size : 0;
        mem_free(path);
    }
    return sum;
}

/* What nobody said, once it is done. */
static void tell_choices(const DatasetBuild *b, const Scan *scan)
{
    char names[NAMES];
    if (scan->named_itself)
        log_warn(
            "%s: its own name is not taken as repeats and caption, only those of folders in it are; name the "
            "folder around it to have it taken",
            b->folder);
    if (scan->for_all.count)
        log_info("%s: %d of %d picture%s %s no caption of %s own and get%s \"%s\": %s", b->folder,
                 scan->for_all.count, scan->count, text_plural(scan->count),
                 scan->for_all.count == 1 ? "has" : "have", scan->for_all.count == 1 ? "its" : "their",
                 scan->for_all.count == 1 ? "s" : "", b->caption,
                 scan_list_names(&scan->for_all, names, sizeof names));
    if (scan->blank.count)
        log_info("%s: %d caption file%s empty, and the picture%s got that caption or the folder's: %s",
                 b->folder, scan->blank.count, scan->blank.count == 1 ? " is" : "s are",
                 scan->blank.count == 1 ? "" : "s", scan_list_names(&scan->blank, names, sizeof names));
    if (scan->numbered.count)
        log_warn("%s: folders whose number is not taken as repeats: %s", b->folder,
                 scan_list_names(&scan->numbered, names, sizeof names));
}

/* Before pictures are looked at. */
static Status begin(const DatasetBuild *b, const Scan *scan, DatasetSummary *summary)
{
    char names[NAMES];
    summary->without_caption = scan->without_caption;
    summary->unused_files = scan->unused.count;
    TRY(check_scan(b, scan));
    if (scan->unused.count)
        log_warn("%s: not used: %s", b->folder, scan_list_names(&scan->unused, names, sizeof names));
    return STATUS_OK;
}

static Status build(const DatasetBuild *b, const Scan *scan, DatasetSummary *summary)
{
    Sink to = {0};
    TRY(begin(b, scan, summary));
    TRY(dataset_writer_open(b->out, encoded_bytes(scan), &to.file));
    const Status s = add_pictures(b, scan, &to, summary);
    if (s != STATUS_OK) {
        dataset_writer_abort(to.file);
        return s;
    }
    TRY(dataset_writer_commit(to.file, path_base(scan->folder)));
    tell_choices(b, scan);
    return STATUS_OK;
}

static Status look(const DatasetBuild *b, const Scan *scan, DatasetSummary *summary, Dataset **view)
{
    Sink to = {0};
    TRY(begin(b, scan, summary));
    Status s = add_pictures(b, scan, &to, summary);
    if (s == STATUS_OK)
        s = dataset_of_view(&to.rows, b->folder, summary->skipped, view);
    view_free(&to.rows);
    if (s == STATUS_OK)
        tell_choices(b, scan);
    return s;
}

Status dataset_build(const DatasetBuild *b, DatasetSummary *summary)
{
    DatasetSummary none;
    if (!summary)
        summary = &none;
    *summary = (DatasetSummary){0};
    Scan scan;
    TRY(scan_folder(b->folder, b->caption, b->folder_names, b->out, &scan));
    const Status s = build(b, &scan, summary);
    scan_free(&scan);
    return s;
}

Status dataset_view(const DatasetBuild *b, DatasetSummary *summary, Dataset **view)
{
    Scan scan;
    *view = NULL;
    *summary = (DatasetSummary){0};
    TRY(scan_folder(b->folder, b->caption, b->folder_names, NULL, &scan));
    const Status s = look(b, &scan, summary, view);
    scan_free(&scan);
    return s;
}
