/* The generators that pictures are drawn from: PyTorch's on a GPU, torchsde's Brownian motion and numpy's
 * seeds, against scripts/reference/samplers.py and values that PyTorch printed on a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "numbers_golden.h"

#include "infer/noise/brownian.h"
#include "infer/noise/seed_sequence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 4096

static void close_to(const char *key, float ours, double theirs, double tolerance)
{
    if (!(fabs((double)ours - theirs) <= tolerance))
        fail_msg("%s: %.9g is not %.9g", key, (double)ours, theirs);
}

static void seeds_are_numpys(void **state)
{
    (void)state;
    uint32_t seeds[4];
    seed_sequence(5, (const uint64_t[]){3, 2}, 2, seeds, 4);
    static const uint32_t spawned[] = {432122160, 857451279, 845070096, 3996557897};
    assert_memory_equal(seeds, spawned, sizeof spawned);
    seed_sequence((UINT64_C(1) << 40) + 1, NULL, 0, seeds, 3);
    static const uint32_t plain[] = {1200421518, 1141924193, 875951554};
    assert_memory_equal(seeds, plain, sizeof plain);
}

static void a_gpus_noise_is_pytorchs(void **state)
{
    (void)state;
    static const double first[] = {-0.92466259, -0.42534415, -2.6438457, 0.14518388};
    CudaRandom g;
    float out[MOST];
    cuda_seed(&g, 0, 0, 0);
    cuda_randn(&g, out, 4);
    for (int k = 0; k < 4; k++)
        close_to("seed 0", out[k], first[k], 1e-6);
    int cases = 0;
    for (int i = 0; i < tensorfile_count(golden); i++) {
        const TensorEntry *e = tensorfile_entry(golden, i);
        unsigned long long seed;
        unsigned sms, threads;
        int at = 0;
        if (sscanf(e->name, "cuda.%llu.%u.%u.%n", &seed, &sms, &threads, &at) != 3)
            continue;
        cuda_seed(&g, seed, sms, threads);
        int64_t place = 0;
        for (const char *size = e->name + at; size; size = strchr(size, '-') ? strchr(size, '-') + 1 : NULL) {
            const int n = atoi(size);
            cuda_randn(&g, out, (size_t)n);
            for (int k = 0; k < n; k++)
                close_to(e->name, out[k], (double)value(e, place++), 2e-6);
        }
        assert_int_equal(place, e->shape[0]);
        cases++;
    }
    assert_int_equal(cases, 5);
}

static void gpus_agree_on_small_pictures_only(void **state)
{
    (void)state;
    NoiseKind large, small;
    Noise a, b;
    static float x[8 * MOST], y[8 * MOST];
    assert_int_equal(noise_kind_parse("cuda", &large), STATUS_OK);
    assert_int_equal(noise_kind_parse("cuda:rtx3050", &small), STATUS_OK);
    noise_seed(&a, large, 3);
    noise_seed(&b, small, 3);
    noise_draw(&a, x, 4 * 64 * 64);
    noise_draw(&b, y, 4 * 64 * 64);
    assert_memory_equal(x, y, 4 * 64 * 64 * sizeof(float));
    noise_draw(&a, x, 8 * MOST); /* more than 20 x 1536 numbers */
    noise_draw(&b, y, 8 * MOST);
    assert_memory_equal(x, y, 20 * 1536 * sizeof(float));
    assert_true(x[20 * 1536] != y[20 * 1536]);
}

static void motions_are_torchsdes(void **state)
{
    (void)state;
    int cases = 0;
    for (int i = 0; i < tensorfile_count(golden); i++) {
        const TensorEntry *e = tensorfile_entry(golden, i);
        unsigned long long seed;
        double from, to;
        int at = 0;
        if (sscanf(e->name, "brownian.%llu.%n", &seed, &at) != 1)
            continue;
        char *end;
        from = strtod(e->name + at, &end);
        to = strtod(end + 1, NULL);
        Brownian *b;
        float out[16];
        assert_int_equal(brownian_new(0.1, 14.6, seed, NOISE_CPU, 16, &b), STATUS_OK);
        brownian_increment(b, 2.5, 9, out); /* what was asked before does not matter */
        brownian_increment(b, from, to, out);
        for (int k = 0; k < 16; k++)
            close_to(e->name, out[k], (double)value(e, k), 5e-6);
        brownian_free(b);
        cases++;
    }
    assert_int_equal(cases, 18);
}

static void increments_add_up(void **state)
{
    (void)state;
    Brownian *b;
    float whole, left, right, none;
    assert_int_equal(brownian_new(0, 8, 1, NOISE_CPU, 1, &b), STATUS_OK);
    brownian_increment(b, -1, 9, &whole); /* brought into the motion */
    brownian_increment(b, 0, 3.3, &left);
    brownian_increment(b, 3.3, 8, &right);
    brownian_increment(b, 3.3, 3.3, &none);
    close_to("sum", whole, (double)left + (double)right, 1e-5);
    assert_true(none == 0);
    brownian_free(b);
}

static void words_name_generators(void **state)
{
    (void)state;
    NoiseKind k;
    assert_int_equal(noise_kind_parse("cpu", &k), STATUS_OK);
    assert_false(k.cuda);
    assert_int_equal(noise_kind_parse("cuda", &k), STATUS_OK);
    assert_true(k.cuda && k.sms == 0);
    assert_int_equal(noise_kind_parse("cuda:rtx4090", &k), STATUS_OK);
    assert_true(k.cuda && k.sms == 128 && k.threads == 1536);
    assert_int_equal(noise_kind_parse("cuda:28x2048", &k), STATUS_OK);
    assert_true(k.cuda && k.sms == 28 && k.threads == 2048);
    static const char *const wrong[][2] = {
        {"gpu", "none of cpu, cuda"}, {"cuda:", "no GPU ``"},        {"cuda:rtx4009", "did you mean rtx40"},
        {"cuda:0x256", "at least"},   {"cuda:28x", "cuda:128x1536"}, {"cuda:28x1536x", "no GPU"},
        {"cuda:1x128", "at least"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(noise_kind_parse(wrong[i][0], &k), STATUS_REFUSED);
        if (!strstr(status_message(), wrong[i][1]))
            fail_msg("`%s` does not say `%s`", status_message(), wrong[i][1]);
    }
}

static int open_golden(void **state)
{
    (void)state;
    return tensorfile_open(TEST_GOLDEN "/samplers.safetensors", &golden);
}

static int close_golden(void **state)
{
    (void)state;
    tensorfile_close(golden);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_are_numpys),
        cmocka_unit_test(a_gpus_noise_is_pytorchs),
        cmocka_unit_test(gpus_agree_on_small_pictures_only),
        cmocka_unit_test(motions_are_torchsdes),
        cmocka_unit_test(increments_add_up),
        cmocka_unit_test(words_name_generators),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
