/* Whole runs of a tiny model, mostly SD1's, in a folder of their own: what the tests of training share. */
#ifndef ATL_TEST_RUNS_H
#define ATL_TEST_RUNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "train/run/run_folder.h"
#include "train/run/trainer.h"

#include "tests/far/far.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char work[64];

static inline int open_work(void **state)
{
    (void)state;
    static const char *const names[] = {"banana", "bell", "bicycle", "butterfly", "cactus", "carrot"};
    char command[512];
    log_set_level(LOG_ERROR);
    setenv("ATELIER_DEVICE", "cpu", 0); /* started by hand: where nothing else is said, not on tests/cuda */
    strcpy(work, "/tmp/atelier-train-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    for (int i = 0; i < 6; i++) {
        snprintf(command, sizeof command,
                 "mkdir -p %s/pictures && cp data/examples/%s.jpg %s/pictures && echo '%s, neon' > "
                 "%s/pictures/%s.txt",
                 work, names[i], work, names[i], work, names[i]);
        if (system(command) != 0)
            return -1;
    }
    return 0;
}

static inline int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

/* A run of a tiny model in the folder work/NAME, with more settings ("train.batch=2", …, NULL). */
static inline Config *config_for(const char *name, const char *model, ...)
{
    char path[128], *sets[24];
    int count = 0;
    snprintf(path, sizeof path, "%s/run.yaml", work);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "model: {base: %s, dtype: f32}\n"
            "dataset: {path: %s/pictures, caption: {dropout: 0.2}}\n"
            "method: {kind: lora}\n"
            "train: {steps: 6, batch: 2, resolution: 32, threads: 1}\n"
            "optimizer: {lr: 1.0e-3}\n"
            "output: {dir: %s/%s, save_every: 2, dtype: f32}\n",
            model, work, work, name);
    fclose(f);
    va_list args;
    va_start(args, model);
    for (char *set = va_arg(args, char *); set; set = va_arg(args, char *))
        sets[count++] = set;
    va_end(args);
    Config *config;
    if (config_read(path, (const char *const *)sets, count, &config) != STATUS_OK)
        fail_msg("%s", status_message());
    return config;
}

#define SD1 TEST_GOLDEN "/models/sd1"
#define SDXL TEST_GOLDEN "/models/sdxl"

static inline void train(Config *config, const char *resume)
{
    if (trainer_run(config, &(TrainOptions){.resume = resume, .device = test_device()}) != STATUS_OK)
        fail_msg("%s", status_message());
    config_free(config);
}

static inline void assert_same_file(const char *a, const char *b, const char *name)
{
    char *paths[] = {mem_printf("%s/%s/%s", work, a, name), mem_printf("%s/%s/%s", work, b, name)}, *bytes[2];
    size_t sizes[2];
    for (int i = 0; i < 2; i++)
        if (file_read(paths[i], 1 << 28, &bytes[i], &sizes[i]) != STATUS_OK)
            fail_msg("%s", status_message());
    if (sizes[0] != sizes[1] || memcmp(bytes[0], bytes[1], sizes[0]) != 0)
        fail_msg("%s and %s differ", paths[0], paths[1]);
    for (int i = 0; i < 2; i++) {
        mem_free(paths[i]);
        mem_free(bytes[i]);
    }
}

/* The n-th line of a run's log, from 0; NULL: there is none. */
static inline json_t *log_line(const char *name, int n)
{
    char path[160], line[4096];
    snprintf(path, sizeof path, "%s/%s/log.jsonl", work, name);
    FILE *f = fopen(path, "r");
    json_t *j = NULL;
    for (int i = 0; f && i <= n; i++)
        if (!fgets(line, sizeof line, f)) {
            fclose(f);
            return NULL;
        }
    if (f) {
        j = json_loads(line, 0, NULL);
        assert_non_null(j);
        fclose(f);
    }
    return j;
}

static inline double number(const char *name, int line, const char *key)
{
    json_t *j = log_line(name, line);
    assert_non_null(j);
    const json_t *value = json_object_get(j, key);
    const double x = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(j);
    return x;
}

/* A checkpoint that a test has changed is to be read all the same: as one of before, without sums. */
static inline void leave_out_sums(const char *name, int step)
{
    char *path = mem_printf("%s/%s/checkpoints/step-%06d/state.json", work, name, step);
    json_t *state = json_load_file(path, 0, NULL);
    assert_int_equal(json_object_del(state, "parts"), 0);
    assert_int_equal(json_object_del(state, "sum"), 0);
    assert_int_equal(json_dump_file(state, path, JSON_INDENT(2)), 0);
    json_decref(state);
    mem_free(path);
}

/* Takes the last line off a finished run's log: it has a checkpoint, and its end is still to come. */
static inline void unfinish(const char *name)
{
    char *path = mem_printf("%s/%s/log.jsonl", work, name), *text;
    size_t size;
    assert_int_equal(file_read(path, 1 << 20, &text, &size), STATUS_OK);
    text[size - 1] = 0;
    assert_int_equal(file_write_atomic(path, text, (size_t)(strrchr(text, '\n') + 1 - text)), STATUS_OK);
    mem_free(text);
    mem_free(path);
}

#endif
