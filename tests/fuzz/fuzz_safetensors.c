/* safetensors files: the header, and what is made of the names and shapes in it when such a file is given as
 * a model. */
#include "fuzz.h"

#include "infer/files/tensor_file.h"
#include "infer/models/single_file.h"

#include <string.h>

static void look_at(const TensorFile *f)
{
    volatile uint8_t seen = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        if (e->type != ELEMENT_OTHER && (uint64_t)tensor_entry_count(e) * element_size(e->type) != e->bytes)
            fuzz_fail("bytes are not those of shape and type");
        if (e->bytes)
            seen = (uint8_t)(seen ^ ((const uint8_t *)e->data)[0] ^ ((const uint8_t *)e->data)[e->bytes - 1]);
        if (tensorfile_find(f, e->name) != e)
            fuzz_fail("a tensor is not found by its name");
        tensorfile_release(f);
    }
    for (int i = 0; i < tensorfile_metadata_count(f); i++) {
        const TensorMeta m = tensorfile_metadata_entry(f, i);
        if (!m.key || !m.value || tensorfile_metadata(f, m.key) != m.value)
            fuzz_fail("metadata is not found by its key");
    }
}

static void look_at_parts(const SingleFile *f)
{
    for (int i = 0; i < PART_COUNT; i++) {
        Weights *w = NULL;
        if (!part_of_family((PartId)i, family_of(&f->shapes.unet)))
            continue;
        const Status s = single_file_weights(f, (PartId)i, DTYPE_F32, &w);
        fuzz_check(s);
        if (s == STATUS_OK)
            weights_close(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    TensorFile *f;
    SingleFile model;
    const Status s = tensorfile_open(path, &f);
    fuzz_check(s);
    if (s == STATUS_OK) {
        look_at(f);
        tensorfile_close(f);
    }
    const Status opened = single_file_open(path, &model);
    fuzz_check(opened);
    if (opened == STATUS_OK) {
        look_at_parts(&model);
        single_file_close(&model);
    }
    return 0;
}
