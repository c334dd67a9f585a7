/* Adapter files onto a small model: keys, shapes, numbers, middle parts, lengths. */
#include "fuzz.h"

#include "infer/adapters/adapters.h"
#include "kernels/base/mem.h"

static Model *model(void)
{
    static Model *m;
    if (!m && model_load(TEST_GOLDEN "/models/sd1", MODEL_UNET | MODEL_TEXT, DTYPE_F32, &m) != STATUS_OK)
        fuzz_fail("there is no model");
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    LoraFile *f;
    Model *m = model();
    const size_t before = mem_in_use();
    fuzz_count_memory();
    const Status s = lora_attach(m, path, 0.5f, &f);
    const size_t most = fuzz_counted_memory();
    fuzz_check(s);
    if (s != STATUS_OK && most - before > 2 * size + (1 << 20)) /* with the list of the model's layers */
        fuzz_fail("more memory than the file's size justifies");
    lora_detach(f);
    if (mem_in_use() != before)
        fuzz_fail("memory that nobody frees");
    return 0;
}
