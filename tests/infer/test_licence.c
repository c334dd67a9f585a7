/* The licence that a model's files name, and that it goes on with what is made. Breaks if a model under
 * OpenRAIL-M is passed on without a word of it. */
#include "golden.h"

#include "infer/files/safetensors.h"
#include "infer/models/model.h"
#include "infer/safety/licence.h"
#include "kernels/base/file.h"

#include <unistd.h>

#define SD1 TEST_GOLDEN "/models/sd1"

static char work[64];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", work, name);
    assert_ok(file_write_atomic(path, text, strlen(text)));
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", work, name);
    unlink(path);
}

static void cards_are_read_to_their_second_rule(void **state)
{
    (void)state;
    static const struct {
        const char *card, *name;
    } CASES[] = {
        {"---\nlicense: creativeml-openrail-m\ntags:\n- a\n---\n# Model\n", "creativeml-openrail-m"},
        {"---\r\ntags: x\r\nlicense:  \"openrail++\" \r\n---\r\n", "openrail++"},
        {"---\nlicense: other\nlicense_name: my-own\n---\n", "my-own"},
        {"---\nlicense_name: my-own\nlicense: mit\n---\n", "mit"},
        {"# Model\nlicense: mit\n", ""},
        {"---\ntags: x\n---\nlicense: mit\n", ""},
        {"---\nlicense:\n---\n", ""},
        {"---\nlicense: \xFF\n---\n", ""},
        {"", ""},
        {"---", ""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char name[128];
        licence_of_card(CASES[i].card, strlen(CASES[i].card), name);
        assert_string_equal(name, CASES[i].name);
    }
}

static void a_folder_says_it_in_its_card_or_its_licence_file(void **state)
{
    (void)state;
    char none[256], unet[256];
    snprintf(none, sizeof none, "%s", work);
    const Model m = {.name = none, .folder = none};
    assert_string_equal(licence_of(&m).name, "");
    Tensor *one = tensor_new(DTYPE_F32, 1, (int64_t[]){1});
    const SafeItem item = {.name = "x", .tensor = one, .dtype = DTYPE_F32, .ndim = -1};
    const TensorMeta meta = {"modelspec.license", "CreativeML Open RAIL-M"};
    snprintf(unet, sizeof unet, "%s/unet", work);
    assert_ok(dir_make(unet));
    snprintf(unet, sizeof unet, "%s/unet/diffusion_pytorch_model.safetensors", work);
    assert_ok(safetensors_write(unet, &item, 1, &meta, 1));
    tensor_free(one);
    assert_string_equal(licence_of(&m).name, "CreativeML Open RAIL-M");
    assert_true(licence_of(&m).restricts);
    const Model single = {.name = unet};
    assert_string_equal(licence_of(&single).name, "CreativeML Open RAIL-M");
    write_file("LICENSE.md", "Copyright\n\nCreativeML Open RAIL++-M License\ndated November 24, 2022\n");
    assert_string_equal(licence_of(&m).name, "openrail++");
    write_file("README.md", "---\nlicense: mit\n---\n");
    assert_string_equal(licence_of(&m).name, "mit");
    assert_string_equal(licence_of(&m).source, "README.md");
    assert_false(licence_of(&m).restricts);
    remove_file("README.md");
    write_file("LICENSE.md", "do what you like\n");
    assert_string_equal(licence_of(&m).name, "CreativeML Open RAIL-M");
    remove_file("LICENSE.md");
    unlink(unet);
}

static void a_saved_model_carries_it(void **state)
{
    (void)state;
    char folder[128], again[128];
    snprintf(folder, sizeof folder, "%s/base", work);
    snprintf(again, sizeof again, "%s/saved", work);
    char line[600];
    snprintf(line, sizeof line, "cp -r " SD1 " %s && chmod -R u+w %s", folder, folder);
    assert_int_equal(system(line), 0);
    write_file("base/README.md", "---\nlicense: creativeml-openrail-m\n---\nA model.\n");
    write_file("base/LICENSE", "CreativeML Open RAIL-M\nAttachment A\n");
    Model *m;
    assert_ok(model_load(folder, MODEL_ALL, DTYPE_F32, &m));
    assert_ok(dir_make(again));
    assert_ok(licence_carry(m, again));
    model_free(m);
    const Model saved = {.name = again, .folder = again};
    const Licence l = licence_of(&saved);
    assert_string_equal(l.name, "creativeml-openrail-m");
    assert_true(l.restricts);
    snprintf(line, sizeof line, "cmp -s %s/LICENSE %s/LICENSE && grep -q 'use restrictions' %s/README.md",
             folder, again, again);
    assert_int_equal(system(line), 0);
}

static int make_work(void **state)
{
    (void)state;
    strcpy(work, "/tmp/atelier-licence-XXXXXX");
    return !mkdtemp(work);
}

static int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards_are_read_to_their_second_rule),
        cmocka_unit_test(a_folder_says_it_in_its_card_or_its_licence_file),
        cmocka_unit_test(a_saved_model_carries_it),
    };
    return cmocka_run_group_tests(tests, make_work, remove_work);
}
