/* The proof before the first step. Breaks if it changed what a run computes, left something in the run's
 * folder, took files for good that are not what was written, or went on without room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "train/pictures/preview.h"
#include "train/plan/fit.h"
#include "train/run/preflight.h"
#include "train/run/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVERYTHING PREFLIGHT_WHOLE
#define NOTHING_WHOLE 1000 /* bytes: every file is larger */

static char work[64];

static int open_work(void **state)
{
    (void)state;
    char command[512];
    log_set_level(LOG_ERROR);
    strcpy(work, "/tmp/atelier-preflight-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(command, sizeof command, "mkdir %s/pictures && cp data/examples/b[ae]*.* %s/pictures", work,
             work);
    return system(command);
}

static int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

/* A loaded run of the tiny SD1 model in work/run; method: "{kind: lora}". */
static Setup *setup_for(const char *method, Config **config)
{
    char path[128], folder[128];
    snprintf(path, sizeof path, "%s/run.yaml", work);
    snprintf(folder, sizeof folder, "%s/run", work);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "model: {base: %s, dtype: f32}\n"
            "dataset: {path: pictures}\n"
            "method: %s\n"
            "train: {steps: 2, batch: 2, resolution: 32, threads: 1, ema: 0.9}\n"
            "output: {dir: run}\n",
            TEST_GOLDEN "/models/sd1", method);
    fclose(f);
    Setup *s = NULL;
    if (config_read(path, NULL, 0, config) != STATUS_OK ||
        setup_new(*config, NULL, comm_alone(), folder, false, false, NULL, &s) != STATUS_OK)
        fail_msg("%s", status_message());
    assert_true(s->memory.weights > 0 && !s->parameters->items[0].weight->data &&
                !s->parameters->states[0]->data); /* planned, and nothing loaded */
    if (setup_load(s) != STATUS_OK)
        fail_msg("%s", status_message());
    return s;
}

static void close_run(Setup *s, Config *config)
{
    char folder[128];
    setup_free(s);
    config_free(config);
    snprintf(folder, sizeof folder, "%s/run", work);
    assert_int_equal(dir_remove(folder), STATUS_OK);
}

/* Where there is no time to measure more than a step, the rest is in proportion to its arithmetic; where
 * there is, it is measured, which never comes to exactly that. */
static void what_there_is_no_time_for_is_worked_out(void **state)
{
    (void)state;
    for (int tried = 0; tried < 2; tried++) {
        Config *config;
        Pace pace;
        Setup *s = setup_for("{kind: lora}\n"
                             "validation: {share: 0.5, every: 1}\n"
                             "preview: {every: 1, prompts: [a, b], steps: 7}",
                             &config);
        assert_int_equal(pace_measure(s, 0, tried ? 1000 : 0, &pace), STATUS_OK);
        const SampleRequest r = preview_request(config, 0);
        const double preview = 2 * pipeline_flop(s->pipeline, &r),
                     validation = 2 * plan_flop(s->validation_plan),
                     picture = pipeline_encode_picture_flop(s->pipeline, config_size(config));
        assert_true(preview > 0 && validation > 0 && picture > 0 && pace.step > 0 && pace.validation > 0);
        assert_true((fabs(pace.preview / pace.validation / (preview / validation) - 1) < 1e-9) == !tried);
        assert_true((fabs(pace.picture / pace.validation / (picture / validation) - 1) < 1e-9) == !tried);
        close_run(s, config);
    }
}

/* A device with so much memory, and no more. */
static size_t memory_there;
static size_t tell_memory(void)
{
    return memory_there;
}

