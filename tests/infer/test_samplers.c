/* Samplers against diffusers' and k-diffusion's (scripts/reference/samplers.py), all of the table, with every
 * schedule, prediction and setting of a model's file, and in every program's convention: one that has no
 * golden walk, no function or no word of help fails here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "numbers_golden.h"

#include "infer/compat/compat.h"
#include "infer/files/json_config.h"
#include "infer/samplers/family.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/config/schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 16
#define SD15                                                                                                 \
    "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", "                  \
    "\"steps_offset\": 1,"                                                                                   \
    " \"set_alpha_to_one\": false, \"clip_sample\": false, \"skip_prk_steps\": true"

/* The script's fake model. */
static void fake_model(const float *x, float t, float *out)
{
    for (size_t k = 0; k < N; k++)
        out[k] = sinf(3 * x[k]) / 2 + t / 2000;
}

/* A case of the script's: the model's file, and what is asked for. */
typedef struct Case {
    NoiseSchedule schedule;
    SamplerChoice choice;
    bool noise_apart;
    char word[32];
} Case;

static void open_case(const char *name, const char *sampler, Case *c)
{
    json_error_t error;
    const char *text = tensorfile_metadata(golden, name);
    if (!text)
        fail_msg("no case %s", name);
    json_t *facts = json_parse(text, 0, &error);
    char *config = json_text(json_incref(json_object_get(facts, "config")), JSON_COMPACT);
    const char *word = json_string_value(json_object_get(facts, "schedule"));
    const Compat *compat = compat_find(json_string_value(json_object_get(facts, "compat")));
    assert_int_equal(schedule_parse(config, name, &c->schedule), STATUS_OK);
    snprintf(c->word, sizeof c->word, "%s", word ? word : SCHEDULE_AUTO);
    c->choice =
        (SamplerChoice){.name = sampler, .schedule = c->word, .convention = compat->sampling, .seed = 7};
    c->choice.eta = (float)json_number_value(json_object_get(facts, "eta"));
    c->noise_apart = compat->noise_apart;
    free(config);
    json_decref(facts);
}

/* How far off each may be, of the largest: what a Brownian motion's increments are depends on the last bits
 * of where they begin and end. */
static double tolerance(const char *sampler)
{
    return strstr(sampler, "sde") || strcmp(sampler, "dpm2_a") == 0 ? 1e-3 : 1e-4;
}

/* key: walk.CASE.SAMPLER.STEPS. Returns how far the last x is off, of the largest. */
static double walk(const char *key)
{
    char name[64], sampler[32];
    int steps;
    assert_int_equal(sscanf(key, "walk.%63[^.].%31[^.].%d", name, sampler, &steps), 3);
    const TensorEntry *timesteps = entry("%s.timesteps", key), *states = entry("%s.x", key);
    Case c;
    Sampler *s;
    open_case(name, sampler, &c);
    if (sampler_new(&c.choice, &c.schedule, steps, N, &s) != STATUS_OK)
        fail_msg("%s: %s", key, status_message());
    if (sampler_steps(s) != timesteps->shape[0])
        fail_msg("%s: %d calls, not %d", key, sampler_steps(s), (int)timesteps->shape[0]);
    float x[N], scaled[N], output[N];
    TorchRandom random;
    torch_seed(&random, 7);
    const NoiseSource source = noise_from_torch(&random);
    source.draw(source.arg, x, N); /* and from there on what the sampler adds */
    if (c.noise_apart)
        torch_seed(&random, 8);
    double largest = 0, worst = 0;
    for (int k = 0; k < N; k++) {
        x[k] *= sampler_initial_scale(s);
        if (fabsf(x[k] - value(states, k)) > 1e-5f * fabsf(x[k]))
            fail_msg("%s: begins with %g, not %g", key, (double)x[k], (double)value(states, k));
    }
    for (int i = 0; i < sampler_steps(s); i++) {
        /* Of two whole timesteps that are equally near, the last bit of a logarithm decides; diffusers'
         * σ_down is the difference of two squares. */
        const float told = value(timesteps, i), off = fabsf(sampler_timestep(s, i) - told);
        if (off > (c.choice.convention == SAMPLER_COMFY ? 1 : strstr(sampler, "_a") ? 2e-2f : 1e-3f))
            fail_msg("%s: timestep %d is %.9g, not %.9g", key, i, (double)sampler_timestep(s, i),
                     (double)told);
        sampler_input(s, i, x, scaled);
        fake_model(scaled, told, output);
        sampler_step(s, i, output, &source, x);
    }
    for (int k = 0; k < N; k++) {
        largest = fmax(largest, fabs((double)value(states, N + k)));
        worst = fmax(worst, fabs((double)x[k] - (double)value(states, N + k)));
    }
    sampler_free(s);
    schedule_free(&c.schedule);
    return isfinite(x[0]) ? worst / largest : INFINITY;
}

