/* Cache files: opened, listed, read and added to. */
#include "fuzz.h"

#include "data/cache/cache.h"

#define FLOATS 4 /* of the entries of the corpus */

static void see(const CacheLabel *label, int64_t count, void *arg)
{
    (void)label;
    (void)arg;
    if (count < 1)
        fuzz_fail("a label without records");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const CacheLabel label = {CACHE_TEXT, {1, FLOATS}};
    float values[FLOATS] = {1, 2, 3, 4};
    Cache *c;
    bool found;
    const Status s = cache_open(fuzz_file(data, size), NULL, &c);
    fuzz_check(s);
    if (s != STATUS_OK)
        return 0;
    fuzz_check(cache_list(c, see, NULL));
    for (uint8_t i = 0; i < 4; i++) {
        CacheKey key;
        sha256(&i, sizeof i, key);
        fuzz_check(cache_read(c, key, values, FLOATS, &found));
        const float more[FLOATS] = {i, 1, 2, 3};
        fuzz_check(cache_add(c, key, &label, more, FLOATS));
        if (!cache_has(c, key, FLOATS))
            fuzz_fail("what was added is not there");
    }
    cache_close(c);
    return 0;
}
