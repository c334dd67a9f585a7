/* Models from one layout into the other: the names are diffusers' own converter's, the tensors come back bit
 * for bit in their types and shapes, and the picture is the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/convert/convert.h"
#include "infer/files/keymap.h"
#include "infer/models/parts.h"
#include "infer/models/single_file.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "tests/infer/formats/single_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char target[96], again[96];

static char warned[1000]; /* the last warning */

static void quiet(void *unused, LogLevel level, const char *text)
{
    (void)unused;
    if (level == LOG_WARN)
        snprintf(warned, sizeof warned, "%s", text);
}

static void make(const Variant *v)
{
    char *text;
    Row *rows;
    const char *const old[] = {folder_path, target, again};
    for (int i = 0; i < 3; i++)
        if (file_is_dir(old[i]))
            ok(dir_remove(old[i]));
        else
            remove(old[i]);
    const int n = read_rows(v, &text, &rows);
    write_single(v, rows, n);
    write_folder(v, rows, n);
    write_ckpt_of(single_path, ckpt_path);
    free_rows(text, rows, n);
}

static ConvertResult convert(const char *from, const char *to)
{
    ConvertResult result;
    ok(model_convert(&(ConvertRequest){.from = from, .to = to}, &result));
    return result;
}

static int set_up(void **state)
{
    log_to(quiet, NULL);
    if (make_work(state) != 0)
        return -1;
    snprintf(target, sizeof target, "%s/made.safetensors", work);
    snprintf(again, sizeof again, "%s/made", work);
    return 0;
}

/* Every tensor of wanted is in f, and the other way round but for marks of the kind. */
static void same_file(const char *path, const char *wanted_path)
{
    TensorFile *f, *wanted;
    ok(tensorfile_open(path, &f));
    ok(tensorfile_open(wanted_path, &wanted));
    for (int i = 0; i < tensorfile_count(wanted); i++) {
        const TensorEntry *e = tensorfile_entry(wanted, i), *found = tensorfile_find(f, e->name);
        char a[96];
        if (!found)
            fail_msg("%s: has no %s", path, e->name);
        if (found->type != e->type || !tensor_entry_is_shaped(found, e->ndim, e->shape))
            fail_msg("%s is %s", e->name, tensor_entry_describe(found, a, sizeof a));
        if (memcmp(found->data, e->data, e->bytes) != 0)
            fail_msg("%s: other numbers", e->name);
    }
    assert_int_equal(tensorfile_count(f), tensorfile_count(wanted));
    tensorfile_close(f);
    tensorfile_close(wanted);
}

static void same_folder(const char *folder, const char *wanted)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors",
                                        "text_encoder/model.safetensors", "text_encoder_2/model.safetensors"};
    for (int i = 0; i < 4; i++) {
        char a[256], b[256];
        snprintf(a, sizeof a, "%s/%s", folder, files[i]);
        snprintf(b, sizeof b, "%s/%s", wanted, files[i]);
        assert_int_equal(file_exists(a), file_exists(b));
        if (i < 3 || file_exists(b))
            same_file(a, b);
    }
}

static void draw_with(const char *model, uint8_t rgb[64 * 64 * 3])
{
    Model *m = NULL;
    Pipeline *p = NULL;
    SampleResult result;
    SampleRequest r = sample_request_default();
    Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32});
    ok(model_load(model, MODEL_ALL, DTYPE_F32, &m));
    ok(pipeline_new(c, m, &p));
    r.prompt = "a lighthouse at dusk";
    r.steps = 2;
    r.size = size_square(64);
    ok(pipeline_sample(p, &r, NULL, NULL, &result));
    memcpy(rgb, result.picture.rgb, 64 * 64 * 3);
    sample_result_free(&result);
    pipeline_free(p);
    ctx_free(c);
    model_free(m);
}

/* Names ---------------------------------------------------------------------------------------------------
 */