static void samplers_walk_as_others(void **state)
{
    (void)state;
    int walks = 0, wrong = 0;
    double worst = 0;
    for (int i = 0; i < tensorfile_count(golden); i++) {
        char key[128], sampler[32];
        snprintf(key, sizeof key, "%s", tensorfile_entry(golden, i)->name);
        char *end = strstr(key, ".timesteps");
        if (!end)
            continue;
        *end = 0;
        const double off = walk(key);
        assert_int_equal(sscanf(key, "walk.%*[^.].%31[^.]", sampler), 1);
        if (!(off <= tolerance(sampler))) {
            print_error("%s: %g of the largest off\n", key, off);
            wrong++;
        }
        worst = fmax(worst, off);
        walks++;
    }
    print_message("%d walks, the worst %.2g off\n", walks, worst);
    assert_int_equal(wrong, 0);
    assert_true(walks > 500);
}

/* A sampler with nothing else asked for. */
static Status plain(const char *name, const NoiseSchedule *schedule, int steps, Sampler **out)
{
    return sampler_new(&(SamplerChoice){.name = name}, schedule, steps, 1, out);
}

static void noise_is_added_at_the_level_of_a_step(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    Sampler *s;
    assert_int_equal(schedule_parse(SD15 ", \"timestep_spacing\": \"leading\"}", "", &schedule), STATUS_OK);
    const float x0 = 0.5f, noise = -2;
    float out;
    assert_int_equal(plain("ddim", &schedule, 20, &s), STATUS_OK);
    sampler_add_noise(s, 3, &x0, &noise, &out); /* t = 801 */
    const double a = schedule.alphas_cumprod[801];
    assert_true(fabs((double)out - (sqrt(a) * (double)x0 + sqrt(1 - a) * (double)noise)) < 1e-6);
    sampler_free(s);
    assert_int_equal(plain("heun", &schedule, 20, &s), STATUS_OK);
    sampler_add_noise(s, 3 * sampler_order(s), &x0, &noise, &out);
    assert_true(fabs((double)out - ((double)x0 + sqrt((1 - a) / a) * (double)noise)) < 1e-5);
    sampler_free(s);
    schedule_free(&schedule);
}

/* A1111's grid of timesteps may have many more places than there are steps; from a picture as many calls are
 * left out of it. */
static void a_grid_of_timesteps_has_room(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"ddim", "pndm", "unipc"};
    NoiseSchedule schedule;
    assert_int_equal(schedule_default(&schedule), STATUS_OK);
    for (int i = 0; i < 3 * 4; i++) {
        static const int STEPS[] = {1, 30, 150, 501}, CALLS[] = {1, 30, 166, 999};
        Sampler *s;
        SamplerChoice choice = {.name = NAMES[i / 4], .convention = SAMPLER_A1111};
        assert_int_equal(sampler_new(&choice, &schedule, STEPS[i % 4], 1, &s), STATUS_OK);
        const int more = i / 4 == 0 ? 0 : i / 4 == 1 ? i % 4 > 0 : 1; /* PLMS asks twice at the first */
        assert_int_equal(sampler_steps(s), CALLS[i % 4] + more);
        sampler_free(s);
        choice.from_picture = true;
        choice.skipped = STEPS[i % 4] / 2;
        assert_int_equal(sampler_new(&choice, &schedule, STEPS[i % 4], 1, &s), STATUS_OK);
        assert_true(sampler_first(s) < sampler_steps(s));
        sampler_free(s);
    }
    schedule_free(&schedule);
}

