/* HDF5 dataset and cache files, through every function that reads one. */
#include "fuzz.h"

#include "data/dataset/dataset.h"
#include "data/pictures/picture.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <string.h>

#define CACHED 64 /* floats of an entry that is read */

/* The last array of a cache that the file has. */
typedef struct Seen {
    char key[CACHE_KEY_SIZE], name[64];
    size_t count, n;
} Seen;

static void see_cache(const char *key, const char *name, size_t count, size_t n, void *arg)
{
    Seen *seen = arg;
    if (strlen(key) >= sizeof seen->key || strlen(name) >= sizeof seen->name || count == 0 || count > 100)
        return;
    strcpy(seen->key, key);
    strcpy(seen->name, name);
    seen->count = count;
    seen->n = n;
}

static void read_cache(const char *path)
{
    Seen seen = {.count = 0};
    const uint8_t hash[32] = {0};
    float values[CACHED];
    bool found;
    DatasetCache *c;
    cache_list(path, see_cache, &seen);
    if (seen.count == 0 || seen.n > CACHED || cache_open(path, seen.key, (int)seen.count, &c) != STATUS_OK)
        return;
    for (int i = 0; i < (int)seen.count; i++)
        fuzz_check(cache_read(c, seen.name, i, hash, values, seen.n, &found));
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
