/* A host program whose language writes numbers with a comma. Breaks if such a number comes into a file or a
 * picture's settings, which other programs, and a run that goes on, read with a point; or if the host's own
 * functions find another locale than its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/atelier.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char work[64];

/* A locale of glibc's, since the machine may have none but C's: the file LC_NUMERIC of one whose decimal
 * point is a comma. Offsets of six items, then these: point, separator and grouping of thousands; point and
 * separator as wide characters; the character set. */
static void make_locale(void)
{
    static const struct {
        uint32_t magic, count, at[6];
        char point[2], none[2], grouping[4];
        uint32_t wide_point, wide_none;
        char set[8];
    } numeric = {0x20031115 ^ 1, 6, {32, 34, 36, 40, 44, 48}, ",", "", "\x7f", ',', 0, "UTF-8"};
    char path[128];
    snprintf(path, sizeof path, "%s/comma", work);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/comma/LC_NUMERIC", work);
    assert_int_equal(file_write_atomic(path, &numeric, sizeof numeric), STATUS_OK);
}

static bool has_comma(void)
{
    char text[16];
    snprintf(text, sizeof text, "%.1f", 1.5);
    return strcmp(text, "1,5") == 0;
}

typedef struct Heard {
    int steps, commas;
} Heard;

static int follow(void *arg, const char *label, const char *unit, int64_t done, int64_t total,
                  const char *note)
{
    Heard *h = arg;
    (void)label;
    (void)unit;
    (void)done;
    (void)total;
    (void)note;
    h->steps++;
    h->commas += has_comma();
    return 0;
}

static void assert_file_has(const char *name, const char *text)
{
    char path[128], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", work, name);
    assert_int_equal(file_read(path, 1 << 20, &data, &size), STATUS_OK);
    if (!memmem(data, size, text, strlen(text)))
        fail_msg("%s does not hold %s", name, text);
    mem_free(data);
}

static void a_run_writes_points(void **state)
{
    (void)state;
    char config[1024];
    AtlRun *run;
    Heard heard = {0};
    snprintf(config, sizeof config,
             "model: {base: %s/models/sd1, dtype: f32}\n"
             "dataset: {path: data/examples}\n"
             "method: {rank: 1, alpha: 0.5}\n"
             "train: {steps: 1, resolution: 32, threads: 1}\n"
             "optimizer: {lr: 1.5e-5}\n"
             "preview: {every: 0}\n"
             "output: {dir: %s/run}\n",
             TEST_GOLDEN, work);
    AtlRunOptions o = {.size = sizeof o, .text = config, .listener = {.progress = follow, .arg = &heard}};
    assert_int_equal(atl_run_open(&o, &run), ATL_OK);
    if (atl_run_go(run) != ATL_OK)
        fail_msg("%s", atl_message());
    atl_run_close(run);
    assert_true(has_comma());
    assert_true(heard.steps > 0);
    assert_int_equal(heard.commas, heard.steps);
    assert_file_has("run/config.yaml", "lr: 1.5e-05\n");
    assert_file_has("run/config.yaml", "alpha: 0.5\n");
    assert_file_has("run/lora.safetensors", "\"ss_network_alpha\":\"0.5\"");
    o.resume = "auto"; /* reads its own config.yaml */
    assert_int_equal(atl_run_open(&o, &run), ATL_OK);
    if (atl_run_go(run) != ATL_OK)
        fail_msg("%s", atl_message());
    atl_run_close(run);
}

static void a_pictures_settings_have_points(void **state)
{
    (void)state;
    AtlModel *model;
    AtlPicture picture;
    const AtlSample sample = {
        .size = sizeof sample, .prompt = "cat", .steps = 1, .sampler = "ddim", .guidance = 2.5f, .eta = 0.25};
    assert_int_equal(atl_model_open(TEST_GOLDEN "/models/sd1", NULL, &model), ATL_OK);
    assert_int_equal(atl_sample(model, &sample, &picture), ATL_OK);
    assert_non_null(strstr(picture.settings, "[\"eta\",\"0.25\"]"));
    assert_non_null(strstr(picture.settings, "\"cfg\":2.5"));
    assert_true(has_comma());
    atl_picture_free(&picture);
    atl_model_close(model);
}

static int begin(void **state)
{
    (void)state;
    strcpy(work, "/tmp/atelier-locale-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    make_locale();
    setenv("LOCPATH", work, 1);
    return setlocale(LC_NUMERIC, "comma") && has_comma() ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    setlocale(LC_NUMERIC, "C");
    return dir_remove(work) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_writes_points),
        cmocka_unit_test(a_pictures_settings_have_points),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
