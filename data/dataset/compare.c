/* Both lists are by name; one walk goes through them side by side. */
#include "compare.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "kernels/base/stop.h"
#include "scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ENCODED ((size_t)1 << 30)

typedef struct Named {
    const char *name;
    int i;
} Named;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Named *)a)->name, ((const Named *)b)->name);
}

static Status read_picture(const Scan *scan, const ScanPicture *p, char **bytes, size_t *size)
{
    char *path = path_join(scan->folder, p->name);
    const Status s = path ? file_read(path, MAX_ENCODED, bytes, size) : STATUS_FAILED;
    mem_free(path);
    return s;
}

/* Is its mask as it was, or is there none as before? */
static Status compare_mask(const Dataset *d, int i, const Scan *scan, const ScanPicture *p, bool *same)
{
    char *path = p->mask ? path_join(scan->folder, p->mask) : NULL, *bytes = NULL;
    size_t size = 0;
    uint8_t hash[SHA256_SIZE];
    *same = !p->mask && !dataset_has_mask(d, i);
    if (!p->mask || !dataset_has_mask(d, i))
        return STATUS_OK;
    const Status s = path ? file_read(path, MAX_ENCODED, &bytes, &size) : STATUS_FAILED;
    mem_free(path);
    if (s != STATUS_OK)
        return status_is_memory() ? s : STATUS_OK;
    sha256(bytes, size, hash);
    mem_free(bytes);
    *same = memcmp(hash, dataset_mask_sha256(d, i), SHA256_SIZE) == 0;
    return STATUS_OK;
}

static Status compare_one(const Dataset *d, int i, const Scan *scan, const ScanPicture *p, DatasetChanges *c)
{
    char *bytes = NULL;
    size_t size = 0;
    uint8_t hash[SHA256_SIZE], then[SHA256_SIZE];
    const Status s = read_picture(scan, p, &bytes, &size);
    if (s != STATUS_OK && status_is_memory())
        return s;
    if (s == STATUS_OK)
        sha256(bytes, size, hash);
    mem_free(bytes);
    dataset_sha256(d, i, then);
    const bool picture = s != STATUS_OK || memcmp(hash, then, SHA256_SIZE) != 0;
    const bool caption = strcmp(p->caption ? p->caption : "", dataset_caption(d, i)) != 0;
    const bool repeats = p->repeats != dataset_repeats(d, i);
    bool mask;
    TRY(compare_mask(d, i, scan, p, &mask));
    c->masks += !mask;
    c->pictures += picture;
    c->captions += caption;
    c->repeats += repeats;
    c->same += !picture && !caption && !repeats && mask;
    return STATUS_OK;
}

/* A picture that the dataset has not: new, unless it is one that was left out. */
static Status look_at_new(const DatasetBuild *b, const Scan *scan, const ScanPicture *p, DatasetChanges *c)
{
    char *bytes = NULL;
    size_t size = 0;
    PictureFacts facts;
    Status s = STATUS_OK;
    if (b->skip_bad) {
        s = read_picture(scan, p, &bytes, &size);
        if (s == STATUS_OK)
            s = picture_check((uint8_t *)bytes, size, &facts);
        mem_free(bytes);
    }
    if (s != STATUS_OK && status_is_memory())
        return s;
    c->added += s == STATUS_OK;
    return STATUS_OK;
}

static Status walk(const Dataset *d, const DatasetBuild *b, const Scan *scan, const Named *then,
                   const Named *now, DatasetChanges *c)
{
    int i = 0, k = 0;
    while (i < dataset_count(d) || k < scan->count) {
        const int order = i == dataset_count(d) ? 1
                          : k == scan->count    ? -1
                                                : strcmp(then[i].name, now[k].name);
        if (stop_asked(b->stop))
            return status_interrupted();
        if (order < 0) {
            c->gone++;
        } else if (order > 0) {
            TRY(look_at_new(b, scan, &scan->pictures[now[k].i], c));
        } else {
            TRY(compare_one(d, then[i].i, scan, &scan->pictures[now[k].i], c));
        }
        i += order <= 0;
        k += order >= 0;
    }
    return STATUS_OK;
}

Status dataset_compare(const Dataset *d, const DatasetBuild *b, DatasetChanges *out)
{
    Scan scan;
    const int count = dataset_count(d);
    *out = (DatasetChanges){0};
    TRY(scan_folder(b->folder, b->caption, b->folder_names, NULL, &scan));
    Named *then = mem_alloc((size_t)count * sizeof *then), *now = mem_alloc((size_t)scan.count * sizeof *now);
    Status s = then && (now || !scan.count) ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < count && s == STATUS_OK; i++)
        then[i] = (Named){dataset_name(d, i), i};
    for (int i = 0; i < scan.count && s == STATUS_OK; i++)
        now[i] = (Named){scan.pictures[i].shown, i};
    if (s == STATUS_OK) {
        qsort(then, (size_t)count, sizeof *then, by_name);
        if (scan.count)
            qsort(now, (size_t)scan.count, sizeof *now, by_name);
        s = walk(d, b, &scan, then, now, out);
    }
    mem_free(then);
    mem_free(now);
    scan_free(&scan);
    return s;
}

bool dataset_changed(const DatasetChanges *c)
{
    return c->pictures + c->masks + c->captions + c->repeats + c->added + c->gone > 0;
}

static void add(char *text, size_t size, int count, const char *one, const char *more)
{
    const size_t used = strlen(text);
    if (count)
        snprintf(text + used, size - used, "%s%d %s", used ? ", " : "", count, count == 1 ? one : more);
}

const char *dataset_changes_text(const DatasetChanges *c, char *text, size_t size)
{
    text[0] = 0;
    add(text, size, c->pictures, "picture was edited", "pictures were edited");
    add(text, size, c->masks, "mask was changed", "masks were changed");
    add(text, size, c->captions, "caption was changed", "captions were changed");
    add(text, size, c->repeats, "picture comes another number of times",
        "pictures come another number of times");
    add(text, size, c->added, "picture was added", "pictures were added");
    add(text, size, c->gone, "picture is gone", "pictures are gone");
    return text;
}
