/* HDF5 dataset and cache files, through every function that reads one. */
#include "fuzz.h"

#include "data/cache/cache.h"
#include "data/pictures/picture.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <string.h>

#define CACHED 64 /* floats of an entry that is read */

/* The last array of a cache that the file has. */
typedef struct Seen {
    char name[64];
    CacheKind kind;
    size_t count;
} Seen;

static void see_cache(const char *key, const CacheArray *a, size_t count, void *arg)
{
    Seen *seen = arg;
    if (strlen(key) >= CACHE_KEY_SIZE || strlen(a->name) >= sizeof seen->name || count == 0 || count > 100 ||
        cache_floats(a) > CACHED)
        return;
    seen->kind = (CacheKind){.what = "seen", .arrays = {*a}, .count = 1, .together = 1};
    strcpy(seen->kind.key, key);
    seen->kind.arrays[0].name = strcpy(seen->name, a->name);
    seen->count = count;
}

static void read_cache(const char *path)
{
    Seen seen = {.count = 0};
    const uint8_t hash[32] = {0};
    float values[CACHED];
    bool found;
    DatasetCache *c;
    cache_list(path, see_cache, &seen);
    if (seen.count == 0 || cache_open(path, &seen.kind, (int)seen.count, &c) != STATUS_OK)
        return;
    for (int i = 0; i < (int)seen.count; i++)
        fuzz_check(cache_read(c, 0, i, hash, values, &found));
    cache_close(c);
}

static void look_at(const Dataset *d)
{
    for (int i = 0; i < dataset_count(d); i++) {
        uint8_t *bytes = NULL, hash[32];
        size_t size;
        const Size side = dataset_size(d, i);
        if (side.width < 1 || side.height < 1 || side.width > PICTURE_MAX_SIDE ||
            side.height > PICTURE_MAX_SIDE)
            fuzz_fail("an impossible size");
        if (text_invalid_utf8(dataset_name(d, i), strlen(dataset_name(d, i))) >= 0 ||
            text_invalid_utf8(dataset_caption(d, i), strlen(dataset_caption(d, i))) >= 0)
            fuzz_fail("text that is not UTF-8");
        dataset_caption_sha256(d, i, hash);
        if (dataset_encoded_size(d, i) < 1 << 20 && dataset_bytes(d, i, &bytes, &size) == STATUS_OK)
            mem_free(bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    Dataset *d;
    const Status s = dataset_open(path, &d);
    fuzz_check(s);
    if (s == STATUS_OK) {
        look_at(d);
        dataset_close(d);
    }
    read_cache(path);
    return 0;
}
