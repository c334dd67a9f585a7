/* dataset_lint: one look at everything, where building stops at the first fault. */
#include "lint.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "dataset.h"
#include "remarks.h"
#include "scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void tell(const Lint *l, bool error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void tell(const Lint *l, bool error, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    l->report(error, text, l->arg);
}

/* Equal pictures --------------------------------------------------------------------------------------- */

typedef struct Known {
    uint8_t sha256[SHA256_SIZE];
    const char *name; /* NULL: could not be read */
} Known;

static int by_hash(const void *a, const void *b)
{
    const Known *p = a, *q = b;
    const int order = memcmp(p->sha256, q->sha256, SHA256_SIZE);
    return order ? order : strcmp(p->name ? p->name : "", q->name ? q->name : "");
}

static void tell_equal(const Lint *l, Known *known, int count)
{
    if (count)
        qsort(known, (size_t)count, sizeof *known, by_hash);
    for (int i = 1; i < count; i++)
        if (known[i].name && known[i - 1].name &&
            memcmp(known[i].sha256, known[i - 1].sha256, SHA256_SIZE) == 0)
            tell(l, false, "%s is the same file as %s", known[i].name, known[i - 1].name);
}

/* asked: the doubtful ones are errors already. */
static void tell_folders(const Lint *l, const FoldersTaken *taken, bool asked)
{
    char text[1024];
    for (int i = 0; i < taken->count; i++)
        if (!asked || !folder_doubt(&taken->items[i]))
            tell(l, false, "taken from a folder's name: %s",
                 folder_describe(&taken->items[i], text, sizeof text));
}

/* A folder --------------------------------------------------------------------------------------------- */

static void tell_remarks(const Lint *l, const Remarks *r)
{
    char text[2048];
    for (int k = 0; k < REMARK_KINDS; k++)
        if (remark_text(r, (RemarkKind)k, text, sizeof text))
            tell(l, false, "%s", text);
}

static Status look_at_file(const Lint *l, const Scan *scan, const ScanPicture *p, Known *known,
                           Remarks *remarks)
{
    char *path = path_join(scan->folder, p->name), *bytes = NULL;
    size_t size;
    PictureFacts facts;
    Status s = path ? file_read(path, SIZE_MAX / 2, &bytes, &size) : STATUS_FAILED;
    if (s == STATUS_OK) {
        s = status_in(picture_check((uint8_t *)bytes, size, &facts), "%s", p->shown);
        sha256(bytes, size, known->sha256);
        known->name = p->shown;
    }
    if (s == STATUS_OK)
        s = remarks_add(remarks, p->shown, facts.odd, facts.size, l->size);
    const bool no_memory = s != STATUS_OK && status_is_memory();
    if (s != STATUS_OK && !no_memory)
        tell(l, true, "%s", status_message());
    if (!p->caption)
        tell(l, true, "%s: has no caption%s%s%s", p->shown, p->blank ? "; " : "", p->blank ? p->blank : "",
             p->blank ? " is empty" : "");
    else if (p->blank)
        tell(l, false, "%s is empty; %s has the caption \"%s\" instead", p->blank, p->shown, p->caption);
    mem_free(bytes);
    mem_free(path);
    return no_memory ? s : STATUS_OK;
}

