/* dataset_lint: one look at everything, where building stops at the first fault. */
#include "lint.h"

#include "data/dataset/dataset.h"
#include "data/dataset/masks.h"
#include "data/dataset/scan.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "kernels/base/stop.h"
#include "lint_set.h"
#include "sheet.h"

/* asked: the doubtful ones are errors already. */
static void tell_folders(const Lint *l, const FoldersTaken *taken, bool asked)
{
    char text[1024];
    for (int i = 0; i < taken->count; i++)
        if (!asked || !folder_doubt(&taken->items[i]))
            lint_tell(l, LINT_NOTE, "taken from a folder's name: %s",
                      folder_describe(&taken->items[i], text, sizeof text));
}

/* A folder --------------------------------------------------------------------------------------------- */

/* What was seen of a picture. */
typedef struct Looked {
    PictureFacts facts;
    bool good;
    Size whole;    /* where there is a picture */
    Picture small; /* as a sheet shows it; empty: it cannot be decoded */
} Looked;

/* Frees what was looked at. */
static Status put_on_sheet(const Lint *l, const char *name, const char *caption, Looked *p)
{
    const Status s =
        l->sheet ? sheet_add(l->sheet, name, caption, p->small.rgb ? &p->small : NULL, p->whole) : STATUS_OK;
    picture_free(&p->small);
    return s;
}

static void decode_small(const uint8_t *bytes, size_t size, Looked *p)
{
    const Size fit = sheet_size(p->whole);
    if (picture_decode_window(bytes, size, fit, &(PictureWindow){.whole = fit, .size = fit}, &p->small) !=
        STATUS_OK)
        p->small = (Picture){0};
}

/* Looks at an encoded picture; what is wrong with it is told under its name. Fails where memory ran out. */
static Status look_at(const Lint *l, LintSet *set, int i, const char *name, const uint8_t *bytes, size_t size,
                      Looked *out)
{
    int orientation;
    Picture tiny;
    const bool known = picture_info(bytes, size, &out->whole, &orientation) == STATUS_OK;
    Status s = picture_check_small(bytes, size, &out->facts, known ? sheet_size(out->whole) : ALIKE_SIZE,
                                   &out->small);
    if (s != STATUS_OK && status_is_memory())
        return s;
    if (s != STATUS_OK) {
        lint_tell(l, LINT_ERROR, "%s: %s", name, status_message());
        if (known && l->sheet) /* too small to train on, and yet a picture */
            decode_small(bytes, size, out);
        return STATUS_OK;
    }
    out->good = true;
    TRY(picture_resize(&out->small, ALIKE_SIZE, &tiny));
    s = lint_set_look(set, i, &out->facts, &tiny);
    picture_free(&tiny);
    return s;
}

/* Its mask, where it could be read itself. bytes NULL: it has none. */
static Status look_at_mask(const Lint *l, LintSet *set, int i, const char *name, Size picture,
                           const uint8_t *bytes, size_t size)
{
    bool black = false;
    if (!bytes)
        return lint_set_mask(set, i, LINT_NO_MASK);
    if (mask_check(bytes, size, picture, &black) == STATUS_OK)
        return lint_set_mask(set, i, black ? LINT_BLACK_MASK : LINT_GOOD_MASK);
    if (status_is_memory())
        return STATUS_FAILED;
    lint_tell(l, LINT_ERROR, "the mask of %s: %s", name, status_message());
    return STATUS_OK;
}

/* Each picture in turn, and then all of them together. */
static Status look_at_all(const Lint *l, const LintPictures *pictures,
                          Status (*look)(const Lint *l, LintSet *set, const void *pictures, int i))
{
    LintSet *set;
    Status s = lint_set_new(l, pictures, &set);
    if (s == STATUS_OK && l->progress && pictures->count)
        l->progress(0, pictures->count, l->arg);
    for (int i = 0; i < pictures->count && s == STATUS_OK; i++) {
        s = look(l, set, pictures->set, i);
        if (l->progress)
            l->progress(i + 1, pictures->count, l->arg);
        if (stop_asked(l->stop))
            s = status_interrupted();
    }
    if (s == STATUS_OK)
        s = lint_set_tell(set);
    lint_set_free(set);
    return s;
}

