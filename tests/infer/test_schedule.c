/* Noise schedules against diffusers' (scripts/reference/schedule.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "numbers_golden.h"

#include "infer/files/safetensors.h"
#include "infer/schedules/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void schedule_of(const char *name, NoiseSchedule *s)
{
    const char *json = tensorfile_metadata(golden, name);
    assert_non_null(json);
    assert_int_equal(schedule_parse(json, name, s), STATUS_OK);
}

static void alphas_have_pytorchs_bits(void **state)
{
    (void)state;
    for (int m = 0; m < tensorfile_metadata_count(golden); m++) {
        const char *name = tensorfile_metadata_entry(golden, m).key;
        NoiseSchedule s;
        schedule_of(name, &s);
        const TensorEntry *alphas = entry("alphas.%s", name);
        assert_int_equal(alphas->shape[0], s.train_steps);
        const bool stretched =
            strstr(name, "zero_snr"); /* by square roots, which PyTorch does not round right */
        for (int t = 0; t < s.train_steps; t++)
            if (fabs((double)value(alphas, t) - s.alphas_cumprod[t]) > (stretched ? 2e-6 : 0))
                fail_msg("%s: alpha %d is %.9g, not %.9g", name, t, s.alphas_cumprod[t],
                         (double)value(alphas, t));
        assert_true((s.alphas_cumprod[s.train_steps - 1] == 0) == stretched);
        schedule_free(&s);
    }
}

static void default_schedule_is_sd15s(void **state)
{
    (void)state;
    NoiseSchedule a, b;
    assert_int_equal(schedule_default(&a), STATUS_OK);
    schedule_of("sd15", &b);
    assert_memory_equal(a.alphas_cumprod, b.alphas_cumprod, 1000 * sizeof(double));
    assert_int_equal(a.steps_offset, b.steps_offset);
    assert_false(a.has_spacing);
    schedule_free(&a);
    schedule_free(&b);
}

static void wrong_configurations_are_refused_by_name(void **state)
{
    (void)state;
    const char *cases[][2] = {
        {"{", "origin: "},
        {"[]", "JSON object"},
        {"{\"beta_schedule\": \"sigmoid\"}", "beta_schedule: \"sigmoid\""},
        {"{\"beta_start\": \"x\"}", "beta_start"},
        {"{\"beta_end\": 2}", "beta_end"},
        {"{\"num_train_timesteps\": 0}", "num_train_timesteps"},
        {"{\"num_train_timesteps\": 1e9}", "num_train_timesteps"},
        {"{\"prediction_type\": \"flow\"}", "prediction_type"},
        {"{\"timestep_spacing\": 3}", "timestep_spacing"},
        {"{\"rescale_betas_zero_snr\": 1}", "rescale_betas_zero_snr"},
        {"{\"trained_betas\": [0.1]}", "trained_betas"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        NoiseSchedule s;
        assert_int_equal(schedule_parse(cases[i][0], "origin", &s), STATUS_REFUSED);
        assert_null(s.alphas_cumprod);
        if (!strstr(status_message(), cases[i][1]))
            fail_msg("`%s` does not say `%s`", status_message(), cases[i][1]);
    }
}

static int open_golden(void **state)
{
    (void)state;
    return tensorfile_open(TEST_GOLDEN "/schedule.safetensors", &golden);
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
        cmocka_unit_test(alphas_have_pytorchs_bits),
        cmocka_unit_test(default_schedule_is_sd15s),
        cmocka_unit_test(wrong_configurations_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