static Status lint_scan(const Lint *l, const Scan *scan)
{
    for (int i = 0; i < scan->problems.count; i++)
        tell(l, true, "%s", scan->problems.items[i]);
    if (scan->count == 0)
        tell(l, true, "%s: no pictures (JPEG, PNG, WebP)", l->path);
    for (int i = 0; i < scan->unused.count; i++)
        tell(l, false, "not used: %s", scan->unused.items[i]);
    if (scan->named_itself)
        tell(l, false,
             "%s: its own name is not taken as repeats and caption, only those of folders in it are",
             l->path);
    for (int i = 0; i < scan->numbered.count; i++)
        tell(l, false, "not taken as repeats: %s", scan->numbered.items[i]);
    FoldersTaken taken;
    TRY(scan_folders(scan, &taken));
    tell_folders(l, &taken, l->folder_names == FOLDER_NAMES_AUTO);
    folders_taken_free(&taken);
    Known *known = mem_calloc((size_t)scan->count, sizeof *known);
    if (!known)
        return STATUS_FAILED;
    Remarks remarks = {0};
    Status s = STATUS_OK;
    if (l->progress)
        l->progress(0, scan->count, l->arg);
    for (int i = 0; i < scan->count && s == STATUS_OK; i++) {
        s = look_at_file(l, scan, &scan->pictures[i], &known[i], &remarks);
        if (l->progress)
            l->progress(i + 1, scan->count, l->arg);
        if (l->stop && *l->stop)
            s = status_interrupted();
    }
    if (s == STATUS_OK) {
        tell_equal(l, known, scan->count);
        tell_remarks(l, &remarks);
    }
    remarks_free(&remarks);
    mem_free(known);
    return s;
}

/* A dataset file --------------------------------------------------------------------------------------- */

static Status look_at_entry(const Lint *l, Dataset *d, int i, Remarks *remarks)
{
    uint8_t *bytes;
    size_t size;
    const char *name = dataset_name(d, i);
    if (!dataset_caption(d, i)[0])
        tell(l, false, "%s: has no caption", name);
    if (dataset_bytes(d, i, &bytes, &size) != STATUS_OK) {
        if (status_is_memory())
            return STATUS_FAILED;
        tell(l, true, "%s: %s", name, status_message());
        return STATUS_OK;
    }
    PictureFacts facts;
    Status s = STATUS_OK;
    const Size stored = dataset_size(d, i);
    if ((s = picture_check(bytes, size, &facts)) != STATUS_OK && !status_is_memory())
        tell(l, true, "%s: %s", name, status_message());
    else if (s == STATUS_OK && !size_equal(facts.size, stored))
        tell(l, true, "%s: is %d x %d, but %d x %d is written down; build the dataset again", name,
             facts.size.width, facts.size.height, stored.width, stored.height);
    else if (s == STATUS_OK)
        s = remarks_add(remarks, name, facts.odd, facts.size, l->size);
    mem_free(bytes);
    return s != STATUS_OK && status_is_memory() ? s : STATUS_OK;
}

static Status lint_dataset(const Lint *l, Dataset *d)
{
    const int count = dataset_count(d);
    FoldersTaken taken;
    TRY(dataset_folders(d, &taken));
    tell_folders(l, &taken, false);
    folders_taken_free(&taken);
    Known *known = mem_calloc((size_t)count, sizeof *known);
    if (!known)
        return STATUS_FAILED;
    Remarks remarks = {0};
    Status s = STATUS_OK;
    if (l->progress)
        l->progress(0, count, l->arg);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        s = look_at_entry(l, d, i, &remarks);
        memcpy(known[i].sha256, dataset_sha256(d, i), SHA256_SIZE);
        known[i].name = dataset_name(d, i);
        if (l->progress)
            l->progress(i + 1, count, l->arg);
        if (l->stop && *l->stop)
            s = status_interrupted();
    }
    if (s == STATUS_OK) {
        tell_equal(l, known, count);
        tell_remarks(l, &remarks);
    }
    remarks_free(&remarks);
    mem_free(known);
    return s;
}

Status dataset_lint(const Lint *l, int *pictures)
{
    *pictures = 0;
    if (file_is_dir(l->path)) {
        Scan scan;
        TRY(scan_folder(l->path, NULL, l->folder_names, NULL, &scan));
        *pictures = scan.count;
        const Status s = lint_scan(l, &scan);
        scan_free(&scan);
        return s;
    }
    if (!file_exists(l->path))
        return file_missing(l->path, "file or folder");
    Dataset *d;
    const Status opened = dataset_open(l->path, &d);
    if (opened != STATUS_OK) {
        tell(l, true, "%s", status_message());
        return opened == STATUS_REFUSED ? opened : STATUS_OK;
    }
    *pictures = dataset_count(d);
    const Status s = lint_dataset(l, d);
    dataset_close(d);
    return s;
}