static void a_picture_alone_has_the_noise_of_its_seed(void **state)
{
    (void)state;
    NoiseSchedule schedule;
    assert_int_equal(schedule_default(&schedule), STATUS_OK);
    float x[2][N];
    for (int i = 0; i < 2; i++) { /* the motion is of the seed alone, whatever was drawn before */
        Sampler *s;
        const SamplerChoice choice = {.name = "dpmpp_sde", .seed = 5};
        assert_int_equal(sampler_new(&choice, &schedule, 3, N, &s), STATUS_OK);
        for (int k = 0; k < N; k++)
            x[i][k] = (float)k;
        const float output[N] = {0};
        for (int call = 0; call < sampler_steps(s); call++)
            sampler_step(s, call, output, NULL, x[i]);
        sampler_free(s);
    }
    assert_memory_equal(x[0], x[1], sizeof x[0]);
    schedule_free(&schedule);
}

/* The table ------------------------------------------------------------------------------------------- */

/* What docs/ says of it, which is made from the table (tests/docs/generated.sh). */
static void assert_documented(const char *name, const char *description, const char *page)
{
    char *line = mem_printf(" %s: %s.", name, description);
    if (!strstr(page, line))
        fail_msg("docs/commands.md does not say `%s`; scripts/docs", line);
    mem_free(line);
}

static void assert_golden(const char *name)
{
    static const char *const cases[] = {"leading.20", "linspace.20", "trailing.20", "v.20", "sd15.20"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char word[32];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(cases[i], "."), cases[i]);
        const int steps = strcmp(name, "lcm") == 0 && i < 3 ? 8 : 20;
        if (!entry("walk.%s.%s.%d.x", word, name, steps))
            fail_msg("no golden walk.%s.%s; scripts/reference/samplers.py", word, name);
    }
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
        assert_true(schema_choice(SAMPLER_WORDS, i + 1, word)); /* auto is the first */
        assert_string_equal(word, families[i].word);
        assert_non_null(f->kind.label);
        assert_non_null(f->scheduler);
        assert_non_null(f->levels);
        assert_non_null(f->step);
        assert_documented(f->kind.name, f->kind.description, page);
        assert_golden(f->kind.name);
    }
    assert_false(schema_choice(SAMPLER_WORDS, count + 1, word));
    mem_free(page);
}

static void every_schedule_has_its_word(void **state)
{
    (void)state;
    char *page, word[SCHEMA_NAME];
    size_t size;
    int count;
    const GridKind *kinds = grid_kinds(&count);
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/commands.md", 1 << 20, &page, &size), STATUS_OK);
    for (int i = 0; i < count; i++) {
        assert_true(schema_choice(SCHEDULE_WORDS, i + 1, word));
        assert_string_equal(word, kinds[i].name);
        assert_ptr_equal(grid_kind(word), &kinds[i]);
        assert_documented(kinds[i].name, kinds[i].description, page);
    }
    assert_false(schema_choice(SCHEDULE_WORDS, count + 1, word));
    mem_free(page);
}

static void the_model_names_its_sampler(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "ddim"},
        {"{\"_class_name\": \"PNDMScheduler\"}", "pndm"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\"}", "dpmpp_2m"},
        {"{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": \"sde-dpmsolver++\"}",
         "dpmpp_2m_sde"},
        {"{\"_class_name\": \"LCMScheduler\"}", "lcm"},
        {"{\"_class_name\": \"SomeScheduler\"}", "ddim"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        NoiseSchedule schedule;
        Sampler *s;
        assert_int_equal(schedule_parse(cases[i][0], "", &schedule), STATUS_OK);
        assert_string_equal(sampler_of_model(&schedule), cases[i][1]);
        assert_int_equal(plain(i % 2 ? NULL : SAMPLER_AUTO, &schedule, 8, &s), STATUS_OK);
        assert_string_equal(sampler_name(s), cases[i][1]);
        sampler_free(s);
        schedule_free(&schedule);
    }
}

/* What cannot be done ---------------------------------------------------------------------------------- */

static void assert_refused(const char *json, SamplerChoice choice, int steps, const char *says)
{
    NoiseSchedule schedule;
    Sampler *s;
    assert_int_equal(schedule_parse(json, "", &schedule), STATUS_OK);
    assert_int_equal(sampler_new(&choice, &schedule, steps, 1, &s), STATUS_REFUSED);
    assert_null(s);
    if (!strstr(status_message(), says))
        fail_msg("`%s` does not say `%s`", status_message(), says);
    schedule_free(&schedule);
}