static void names_go_back_to_diffusers_own(void **state)
{
    (void)state;
    static const char *const kinds[] = {"sd1", "sd2", "sdxl"};
    for (int k = 0; k < 3; k++) {
        char *text;
        Row *rows;
        const Variant v = {.kind = kinds[k], .dtype = DTYPE_F16};
        const int n = read_rows(&v, &text, &rows);
        make(&v);
        SingleFile f;
        ok(single_file_open(single_path, &f));
        for (int i = 0; i < n; i++)
            for (int p = 0; p < PART_COUNT; p++) {
                const SingleNames *names = &PARTS[p].single[f.build];
                char key[KEYMAP_MAX], whole[2 * KEYMAP_MAX];
                int third = -1;
                if (strcmp(PARTS[p].folder, rows[i].part) != 0)
                    continue;
                snprintf(key, sizeof key, "%s", rows[i].key);
                if (names->name_back &&
                    !names->name_back(rows[i].key, part_config((PartId)p, &f.shapes), key, &third))
                    fail_msg("%s has no name", rows[i].key);
                snprintf(whole, sizeof whole, "%s%s", names->prefix, key);
                assert_string_equal(whole, rows[i].single);
                assert_int_equal(third >= 0, strstr(key, "in_proj") != NULL);
            }
        single_file_close(&f);
        free_rows(text, rows, n);
    }
}

static void names_of_nothing_have_none(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "down_blocks.0.resnets.x.norm1.weight",
                                        "mid_block.resnets.2.norm1.weight",
                                        "up_blocks.0.",
                                        "mid_block.attentions.1.norm.weight",
                                        "encoder.down_blocks.9.x",
                                        "text_model.encoder.layers.0.something.weight"};
    const bool attention[8] = {false};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char key[KEYMAP_MAX];
        int third;
        assert_false(keymap_unet_back(names[i], 2, attention, key));
        assert_false(keymap_vae_back(names[i], 4, key));
        assert_false(keymap_openclip_back(names[i], key, &third));
    }
}

/* There and back ------------------------------------------------------------------------------------------
 */

static void a_folder_becomes_the_single_file_and_comes_back(void **state)
{
    (void)state;
    static const Variant KINDS[] = {
        {.kind = "sd1", .dtype = DTYPE_F16},
        {.kind = "sd1", .dtype = DTYPE_BF16, .inpainting = true},
        {.kind = "sd2", .dtype = DTYPE_F32, .prediction = PREDICT_V},
        {.kind = "sdxl", .dtype = DTYPE_F16},
        {.kind = "sdxl", .dtype = DTYPE_BF16, .prediction = PREDICT_V, .v_pred = true, .zero_snr = true},
    };
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        make(&KINDS[i]);
        const ConvertResult single = convert(folder_path, target);
        assert_true(single.single && !single.told_alone);
        same_file(target, single_path);
        assert_false(convert(target, again).single);
        same_folder(again, folder_path);
        ok(dir_remove(again));
        convert(ckpt_path, again);
        same_folder(again, folder_path);
        remove(target);
        convert(ckpt_path, target);
        same_file(target, single_path);
    }
}

/* SD2's base predicts the noise, which a single file says by the steps of its training; an SD1 model of v by
 * a tensor. */
static void what_is_predicted_is_told(void **state)
{
    (void)state;
    static const struct {
        Variant v;
        const char *mark;
    } KINDS[] = {{{.kind = "sd2", .dtype = DTYPE_F16}, "global_step"},
                 {{.kind = "sd1", .dtype = DTYPE_F16, .prediction = PREDICT_V}, "v_pred"}};
    for (int i = 0; i < 2; i++) {
        make(&KINDS[i].v);
        convert(folder_path, target);
        TensorFile *f;
        Model *m;
        double steps = 0;
        ok(tensorfile_open(target, &f));
        const TensorEntry *mark = tensorfile_find(f, KINDS[i].mark);
        assert_non_null(mark);
        if (i == 0) {
            ok(tensor_entry_number(mark, &steps));
            assert_true(steps == 875000);
        }
        assert_string_equal(tensorfile_metadata(f, "modelspec.prediction_type"), i == 0 ? "epsilon" : "v");
        tensorfile_close(f);
        ok(model_load(target, 0, DTYPE_F32, &m));
        assert_int_equal(m->schedule.prediction, KINDS[i].v.prediction);
        model_free(m);
    }
}

