/* What --device and train.device may say, and which device they mean. Breaks if a wrong word were taken for a
 * device, if a GPU that is asked for and is not there were answered by the processor, if ATELIER_DEVICE did
 * not keep the other tests on it, or if a GPU that has no bf16 were given some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cuda/cuda.h"
#include "kernels/devices/devices.h"

#include <stdlib.h>
#include <string.h>

static void words_are_told_apart(void **state)
{
    (void)state;
    static const char *const good[] = {
        "auto",       "cpu", "cuda", "cuda:0", "cuda:11", "cuda:GPU-3f1c5b0e-0f0a-4e39-9c1f-0123456789ab",
        "cuda:gpu-3f"};
    static const char *const bad[] = {"",        "Auto",   "cpu:0", "gpu",       "cuda:",     "cuda0",
                                      "cuda:-1", "cuda:x", "cudax", "cuda:GPU-", "cuda:GPU-g"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(device_word_is_good(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const Device *dev;
        DType type = DTYPE_F32;
        assert_false(device_word_is_good(bad[i]));
        assert_int_equal(device_choose(bad[i], &type, &dev), STATUS_REFUSED);
        assert_non_null(strstr(status_message(), "cuda:GPU-UUID"));
    }
}

static void the_processor_stores_every_type(void **state)
{
    (void)state;
    for (int i = DTYPE_F32; i <= DTYPE_F16; i++) {
        const Device *dev = NULL;
        DType type = (DType)i;
        assert_int_equal(device_choose("cpu", &type, &dev), STATUS_OK);
        assert_ptr_equal(dev, device_cpu());
        assert_int_equal(type, i);
    }
}

static void auto_is_what_the_environment_says(void **state)
{
    (void)state;
    const Device *dev = NULL;
    DType type = DTYPE_BF16;
    setenv("ATELIER_DEVICE", "cpu", 1);
    assert_int_equal(device_choose("auto", &type, &dev), STATUS_OK);
    assert_ptr_equal(dev, device_cpu());
    setenv("ATELIER_DEVICE", "cup", 1);
    assert_int_equal(device_choose("auto", &type, &dev), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "ATELIER_DEVICE"));
    assert_int_equal(device_choose("cpu", &type, &dev), STATUS_OK); /* a word that is given counts */
    setenv("ATELIER_DEVICE", "cpu", 1);
}

/* There is no such GPU anywhere. */
static void a_gpu_that_is_not_there_is_refused(void **state)
{
    (void)state;
    const Device *dev = NULL;
    DType type = DTYPE_F32;
    assert_int_equal(device_choose("cuda:4711", &type, &dev), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "cuda:4711"));
    assert_null(dev);
    CudaCardInfo info;
    assert_false(device_cuda_info(device_cuda_count(), &info));
}

/* tests/cuda's card, as one of Turing; or the machine's own GPU, where the tests are linked without it. */
static void f16_takes_the_place_of_bf16_where_there_is_none(void **state)
{
    (void)state;
    const Device *dev = NULL, *again = NULL;
    DType type = DTYPE_BF16, wide = DTYPE_F32;
    if (device_choose("cuda", &type, &dev) != STATUS_OK)
        skip();
    assert_true(dev->lacks_bf16 || !strstr(dev->chip, "Stand-in"));
    assert_int_equal(type, dev->lacks_bf16 ? DTYPE_F16 : DTYPE_BF16);
    assert_int_equal(device_choose("cuda", &wide, &again), STATUS_OK);
    assert_ptr_equal(again, dev);
    assert_int_equal(wide, DTYPE_F32);
    unsetenv("ATELIER_DEVICE");
    assert_int_equal(device_choose("auto", &wide, &again), STATUS_OK);
    assert_ptr_equal(again, dev);
}

int main(void)
{
    setenv("ATELIER_STAND_IN_ARCH", "75", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_told_apart),
        cmocka_unit_test(the_processor_stores_every_type),
        cmocka_unit_test(auto_is_what_the_environment_says),
        cmocka_unit_test(a_gpu_that_is_not_there_is_refused),
        cmocka_unit_test(f16_takes_the_place_of_bf16_where_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
