/* What --max-memory counts: every picture that is to be drawn, with the adapters that it is drawn with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/memory_limit.h"
#include "kernels/devices/devices.h"
#include "golden.h"

#define MEGA (1u << 20)
#define LORAS 64

static char model[1024], lora[1024];
static Device
    apart; /* the processor as a device whose memory is not the program's, of which no more is counted */

static int find_files(void **state)
{
    (void)state;
    snprintf(model, sizeof model, "%s/models/sd1", TEST_GOLDEN);
    apart = *device_cpu();
    apart.host_memory = false;
    snprintf(lora, sizeof lora, "%s/lora/kohya.safetensors", TEST_GOLDEN);
    return 0;
}

static SampleRequest request_of(int side)
{
    SampleRequest r = sample_request_default();
    r.prompt = "a red heart";
    r.size = (Size){side, side};
    return r;
}

static MemoryChoice choice_of(const MemoryPicture *pictures, int count)
{
    return (MemoryChoice){.model = model,
                          .dev = &apart,
                          .pictures = pictures,
                          .count = count,
                          .keep_dtype = true,
                          .keep_int8 = true,
                          .keep_tile = true,
                          .dtype = DTYPE_F32};
}

static size_t needed(const MemoryPicture *pictures, int count)
{
    MemoryChoice m = choice_of(pictures, count);
    assert_ok(memory_limit_choose(&m, SIZE_MAX));
    return m.bytes;
}

static void the_largest_of_all_pictures_counts(void **state)
{
    (void)state;
    const SampleRequest small = request_of(32), large = request_of(256);
    const MemoryPicture pictures[] = {{.request = &small}, {.request = &large}, {.request = &small}};
    const size_t least = needed(pictures, 1), most = needed(pictures + 1, 1), all = needed(pictures, 3);
    assert_true(most > least + MEGA);
    assert_int_equal(all, most);
    MemoryChoice m = choice_of(pictures, 3);
    assert_int_equal(memory_limit_choose(&m, (least + most) / 2), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "the picture that needs most needs"));
}

static void a_pictures_loras_count(void **state)
{
    (void)state;
    static UsedLora loras[LORAS];
    const SampleRequest r = request_of(32);
    for (int i = 0; i < LORAS; i++)
        loras[i] = (UsedLora){.path = lora, .strength = adapter_strength(1)};
    const MemoryPicture with = {.request = &r, .loras = loras, .lora_count = LORAS},
                        without = {.request = &r};
    TensorFile *f = golden_open("lora/kohya.safetensors");
    size_t numbers = 0;
    for (int i = 0; i < tensorfile_count(f); i++)
        if (tensorfile_entry(f, i)->ndim >= 2) /* alpha is one number */
            numbers += (size_t)tensor_entry_count(tensorfile_entry(f, i));
    tensorfile_close(f);
    const size_t counted = needed(&with, 1), plain = needed(&without, 1);
    /* the arena may be a little smaller: what is one operation without adapters is several with them */
    /* the arena may be a few KB smaller with them: an operation that has an adapter is several */
    assert_true(counted >= plain + (LORAS - 4) * numbers * sizeof(float));
    const MemoryPicture both[] = {with, without};
    assert_int_equal(needed(both, 2), counted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_largest_of_all_pictures_counts),
                                       cmocka_unit_test(a_pictures_loras_count)};
    return cmocka_run_group_tests(tests, find_files, NULL);
}
