/* Noise schedules and samplers against diffusers' (scripts/reference/schedule.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/safetensors.h"
#include "infer/samplers/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static TensorFile *golden;

static const TensorEntry *entry(const char *format, ...)
{
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return tensorfile_find(golden, name);
}

static float value(const TensorEntry *e, int64_t i)
{
    float f;
    memcpy(&f, (const char *)e->data + 4 * i, 4);
    return f;
}

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
        for (int t = 0; t < s.train_steps; t++)
            if ((float)s.alphas_cumprod[t] != value(alphas, t) ||
                (double)value(alphas, t) != s.alphas_cumprod[t])
                fail_msg("%s: alpha %d is %.9g, not %.9g", name, t, s.alphas_cumprod[t], value(alphas, t));
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
    assert_false(a.has_spacing || a.set_alpha_to_one || a.clip_sample);
    schedule_free(&a);
    schedule_free(&b);
}

static void close_to(const char *key, float ours, float theirs, float scale)
{
    if (!(fabsf(ours - theirs) <= 2e-6f * scale))
        fail_msg("%s: %.9g is not %.9g", key, ours, theirs);
}

/* The script's fake model. */
static void fake_model(const float *x, float t, float *out, size_t n)
{
    for (size_t k = 0; k < n; k++)
        out[k] = sinf(3 * x[k]) / 2 + t / 2000;
}

/* key: walk.NAME.SAMPLER.STEPS */
static void walk(const char *key)
{
    char name[32], sampler[32];
    int steps;
    assert_int_equal(sscanf(key, "walk.%31[^.].%31[^.].%d", name, sampler, &steps), 3);
    const TensorEntry *timesteps = entry("%s.timesteps", key), *levels = entry("%s.levels", key);
    const TensorEntry *states = entry("%s.x", key), *noise = entry("noise");
    NoiseSchedule schedule;
    Sampler *s;
    schedule_of(name, &schedule);
    assert_int_equal(sampler_new(sampler, &schedule, steps, &s), STATUS_OK);
    assert_int_equal(sampler_steps(s), timesteps->shape[0]);
    const float scale = value(entry("%s.scale", key), 0);
    close_to(key, sampler_initial_scale(s), scale, scale);
    float x[16], scaled[16], output[16];
    for (int k = 0; k < 16; k++)
        x[k] = value(noise, k) * sampler_initial_scale(s);
    for (int i = 0; i < sampler_steps(s); i++) {
        close_to(key, sampler_timestep(s, i), value(timesteps, i), 0);
        sampler_scale_input(s, i, x, scaled, 16);
        if (levels) /* Euler's sigma shows in how it scales */
            close_to(key, x[0] / scaled[0], sqrtf(value(levels, i) * value(levels, i) + 1), scale);
        fake_model(scaled, sampler_timestep(s, i), output, 16);
        sampler_step(s, i, output, x, 16);
        const int64_t row = states->shape[0] == 1 ? 0 : i;
        if (states->shape[0] > 1 || i + 1 == sampler_steps(s))
            for (int k = 0; k < 16; k++)
                close_to(key, x[k], value(states, row * 16 + k), 4 * (scale + fabsf(x[k])));
    }
    sampler_free(s);
    schedule_free(&schedule);
}

static void samplers_walk_as_diffusers(void **state)
{
    (void)state;
    int walks = 0;
    for (int i = 0; i < tensorfile_count(golden); i++) {
        char key[128];
        snprintf(key, sizeof key, "%s", tensorfile_entry(golden, i)->name);
        char *end = strstr(key, ".timesteps");
        if (!end)
            continue;
        *end = 0;
        walk(key);
        walks++;
    }
    assert_int_equal(walks, 50);
}

static void noise_is_added_at_the_level_of_a_step(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    Sampler *s;
    schedule_of("leading", &schedule);
    const float x0 = 0.5f, noise = -2;
    float out;
    assert_int_equal(sampler_new("ddim", &schedule, 20, &s), STATUS_OK);
    sampler_add_noise(s, 3, &x0, &noise, &out, 1); /* t = 801 */
    const double a = schedule.alphas_cumprod[801];
    close_to("ddim", out, (float)(sqrt(a) * x0 + sqrt(1 - a) * noise), 1);
    sampler_free(s);
    assert_int_equal(sampler_new("euler", &schedule, 20, &s), STATUS_OK);
    sampler_add_noise(s, 3, &x0, &noise, &out, 1);
    close_to("euler", out, (float)(x0 + sqrt((1 - a) / a) * noise), 10);
    sampler_free(s);
    schedule_free(&schedule);
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
        {"{\"clip_sample\": 1}", "clip_sample"},
        {"{\"thresholding\": true}", "thresholding"},
        {"{\"rescale_betas_zero_snr\": true}", "rescale_betas_zero_snr"},
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

static void wrong_samplers_and_steps_are_refused(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    Sampler *s;
    schedule_of("leading", &schedule);
    assert_int_equal(sampler_new("eular", &schedule, 20, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean euler?"));
    assert_int_equal(sampler_new("ddim", &schedule, 0, &s), STATUS_REFUSED);
    assert_int_equal(sampler_new("ddim", &schedule, 1001, &s), STATUS_REFUSED);
    assert_int_equal(sampler_new("ddim", &schedule, 1000, &s), STATUS_REFUSED); /* offset 1: t = 1000 */
    assert_null(s);
    schedule_free(&schedule);

    assert_int_equal(schedule_parse("{\"use_karras_sigmas\": true}", "", &schedule), STATUS_OK);
    assert_int_equal(sampler_new("euler", &schedule, 20, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "use_karras_sigmas"));
    assert_int_equal(sampler_new("ddim", &schedule, 20, &s), STATUS_OK);
    sampler_free(s);
    schedule_free(&schedule);
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
        cmocka_unit_test(samplers_walk_as_diffusers),
        cmocka_unit_test(noise_is_added_at_the_level_of_a_step),
        cmocka_unit_test(wrong_configurations_are_refused_by_name),
        cmocka_unit_test(wrong_samplers_and_steps_are_refused),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
