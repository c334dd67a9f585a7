/* HDF5 dataset files, through every function that reads one. */
#include "fuzz.h"

#include "data/dataset/dataset.h"
#include "data/pictures/picture.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <string.h>

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
    return 0;
}