static void every_layout_draws_the_same_picture(void **state)
{
    (void)state;
    static uint8_t folder[64 * 64 * 3], other[64 * 64 * 3];
    make(&(Variant){.kind = "sd2", .dtype = DTYPE_F16, .prediction = PREDICT_V});
    convert(folder_path, target);
    convert(target, again);
    draw_with(folder_path, folder);
    const char *const others[] = {single_path, ckpt_path, target, again};
    for (int i = 0; i < 4; i++) {
        draw_with(others[i], other);
        assert_memory_equal(folder, other, sizeof folder);
    }
}

/* What is nobody else's, sizes, heads, layers, schedule and tokenizer, only metadata can say. */
static void comes_back_whole(const char *model, bool alone)
{
    Model *a, *b;
    remove(target);
    if (file_is_dir(again))
        ok(dir_remove(again));
    assert_int_equal(convert(model, target).told_alone, alone);
    convert(target, again);
    const char *const made[] = {target, again};
    ok(model_load(model, MODEL_TOKENIZER, DTYPE_F32, &a));
    for (int i = 0; i < 2; i++) {
        ok(model_load(made[i], MODEL_TOKENIZER, DTYPE_F32, &b));
        for (int p = 0; p < PART_COUNT; p++)
            if (model_has(a, (PartId)p))
                assert_string_equal(a->config_json[p], b->config_json[p]);
        assert_string_equal(a->scheduler_json, b->scheduler_json);
        assert_int_equal(a->schedule.prediction, b->schedule.prediction);
        assert_int_equal(tokenizer_vocab_size(a->tokenizer), tokenizer_vocab_size(b->tokenizer));
        model_free(b);
    }
    model_free(a);
}

static void a_model_of_another_kind_comes_back_whole(void **state)
{
    (void)state;
    comes_back_whole("builtin:tiny", true);
    comes_back_whole(TEST_GOLDEN "/models/sd1", true);
    comes_back_whole(TEST_GOLDEN "/models/sd2", true);
}

/* Other parts ---------------------------------------------------------------------------------------------
 */

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder_path, name);
    ok(file_write_atomic(path, text, strlen(text)));
}

static void carried(const char *name, const char *wanted)
{
    char path[256], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", again, name);
    ok(file_read(path, 1 << 20, &text, &size));
    assert_string_equal(text, wanted);
    mem_free(text);
}

static void make_with_other_parts(void)
{
    make(&(Variant){.kind = "sd1", .dtype = DTYPE_F16});
    put("safety_checker/config.json", "{}");
    put("safety_checker/onnx/model.bin", "weights");
    put("feature_extractor/preprocessor_config.json", "{\"size\": 224}");
    put("image_encoder/weights.bin", "known by the index alone");
    put("samples/1.txt", "no part");
    put("model_index.json", "{\"_class_name\": \"Other\", \"requires_safety_checker\": true,"
                            " \"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"],"
                            " \"feature_extractor\": [\"transformers\", \"CLIPImageProcessor\"],"
                            " \"image_encoder\": [\"transformers\", \"CLIPVisionModel\"],"
                            " \"gone\": [\"diffusers\", \"NotThere\"], \"note\": 7}");
}

static void a_folder_keeps_the_parts_that_nothing_is_drawn_with(void **state)
{
    (void)state;
    char path[256], *text;
    size_t size;
    make_with_other_parts();
    convert(folder_path, again);
    carried("safety_checker/config.json", "{}");
    carried("safety_checker/onnx/model.bin", "weights");
    carried("feature_extractor/preprocessor_config.json", "{\"size\": 224}");
    carried("image_encoder/weights.bin", "known by the index alone");
    snprintf(path, sizeof path, "%s/samples", again);
    assert_false(file_exists(path));
    snprintf(path, sizeof path, "%s/model_index.json", again);
    ok(file_read(path, 1 << 20, &text, &size));
    static const char *const said[] = {"StableDiffusionPipeline\"",
                                       "StableDiffusionSafetyChecker",
                                       "CLIPImageProcessor",
                                       "CLIPVisionModel",
                                       "\"note\": 7",
                                       "\"requires_safety_checker\": true"};
    for (int i = 0; i < 6; i++)
        if (!strstr(text, said[i]))
            fail_msg("%s is not in %s", said[i], text);
    assert_null(strstr(text, "NotThere"));
    mem_free(text);
}

