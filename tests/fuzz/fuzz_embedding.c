/* Files of textual inversion, in both formats. */
#include "fuzz.h"

#include "infer/text/embeddings.h"
#include "kernels/base/mem.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    const size_t before = mem_in_use();
    Embedding e;
    fuzz_count_memory();
    const Status s = embedding_read(path, &e);
    const size_t most = fuzz_counted_memory();
    fuzz_check(s);
    if (s != STATUS_OK) {
        if (most - before > 2 * size + (1 << 18))
            fuzz_fail("more memory than the file's size justifies");
        return 0;
    }
    for (int i = 0; i < e.vectors * e.width; i++)
        if (!isfinite(e.values[i]))
            fuzz_fail("a number that is none");
    for (int i = 0; i < e.vectors * e.width_2; i++)
        if (!isfinite(e.values_2[i]))
            fuzz_fail("a number that is none");
    fuzz_check(embedding_check(&e, 768, e.width_2));
    embedding_free(&e);
    return 0;
}