static void wrong_choices_are_refused(void **state)
{
    (void)state;
    const char *const sd = SD15 "}", *const zero = SD15 ", \"rescale_betas_zero_snr\": true}";
    assert_refused(sd, (SamplerChoice){.name = "eular"}, 20, "did you mean euler?");
    assert_refused(sd, (SamplerChoice){.name = "ddim"}, 0, "1 to 1000");
    assert_refused(sd, (SamplerChoice){.name = "ddim"}, 1001, "1 to 1000");
    assert_refused(sd, (SamplerChoice){.name = "ddim"}, 1000, "offset 1"); /* t = 1000 */
    assert_refused(sd, (SamplerChoice){.name = "lcm"}, 51, "the 50");
    assert_refused("{}", (SamplerChoice){.name = "pndm"}, 3, "skip_prk_steps");
    assert_refused(sd, (SamplerChoice){.name = "euler", .schedule = "karas"}, 20, "did you mean karras?");
    assert_refused(sd, (SamplerChoice){.name = "ddim", .schedule = "karras"}, 20, "goes by timesteps");
    assert_refused(sd, (SamplerChoice){.name = "lcm", .schedule = "trailing"}, 4, "steps of its own");
    assert_refused(zero, (SamplerChoice){.name = "ddim", .schedule = "trailing"}, 20, "has to predict v");
}

static void settings_that_are_not_followed_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"euler", "{\"interpolation_type\": \"log_linear\"}", "interpolation_type"},
        {"euler", "{\"use_karras_sigmas\": true, \"use_beta_sigmas\": true}", "another curve"},
        {"euler", "{\"use_karras_sigmas\": 1}", "use_karras_sigmas"},
        {"dpmpp_2m", "{\"use_flow_sigmas\": true}", "use_flow_sigmas"},
        {"dpmpp_2m", "{\"algorithm_type\": \"dpmsolver\"}", "algorithm_type"},
        {"dpmpp_2m", "{\"solver_order\": 4}", "solver_order"},
        {"unipc", "{\"predict_x0\": false}", "predict_x0"},
        {"unipc", "{\"disable_corrector\": [0]}", "disable_corrector"},
        {"ddim", "{\"clip_sample\": 1}", "clip_sample"},
        {"ddim", "{\"clip_sample_range\": 0}", "clip_sample_range"},
        {"ddim", "{\"thresholding\": \"yes\"}", "thresholding"},
        {"lcm", "{\"original_inference_steps\": 0}", "original_inference_steps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i][1], (SamplerChoice){.name = cases[i][0]}, 20, cases[i][2]);
    NoiseSchedule schedule; /* other schedulers' settings are none of a sampler's business */
    Sampler *s;
    assert_int_equal(
        schedule_parse("{\"use_karras_sigmas\": true, \"solver_order\": 4, \"predict_x0\": false}", "",
                       &schedule),
        STATUS_OK);
    assert_int_equal(plain("ddim", &schedule, 20, &s), STATUS_OK);
    sampler_free(s);
    assert_int_equal(plain("euler_a", &schedule, 20, &s), STATUS_OK);
    sampler_free(s);
    schedule_free(&schedule);
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

static void fresh_noise_is_refused_where_it_counts_for_nothing(void **state)
{
    (void)state;
    Case c;
    Sampler *s;
    open_case("eta_half", "euler", &c);
    assert_int_equal(sampler_new(&c.choice, &c.schedule, 7, N, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "eta"));
    schedule_free(&c.schedule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_noise_is_refused_where_it_counts_for_nothing),
        cmocka_unit_test(every_sampler_of_the_table_is_whole),
        cmocka_unit_test(every_schedule_has_its_word),
        cmocka_unit_test(samplers_walk_as_others),
        cmocka_unit_test(noise_is_added_at_the_level_of_a_step),
        cmocka_unit_test(a_grid_of_timesteps_has_room),
        cmocka_unit_test(a_picture_alone_has_the_noise_of_its_seed),
        cmocka_unit_test(the_model_names_its_sampler),
        cmocka_unit_test(wrong_choices_are_refused),
        cmocka_unit_test(settings_that_are_not_followed_are_refused),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