static void a_single_file_says_what_it_leaves_out(void **state)
{
    (void)state;
    make_with_other_parts();
    warned[0] = 0;
    convert(folder_path, target);
    assert_non_null(
        strstr(warned, "no place for feature_extractor, image_encoder, safety_checker: left out"));
}

/* Types ---------------------------------------------------------------------------------------------------
 */

static ElementType type_in(const char *path, const char *name)
{
    TensorFile *f;
    ok(tensorfile_open(path, &f));
    const TensorEntry *e = tensorfile_find(f, name);
    assert_non_null(e);
    const ElementType type = e->type;
    tensorfile_close(f);
    return type;
}

static void types_are_kept_or_what_was_asked_for(void **state)
{
    (void)state;
    static const char norm[] = "model.diffusion_model.out.0.weight";
    ConvertResult result;
    const DType f32 = DTYPE_F32;
    make(&(Variant){.kind = "sd1", .dtype = DTYPE_BF16});
    convert(folder_path, target);
    assert_int_equal(type_in(target, norm), ELEMENT_BF16);
    remove(target);
    ok(model_convert(&(ConvertRequest){.from = folder_path, .to = target, .dtype = &f32}, &result));
    assert_int_equal(type_in(target, norm), ELEMENT_F32);
}

static void averages_become_the_weights(void **state)
{
    (void)state;
    ConvertResult result;
    make(&(Variant){.kind = "sd1", .dtype = DTYPE_F16, .ema = true});
    ok(model_convert(&(ConvertRequest){.from = single_path, .to = again, .ema = true}, &result));
    same_folder(again, folder_path);
}

/* Without a VAE, which many files come without -------------------------------------------------------------
 */

/* The single file of v lacks its VAE; the whole one is left in `whole`. */
static void make_without_vae(const Variant *v, const char *whole)
{
    char *text;
    Row *rows;
    make(v);
    assert_int_equal(rename(single_path, whole), 0);
    const int n = read_rows(v, &text, &rows);
    Row *left = mem_calloc((size_t)n, sizeof *left);
    int count = 0;
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].part, "vae") != 0)
            left[count++] = rows[i];
    write_single(v, left, count);
    mem_free(left);
    free_rows(text, rows, n);
}

static void a_file_without_a_vae_takes_another_s(void **state)
{
    (void)state;
    static const char *const kinds[] = {"sd1", "sd2", "sdxl"};
    char whole[160];
    snprintf(whole, sizeof whole, "%s/whole.safetensors", work);
    for (int k = 0; k < 3; k++) {
        Model *m = NULL;
        ConvertResult result;
        ConvertRequest r = {.from = single_path, .to = target};
        make_without_vae(&(Variant){.kind = kinds[k], .dtype = DTYPE_F16, .prediction = k == 1}, whole);
        assert_int_equal(model_convert(&r, &result), STATUS_REFUSED);
        assert_non_null(strstr(status_message(), "has no VAE (first_stage_model.*); give one with --vae"));
        ok(model_load(single_path, MODEL_UNET | MODEL_TEXT, DTYPE_F32, &m)); /* which need none */
        model_free(m);
        r.vae = folder_path;
        ok(model_convert(&r, &result));
        same_file(target, whole);
        remove(target);
        r.vae = whole;
        ok(model_convert(&r, &result));
        same_file(target, whole);
    }
}

/* In 8 bits -----------------------------------------------------------------------------------------------
 */

