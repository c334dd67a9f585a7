/* safetensors files: the header, and what is made of the names and shapes in it when such a file is given as
 * a model. */
#include "fuzz.h"

#include "infer/files/safetensors.h"
#include "infer/models/single_file.h"

#include <string.h>

static void look_at(const SafeTensors *f)
{
    volatile uint8_t seen = 0;
    for (int i = 0; i < safetensors_count(f); i++) {
        const SafeEntry *e = safetensors_entry(f, i);
        int64_t count = 1;
        for (int k = 0; k < e->ndim; k++)
            count *= e->shape[k];
        if ((uint64_t)count * dtype_size(e->dtype) != e->bytes)
            fuzz_fail("bytes are not those of shape and type");
        if (e->bytes)
            seen = (uint8_t)(seen ^ ((const uint8_t *)e->data)[0] ^ ((const uint8_t *)e->data)[e->bytes - 1]);
        if (safetensors_find(f, e->name) != e)
            fuzz_fail("a tensor is not found by its name");
        safetensors_release(f);
    }
    for (int i = 0; i < safetensors_metadata_count(f); i++) {
        const char *key, *value;
        safetensors_metadata_entry(f, i, &key, &value);
        if (!key || !value || safetensors_metadata(f, key) != value)
            fuzz_fail("metadata is not found by its key");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    SafeTensors *f;
    SingleFile model;
    const Status s = safetensors_open(path, &f);
    fuzz_check(s);
    if (s == STATUS_OK) {
        look_at(f);
        safetensors_close(f);
    }
    const Status opened = single_file_open(path, &model);
    fuzz_check(opened);
    if (opened == STATUS_OK)
        single_file_close(&model);
    return 0;
}