static const char *file_name(const void *set, int i)
{
    return ((const Scan *)set)->pictures[i].shown;
}

static const char *file_caption(const void *set, int i)
{
    return ((const Scan *)set)->pictures[i].caption;
}

static Status look_at_mask_file(const Lint *l, LintSet *set, const Scan *scan, int i, Size picture)
{
    const ScanPicture *p = &scan->pictures[i];
    char *path = p->mask ? path_join(scan->folder, p->mask) : NULL, *bytes = NULL;
    size_t size = 0;
    Status s = !p->mask ? STATUS_OK : path ? file_read(path, SIZE_MAX / 2, &bytes, &size) : STATUS_FAILED;
    mem_free(path);
    if (s == STATUS_OK) {
        s = look_at_mask(l, set, i, p->shown, picture, (uint8_t *)bytes, size);
    } else if (!status_is_memory()) {
        lint_tell(l, LINT_ERROR, "the mask of %s: %s", p->shown, status_message());
        s = STATUS_OK;
    }
    mem_free(bytes);
    return s;
}

static Status look_at_file(const Lint *l, LintSet *set, const void *pictures, int i)
{
    const Scan *scan = pictures;
    const ScanPicture *p = &scan->pictures[i];
    char *path = path_join(scan->folder, p->name), *bytes = NULL;
    size_t size;
    uint8_t hash[SHA256_SIZE];
    Looked looked = {0};
    Status s = path ? file_read(path, SIZE_MAX / 2, &bytes, &size) : STATUS_FAILED;
    mem_free(path);
    if (s == STATUS_OK) {
        sha256(bytes, size, hash);
        lint_set_hash(set, i, hash);
        s = look_at(l, set, i, p->shown, (uint8_t *)bytes, size, &looked);
        if (s == STATUS_OK && looked.good)
            s = look_at_mask_file(l, set, scan, i, looked.facts.size);
    } else if (!status_is_memory()) {
        lint_tell(l, LINT_ERROR, "%s", status_message());
        s = STATUS_OK;
    }
    if (s == STATUS_OK)
        s = put_on_sheet(l, p->shown, p->caption, &looked);
    picture_free(&looked.small);
    mem_free(bytes);
    return s;
}

static void tell_caption(const Lint *l, const ScanPicture *p)
{
    if (!p->caption)
        lint_tell(l, LINT_ERROR, "%s: has no caption%s%s%s", p->shown, p->blank ? "; " : "",
                  p->blank ? p->blank : "", p->blank ? " is empty" : "");
    else if (p->blank)
        lint_tell(l, LINT_NOTE, "%s is empty; %s has the caption \"%s\" instead", p->blank, p->shown,
                  p->caption);
}

/* A line for each that is missing; where all are, nobody needs the list. */
static void tell_captions(const Lint *l, const Scan *scan)
{
    int wordless = 0;
    while (wordless < scan->count && !scan->pictures[wordless].caption && !scan->pictures[wordless].blank)
        wordless++;
    if (wordless == scan->count && wordless > 1)
        lint_tell(
            l, LINT_ERROR,
            "none of the %d pictures has a caption; put the text into NAME.txt beside each, or give one "
            "for all (data build --caption, dataset.caption.missing)",
            wordless);
    else
        for (int i = 0; i < scan->count; i++)
            tell_caption(l, &scan->pictures[i]);
}

