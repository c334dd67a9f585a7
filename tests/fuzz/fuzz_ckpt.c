/* Files of torch.save: archive, pickle, and what is made of the names and shapes in it when such a file is
 * given as a model. */
#include "fuzz.h"

#include "infer/files/tensor_file.h"
#include "infer/models/single_file.h"
#include "kernels/base/mem.h"

static size_t taken;
static size_t most;

static int count(size_t bytes, void *arg)
{
    (void)arg;
    (void)bytes;
    taken = mem_in_use();
    most = taken > most ? taken : most;
    return 0;
}

/* Everything that an entry says can be read, whatever its strides. */
static void look_at(const TensorFile *f, size_t size)
{
    volatile float seen = 0;
    for (int i = 0; i < tensorfile_count(f); i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        const int64_t n = tensor_entry_count(e);
        float number;
        if (tensorfile_find(f, e->name) != e)
            fuzz_fail("a tensor is not found by its name");
        if (e->type == ELEMENT_OTHER)
            continue;
        if ((uint64_t)n > size)
            fuzz_fail("a tensor has more numbers than the file");
        if (n && element_converts(e->type, DTYPE_F32)) {
            fuzz_check(tensor_entry_read_part(e, 0, 1, DTYPE_F32, &number));
            seen += number;
            fuzz_check(tensor_entry_read_part(e, n - 1, 1, DTYPE_F32, &number));
            seen += number;
        }
    }
    for (int i = 0; i < tensorfile_metadata_count(f); i++) {
        const TensorMeta m = tensorfile_metadata_entry(f, i);
        if (!m.key || !m.value || tensorfile_metadata(f, m.key) != m.value)
            fuzz_fail("metadata is not found by its key");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    const size_t before = mem_in_use();
    TensorFile *f;
    SingleFile model;
    most = before;
    mem_set_hook(count, NULL);
    const Status s = tensorfile_open(path, &f);
    mem_set_hook(NULL, NULL);
    fuzz_check(s);
    if (most - before > 2 * size + (1 << 18))
        fuzz_fail("more memory than the file's size justifies");
    if (s == STATUS_OK) {
        look_at(f, size);
        tensorfile_close(f);
    }
    const Status opened = single_file_open(path, &model);
    fuzz_check(opened);
    if (opened == STATUS_OK)
        single_file_close(&model);
    return 0;
}