/* What would fit is said of the settings that the memory hangs on, and of no others. */
static void advice_names_what_helps(void **state)
{
    (void)state;
    for (int previews = 0; previews < 2; previews++) {
        Config *config;
        Setup *s =
            setup_for(previews ? "{kind: lora}\npreview: {every: 1, prompts: [a], width: 256, height: 256}"
                               : "{kind: lora}\npreview: {every: 1, prompts: [a], width: 16, height: 16}",
                      &config);
        Device small = *s->dev;
        small.host_memory = false;
        small.memory_left = tell_memory;
        s->dev = &small;
        Config same = s->asked; /* as it is planned, before anything is loaded */
        assert_int_equal(setup_try(s, &same, &s->memory), STATUS_OK);
        memory_there = memory_total(&s->memory) - 1;
        assert_int_equal(fit_memory(s), STATUS_REFUSED);
        const char *shown = strstr(status_message(), "--set preview.width=128 --set preview.height=128: ");
        if (!strstr(status_message(), "What would fit:") || (shown != NULL) != previews ||
            (strstr(status_message(), "preview") != NULL) != previews)
            fail_msg("%s", status_message());
        s->dev = s->c->dev;
        close_run(s, config);
    }
}

/* A sum over everything that the next step depends on. */
static uint64_t hash_parameters(const Parameters *p)
{
    uint64_t h = 14695981039346656037u;
    const Tensor *const all[] = {p->flat.weights, p->states[0], p->states[1], p->averages};
    for (int k = 0; k < 4; k++)
        for (size_t j = 0; all[k] && j < tensor_bytes(all[k]); j++)
            h = (h ^ ((const uint8_t *)all[k]->data)[j]) * 1099511628211u;
    return h ^ (uint64_t)p->updates;
}

static void assert_no_trial(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/run/.trial", work);
    assert_false(file_exists(path));
}

static void proves_and_changes_nothing(const char *method, size_t whole)
{
    Config *config;
    Setup *s = setup_for(method, &config);
    char folder[128];
    snprintf(folder, sizeof folder, "%s/run", work);
    s->parameters->updates = 7;
    const CheckpointState state = {.step = 3, .made_with = "test"};
    const uint64_t before = hash_parameters(s->parameters);
    double checkpoint = 0, result = 0;
    if (preflight_files(s, folder, &state, whole, &checkpoint, &result) != STATUS_OK)
        fail_msg("%s", status_message());
    assert_true(hash_parameters(s->parameters) == before);
    assert_true(checkpoint > 0 && result > 0);
    assert_no_trial();
    Trial t;
    double seconds = 0;
    assert_int_equal(trial_new(&s->shape, &t), STATUS_OK);
    assert_int_equal(trial_step(s, &t, &seconds), STATUS_OK);
    trial_free(&t);
    assert_true(seconds > 0);
    assert_true(hash_parameters(s->parameters) == before);
    close_run(s, config);
}

static void lora_is_proven_and_nothing_changes(void **state)
{
    (void)state;
    proves_and_changes_nothing("{kind: lora, text_encoder: true}", EVERYTHING);
}

static void a_whole_model_is_proven_and_nothing_changes(void **state)
{
    (void)state;
    proves_and_changes_nothing("{kind: full}", EVERYTHING);
}

static void large_files_are_proven_by_their_room_and_first_tensors(void **state)
{
    (void)state;
    proves_and_changes_nothing("{kind: full}", NOTHING_WHOLE);
}

/* A disk that is too small: said before anything is trained. */
static void room_that_is_not_there_is_missed(void **state)
{
    (void)state;
    Config *config;
    Setup *s = setup_for("{kind: lora}", &config);
    char folder[128];
    double checkpoint, result;
    const CheckpointState at = {.made_with = "test"};
    snprintf(folder, sizeof folder, "%s/run", work);
    s->disk.checkpoint = (size_t)1 << 55;
    assert_int_equal(preflight_files(s, folder, &at, EVERYTHING, &checkpoint, &result), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "of disk cannot be had"));
    assert_no_trial();
    close_run(s, config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advice_names_what_helps),
        cmocka_unit_test(what_there_is_no_time_for_is_worked_out),
        cmocka_unit_test(lora_is_proven_and_nothing_changes),
        cmocka_unit_test(a_whole_model_is_proven_and_nothing_changes),
        cmocka_unit_test(large_files_are_proven_by_their_room_and_first_tensors),
        cmocka_unit_test(room_that_is_not_there_is_missed),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