static Status lint_scan(const Lint *l, const Scan *scan)
{
    for (int i = 0; i < scan->problems.count; i++)
        lint_tell(l, LINT_ERROR, "%s", scan->problems.items[i]);
    if (scan->count == 0)
        lint_tell(l, LINT_ERROR, "%s: no pictures (JPEG, PNG, WebP)", l->path);
    for (int i = 0; i < scan->unused.count; i++)
        lint_tell(l, LINT_NOTE, "not used: %s", scan->unused.items[i]);
    if (scan->named_itself)
        lint_tell(l, LINT_NOTE,
                  "%s: its own name is not taken as repeats and caption, only those of folders in it are",
                  l->path);
    for (int i = 0; i < scan->numbered.count; i++)
        lint_tell(l, LINT_NOTE, "not taken as repeats: %s", scan->numbered.items[i]);
    FoldersTaken taken;
    TRY(scan_folders(scan, &taken));
    tell_folders(l, &taken, l->folder_names == FOLDER_NAMES_AUTO);
    folders_taken_free(&taken);
    tell_captions(l, scan);
    const LintPictures pictures = {scan, scan->count, file_name, file_caption};
    return look_at_all(l, &pictures, look_at_file);
}

/* A dataset file --------------------------------------------------------------------------------------- */

static const char *entry_name(const void *set, int i)
{
    return dataset_name(set, i);
}

static const char *entry_caption(const void *set, int i)
{
    const char *caption = dataset_caption(set, i);
    return *caption ? caption : NULL;
}

static Status look_at_entry_mask(const Lint *l, LintSet *set, const Dataset *d, int i)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (dataset_has_mask(d, i) && dataset_mask_bytes(d, i, &bytes, &size) != STATUS_OK) {
        if (status_is_memory())
            return STATUS_FAILED;
        lint_tell(l, LINT_ERROR, "%s: %s", dataset_name(d, i), status_message());
        return STATUS_OK;
    }
    const Status s = look_at_mask(l, set, i, dataset_name(d, i), dataset_size(d, i), bytes, size);
    mem_free(bytes);
    return s;
}

static Status look_at_entry(const Lint *l, LintSet *set, const void *pictures, int i)
{
    const Dataset *d = pictures;
    const char *name = dataset_name(d, i);
    const Size stored = dataset_size(d, i);
    uint8_t hash[SHA256_SIZE];
    uint8_t *bytes;
    size_t size;
    Looked looked = {0};
    if (!dataset_caption(d, i)[0])
        lint_tell(l, LINT_NOTE, "%s: has no caption", name);
    dataset_sha256(d, i, hash);
    lint_set_hash(set, i, hash);
    if (dataset_bytes(d, i, &bytes, &size) != STATUS_OK) {
        if (status_is_memory())
            return STATUS_FAILED;
        lint_tell(l, LINT_ERROR, "%s: %s", name, status_message());
        return put_on_sheet(l, name, entry_caption(d, i), &looked);
    }
    Status s = look_at(l, set, i, name, bytes, size, &looked);
    if (s == STATUS_OK)
        s = put_on_sheet(l, name, entry_caption(d, i), &looked);
    picture_free(&looked.small);
    mem_free(bytes);
    if (s == STATUS_OK && looked.good)
        s = look_at_entry_mask(l, set, d, i);
    if (s == STATUS_OK && looked.good && !size_equal(looked.facts.size, stored))
        lint_tell(l, LINT_ERROR, "%s: is %d x %d, but %d x %d is written down; build the dataset again", name,
                  looked.facts.size.width, looked.facts.size.height, stored.width, stored.height);
    return s;
}

static Status lint_dataset(const Lint *l, Dataset *d)
{
    FoldersTaken taken;
    TRY(dataset_folders(d, &taken));
    tell_folders(l, &taken, false);
    folders_taken_free(&taken);
    const LintPictures pictures = {d, dataset_count(d), entry_name, entry_caption};
    return look_at_all(l, &pictures, look_at_entry);
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
        lint_tell(l, LINT_ERROR, "%s", status_message());
        return opened == STATUS_REFUSED ? opened : STATUS_OK;
    }
    *pictures = dataset_count(d);
    const Status s = lint_dataset(l, d);
    dataset_close(d);
    return s;
}
