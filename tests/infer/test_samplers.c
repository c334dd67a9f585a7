/* Samplers against diffusers' (scripts/reference/schedule.py), all of the table: one that has no golden walk,
 * no function or no word of help fails here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schedule_golden.h"

#include "infer/files/safetensors.h"
#include "infer/samplers/family.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/config/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    assert_int_equal(sampler_new(sampler, &schedule, steps, 16, &s), STATUS_OK);
    assert_int_equal(sampler_steps(s), timesteps->shape[0]);
    const float scale = value(entry("%s.scale", key), 0);
    close_to(key, sampler_initial_scale(s), scale, scale);
    float x[16], scaled[16], output[16];
    TorchRandom random;
    torch_seed(&random, 7);
    const NoiseSource source = noise_from_torch(&random);
    source.draw(source.arg, x, 16); /* and from there on what the sampler adds */
    for (int k = 0; k < 16; k++) {
        assert_true(x[k] == value(noise, k));
        x[k] *= sampler_initial_scale(s);
    }
    for (int i = 0; i < sampler_steps(s); i++) {
        close_to(key, sampler_timestep(s, i), value(timesteps, i), 0);
        sampler_input(s, i, x, scaled);
        if (levels) /* Euler's σ shows in how it scales */
            close_to(key, x[0] / scaled[0], sqrtf(value(levels, i) * value(levels, i) + 1), scale);
        fake_model(scaled, sampler_timestep(s, i), output, 16);
        sampler_step(s, i, output, &source, x);
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
    assert_int_equal(walks, 111);
}

static void noise_is_added_at_the_level_of_a_step(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    Sampler *s;
    schedule_of("leading", &schedule);
    const float x0 = 0.5f, noise = -2;
    float out;
    assert_int_equal(sampler_new("ddim", &schedule, 20, 1, &s), STATUS_OK);
    sampler_add_noise(s, 3, &x0, &noise, &out); /* t = 801 */
    const double a = schedule.alphas_cumprod[801];
    close_to("ddim", out, (float)(sqrt(a) * x0 + sqrt(1 - a) * noise), 1);
    sampler_free(s);
    assert_int_equal(sampler_new("euler", &schedule, 20, 1, &s), STATUS_OK);
    sampler_add_noise(s, 3, &x0, &noise, &out);
    close_to("euler", out, (float)(x0 + sqrt((1 - a) / a) * noise), 10);
    sampler_free(s);
    schedule_free(&schedule);
}

/* What docs/ says of it, which is made from the table (tests/docs/generated.sh). */
static void assert_documented(const SamplerKind *k, const char *page)
{
    char *line = mem_printf(" %s: %s.", k->name, k->description);
    if (!strstr(page, line))
        fail_msg("docs/commands.md does not say `%s`; scripts/docs", line);
    mem_free(line);
}

static void assert_golden(const char *name)
{
    static const char *const schedules[] = {"leading", "linspace", "trailing", "v", "sd15", "defaults"};
    for (size_t i = 0; i < sizeof schedules / sizeof *schedules; i++)
        if (!entry("walk.%s.%s.20.x", schedules[i], name))
            fail_msg("no golden walk.%s.%s; scripts/reference/schedule.py", schedules[i], name);
}

static void every_sampler_of_the_table_is_whole(void **state)
{
    (void)state;
#define FAMILY(word) {#word, &sampler_##word},
    static const struct {
        const char *word;
        const SamplerFamily *family;
    } families[] = {ATL_SAMPLERS(FAMILY)};
#undef FAMILY
    char *page, word[SCHEMA_NAME];
    size_t size;
    int count;
    const SamplerKind *kinds = sampler_kinds(&count);
    assert_int_equal(count, sizeof families / sizeof *families);
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/commands.md", 1 << 20, &page, &size), STATUS_OK);
    for (int i = 0; i < count; i++) {
        const SamplerFamily *f = families[i].family;
        assert_string_equal(f->kind.name, families[i].word);
        assert_string_equal(kinds[i].name, families[i].word);
        assert_true(schema_choice(SAMPLER_WORDS, i, word));
        assert_string_equal(word, families[i].word);
        assert_non_null(f->kind.label);
        assert_non_null(f->kind.description);
        assert_non_null(f->levels);
        assert_non_null(f->step);
        assert_documented(&f->kind, page);
        assert_golden(f->kind.name);
    }
    assert_false(schema_choice(SAMPLER_WORDS, count, word));
    assert_non_null(sampler_kind(SAMPLER_DEFAULT));
    mem_free(page);
}

static void wrong_samplers_and_steps_are_refused(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    Sampler *s;
    schedule_of("leading", &schedule);
    assert_int_equal(sampler_new("eular", &schedule, 20, 1, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean euler?"));
    assert_int_equal(sampler_new("ddim", &schedule, 0, 1, &s), STATUS_REFUSED);
    assert_int_equal(sampler_new("ddim", &schedule, 1001, 1, &s), STATUS_REFUSED);
    assert_int_equal(sampler_new("ddim", &schedule, 1000, 1, &s), STATUS_REFUSED); /* offset 1: t = 1000 */
    assert_null(s);
    schedule_free(&schedule);

    assert_int_equal(schedule_parse("{\"use_karras_sigmas\": true}", "", &schedule), STATUS_OK);
    assert_int_equal(sampler_new("euler", &schedule, 20, 1, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "use_karras_sigmas"));
    assert_int_equal(sampler_new("ddim", &schedule, 20, 1, &s), STATUS_OK);
    sampler_free(s);
    schedule_free(&schedule);

    assert_int_equal(schedule_parse("{\"solver_order\": 3}", "", &schedule), STATUS_OK);
    assert_int_equal(sampler_new("dpmpp_2m", &schedule, 20, 1, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "solver_order"));
    assert_int_equal(sampler_new("euler_a", &schedule, 20, 1, &s), STATUS_OK);
    sampler_free(s);
    schedule_free(&schedule);
    assert_int_equal(schedule_parse("{\"solver_type\": \"bh2\"}", "", &schedule), STATUS_OK);
    assert_int_equal(sampler_new("dpmpp_2m", &schedule, 20, 1, &s), STATUS_OK);
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
        cmocka_unit_test(every_sampler_of_the_table_is_whole),
        cmocka_unit_test(samplers_walk_as_diffusers),
        cmocka_unit_test(noise_is_added_at_the_level_of_a_step),
        cmocka_unit_test(wrong_samplers_and_steps_are_refused),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
