/* Configurations as text, accepted or refused: what the tests of them share. */
#ifndef ATL_TEST_CONFIGS_H
#define ATL_TEST_CONFIGS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "train/config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], path[96];

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/atelier-config-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/cat.yaml", folder);
    return 0;
}

static inline int remove_folder(void **state)
{
    (void)state;
    return dir_remove(folder);
}

static inline Status read_bytes(const char *text, size_t size, const char *const *sets, int count,
                                Config **out)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
    return config_read(path, sets, count, out);
}

/* The configuration in text with one --set (or NULL). */
static inline Config *accepted_with(const char *text, const char *set)
{
    Config *c;
    if (read_bytes(text, strlen(text), &set, set != NULL, &c) != STATUS_OK)
        fail_msg("%s", status_message());
    return c;
}

static inline Config *accepted(const char *text)
{
    return accepted_with(text, NULL);
}

static inline void refused_with(const char *text, const char *set, const char *message)
{
    Config *c = NULL;
    char where[200];
    if (read_bytes(text, strlen(text), &set, set != NULL, &c) == STATUS_OK)
        fail_msg("accepted: %s %s", text, set ? set : "");
    assert_null(c);
    if (message[0] >= '0' && message[0] <= '9')
        snprintf(where, sizeof where, "%s:%s", path, message); /* LINE:COLUMN: … */
    else
        snprintf(where, sizeof where, "%s", message);
    if (!strstr(status_message(), where))
        fail_msg("\"%s\" is not in \"%s\"", where, status_message());
}

#define BASE "model: {base: builtin:tiny}\ndataset: {path: cat.h5}\n"
#define WHOLE                                                                                                \
    "model: {base: builtin:tiny, dtype: f32}\n"                                                              \
    "dataset:\n"                                                                                             \
    "  - {path: out/cat.h5, repeats: 10, caption: {dropout: 0.1, shuffle: false}}\n"                         \
    "  - path: ../dogs\n"                                                                                    \
    "    augment: {flip: yes}\n"                                                                             \
    "method: {kind: lora, rank: 8, alpha: 4, targets: attention, text_encoder: false, init: gaussian, "      \
    "clip_skip: 1}\n"                                                                                        \
    "train: {steps: 300, batch: 4, resolution: 512, accumulate: 2, checkpointing: on, seed: "                \
    "18446744073709551615}\n"                                                                                \
    "optimizer: {kind: adamw, lr: 1.0e-4, weight_decay: 0.02, schedule: linear, warmup: 50}\n"               \
    "loss: {snr_gamma: 0, noise_offset: .05}\n"                                                              \
    "validation: {share: 0.1, every: 7}\n"                                                                   \
    "preview: {every: 100, prompts: [a photo of sks cat, no, 'a, b', \"ü \\u007f \\t\\\"q\\\" \\\\\"], "    \
    "negative: no,\n"                                                                                        \
    "  steps: 20, cfg: 7.0, seed: 1, width: 64}\n"                                                           \
    "output: {dir: runs/cat, save_every: 250, keep: 2, formats: [kohya, peft], dtype: bf16}\n"

/* A test in a folder of its own. */
#define CONFIG_TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

#endif
