/* The safety checker against diffusers' on random weights: what CLIP gets of a picture, what it makes of it,
 * and the scores; one picture flagged by itself, one only because a special concept makes it stricter, one
 * not. Breaks if a picture would be let through that diffusers blackens, or the other way. */
#include "golden.h"

#include "infer/files/tensor_list.h"
#include "infer/models/model.h"
#include "infer/safety/checker.h"
#include "tests/far/far.h"

#include <sys/stat.h>
#include <unistd.h>

#define PICTURES 3
#define FOLDER TEST_GOLDEN "/safety/model"

static Ctx *ctx;
static TensorFile *wanted;

static int open_all(void **state)
{
    (void)state;
    ctx = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32, .threads = 1});
    wanted = golden_open("safety/pictures.safetensors");
    return !ctx || !wanted;
}

static int close_all(void **state)
{
    (void)state;
    tensorfile_close(wanted);
    ctx_free(ctx);
    return 0;
}

static Model model_in(char *folder)
{
    return (Model){.name = folder, .folder = folder};
}

static Picture picture_of(int i)
{
    const TensorEntry *e = golden(wanted, "%d.rgb", i);
    Picture p;
    assert_ok(picture_new((Size){(int)e->shape[1], (int)e->shape[0]}, &p));
    memcpy(p.rgb, e->data, e->bytes);
    return p;
}

static void check_scores(SafetyChecker *s, int i)
{
    SafetyScores got;
    Picture p = picture_of(i);
    assert_ok(safety_checker_look(s, &p, &got));
    picture_free(&p);
    assert_int_equal(got.width, 24);
    assert_close("embedding", got.embedding, golden(wanted, "%d.embedding", i), MODULE_TOLERANCE);
    assert_close("special cosines", got.special_cosine, golden(wanted, "%d.special_cosine", i),
                 MODULE_TOLERANCE);
    assert_close("cosines", got.concept_cosine, golden(wanted, "%d.concept_cosine", i), MODULE_TOLERANCE);
    /* rounded to thousandths: the same, or the next where a cosine lies between two */
    assert_close("special scores", got.special, golden(wanted, "%d.special", i), 1.01e-3);
    assert_close("scores", got.concept, golden(wanted, "%d.concept", i), 1.01e-3);
    const float flagged = got.flagged;
    assert_close("flagged", &flagged, golden(wanted, "%d.flagged", i), 0);
    assert_int_equal(got.flagged, got.concept[got.worst] > 0);
}

static void pictures_come_to_clip_as_from_transformers(void **state)
{
    (void)state;
    char folder[] = FOLDER;
    const Model m = model_in(folder);
    SafetyChecker *s;
    assert_ok(safety_checker_open(&m, ctx, false, &s));
    for (int i = 0; i < PICTURES; i++) {
        int side;
        float *pixels;
        Picture p = picture_of(i);
        assert_ok(safety_checker_pixels(s, &p, &side, &pixels));
        assert_int_equal(side, 28);
        assert_close("pixels", pixels, golden(wanted, "%d.pixels", i), 1e-6);
        mem_free(pixels);
        picture_free(&p);
    }
    safety_checker_free(s);
}

static void scores_are_diffusers(void **state)
{
    (void)state;
    char folder[] = FOLDER;
    const Model m = model_in(folder);
    SafetyChecker *s;
    assert_true(safety_checker_is_there(&m));
    assert_ok(safety_checker_open(&m, ctx, false, &s));
    for (int i = 0; i < PICTURES; i++)
        check_scores(s, i);
    safety_checker_free(s);
}

/* "vision_model." -> "vision_model.vision_model.", as transformers before 5 wrote it. */
static void rewrite(const char *from, const char *to)
{
    TensorFile *f;
    TensorList list = {0};
    Tensor *kept[128];
    assert_ok(tensorfile_open(from, &f));
    const int count = tensorfile_count(f);
    assert_true(count < 128);
    for (int i = 0; i < count; i++) {
        const TensorEntry *e = tensorfile_entry(f, i);
        const bool vision = !strncmp(e->name, "vision_model.", 13);
        kept[i] = tensor_new(DTYPE_F32, e->ndim, e->shape);
        assert_ok(tensor_entry_load(e, 0, kept[i]));
        tensorlist_add(&list, mem_printf("%s%s", vision ? "vision_model." : "", e->name), kept[i], DTYPE_F32);
    }
    assert_ok(tensorlist_write(&list, to, NULL, 0));
    for (int i = 0; i < count; i++)
        tensor_free(kept[i]);
    tensorlist_free(&list);
    tensorfile_close(f);
}

static void older_names_are_read_and_a_missing_checker_is_named(void **state)
{
    (void)state;
    char folder[] = "/tmp/atelier-safety-XXXXXX", line[512];
    assert_non_null(mkdtemp(folder));
    const Model m = model_in(folder);
    SafetyChecker *s;
    assert_false(safety_checker_is_there(&m));
    assert_int_equal(safety_checker_open(&m, ctx, false, &s), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "no safety checker"));
    snprintf(line, sizeof line, "cp -r %s/* %s", FOLDER, folder);
    assert_int_equal(system(line), 0);
    snprintf(line, sizeof line, "%s/safety_checker/model.safetensors", folder);
    rewrite(FOLDER "/safety_checker/model.safetensors", line);
    assert_ok(safety_checker_open(&m, ctx, false, &s));
    check_scores(s, 0);
    safety_checker_free(s);
    unlink(line);
    assert_int_not_equal(safety_checker_open(&m, ctx, false, &s), STATUS_OK);
    assert_non_null(strstr(status_message(), "safety_checker"));
    snprintf(line, sizeof line, "rm -r %s", folder);
    assert_int_equal(system(line), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_come_to_clip_as_from_transformers),
        cmocka_unit_test(scores_are_diffusers),
        cmocka_unit_test(older_names_are_read_and_a_missing_checker_is_named),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