static void all_but_a_few_small_weights_are_in_8_bits(const char *model)
{
    Model *m;
    int kept = 0;
    ok(model_load(model, MODEL_UNET | MODEL_TEXT, DTYPE_F32, &m));
    for (int i = 0; i < PART_COUNT; i++) {
        const LayerSet *set = part_layers((PartId)i, m);
        for (int k = 0; set && k < set->count; k++) {
            const Tensor *w = set->items[k]->weight;
            const bool narrow = layerset_quantises(set->items[k]->name, w->ndim, w->shape);
            if (narrow != (w->dtype == DTYPE_I8))
                fail_msg("%s: %s of %s", model, set->items[k]->name, PARTS[i].folder);
            kept += narrow;
        }
    }
    assert_true(kept > 50);
    model_free(m);
}

/* Every text encoder's too, in both layouts, and from one to the other. */
static void eight_bits_take_all_parts_but_the_vae(void **state)
{
    (void)state;
    static const char *const kinds[] = {"sd1", "sd2", "sdxl"};
    for (int k = 0; k < 3; k++) {
        ConvertResult result;
        uint8_t folder[64 * 64 * 3], single[64 * 64 * 3];
        make(&(Variant){.kind = kinds[k], .dtype = DTYPE_F16, .prediction = k == 1});
        ok(model_convert(&(ConvertRequest){.from = folder_path, .to = again, .quantise = true}, &result));
        all_but_a_few_small_weights_are_in_8_bits(again);
        draw_with(again, folder);
        convert(again, target);
        all_but_a_few_small_weights_are_in_8_bits(target);
        draw_with(target, single);
        assert_memory_equal(single, folder, sizeof folder);
        remove(target);
        ok(model_convert(&(ConvertRequest){.from = single_path, .to = target, .quantise = true}, &result));
        all_but_a_few_small_weights_are_in_8_bits(target);
        draw_with(target, single);
        assert_memory_equal(single, folder, sizeof folder);
    }
}

/* Refusals ------------------------------------------------------------------------------------------------
 */

static void what_would_be_lost_is_refused(void **state)
{
    (void)state;
    ConvertResult result;
    make(&(Variant){.kind = "sd1", .dtype = DTYPE_F16});
    convert(folder_path, target);
    const struct {
        const char *to, *what;
    } TARGETS[] = {
        {target, "is there already"}, {"x.ckpt", "written as .safetensors"}, {"", "an empty name"}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(model_convert(&(ConvertRequest){.from = folder_path, .to = TARGETS[i].to}, &result),
                         STATUS_REFUSED);
        assert_non_null(strstr(status_message(), TARGETS[i].what));
    }
    char lacking[160];
    snprintf(lacking, sizeof lacking, "%s/vae/diffusion_pytorch_model.safetensors", folder_path);
    remove(lacking);
    assert_int_not_equal(model_convert(&(ConvertRequest){.from = folder_path, .to = again}, &result),
                         STATUS_OK);
    assert_false(file_exists(again));
    char **names;
    int count;
    ok(dir_list(work, &names, &count));
    for (int i = 0; i < count; i++)
        assert_null(strstr(names[i], "atelier-part"));
    dir_list_free(names, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_back_to_diffusers_own),
        cmocka_unit_test(names_of_nothing_have_none),
        cmocka_unit_test(a_folder_becomes_the_single_file_and_comes_back),
        cmocka_unit_test(what_is_predicted_is_told),
        cmocka_unit_test(every_layout_draws_the_same_picture),
        cmocka_unit_test(a_model_of_another_kind_comes_back_whole),
        cmocka_unit_test(a_folder_keeps_the_parts_that_nothing_is_drawn_with),
        cmocka_unit_test(a_single_file_says_what_it_leaves_out),
        cmocka_unit_test(types_are_kept_or_what_was_asked_for),
        cmocka_unit_test(averages_become_the_weights),
        cmocka_unit_test(a_file_without_a_vae_takes_another_s),
        cmocka_unit_test(eight_bits_take_all_parts_but_the_vae),
        cmocka_unit_test(what_would_be_lost_is_refused),
    };
    return cmocka_run_group_tests_name("convert", tests, set_up, remove_work);
}
