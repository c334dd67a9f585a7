/* Pictures that begin from a picture: picture to picture and inpainting against diffusers' latents and
 * pictures (scripts/reference/pipelines.py), and what masks promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/fill.h"
#include "infer/pipeline/mask.h"
#include "infer/pipeline/pipeline.h"
#include "infer/samplers/sampler.h"
#include "kernels/base/file.h"
#include "tests/far/far.h"
#include "golden.h"

#include <stdlib.h>
#include <unistd.h>

#define LATENT_TOLERANCE 1e-3

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Pipeline *p;
    TensorFile *golden;
} Fixture;

static void link_part(const char *model, const char *part, const char *folder)
{
    char *from = mem_printf("%s/models/%s/%s", TEST_GOLDEN, model, part), *to = path_join(folder, part);
    assert_int_equal(symlink(from, to), 0);
    mem_free(from);
    mem_free(to);
}

/* models/sd1 with the UNet of nine channels in place of its own. */
static void make_inpainting_folder(char *folder)
{
    static const char *const PARTS[] = {"scheduler", "text_encoder", "tokenizer", "vae", "model_index.json"};
    strcpy(folder, "/tmp/atelier-inpaint-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        link_part("sd1", PARTS[i], folder);
    link_part("inpaint", "unet", folder);
}

static void open_model(Fixture *f, bool nine)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/models/sd1", TEST_GOLDEN);
    if (nine)
        make_inpainting_folder(path);
    assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &f->m));
    if (nine)
        assert_ok(dir_remove(path));
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(f->c);
    assert_ok(pipeline_new(f->c, f->m, &f->p));
    f->golden = golden_open("pipelines.safetensors");
}

static void close_model(Fixture *f)
{
    tensorfile_close(f->golden);
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
}

/* The pictures of the golden script. */
static Picture made_picture(int W, int H)
{
    Picture p;
    assert_ok(picture_new((Size){W, H}, &p));
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                p.rgb[3 * (y * W + x) + c] = (uint8_t)(7 * x + 11 * y + 53 * c + x * y);
    return p;
}

typedef struct Rectangle {
    int left, top, right, bottom;
} Rectangle;

static Picture made_mask(int W, int H, Rectangle r)
{
    Picture p;
    assert_ok(picture_new((Size){W, H}, &p));
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            memset(p.rgb + 3 * (y * W + x),
                   x >= r.left && x < r.right && y >= r.top && y < r.bottom ? 255 : 0, 3);
    return p;
}

/* With the grey column beside it. */
static Picture golden_mask(void)
{
    Picture p = made_mask(32, 32, (Rectangle){3, 5, 23, 24});
    for (int y = 5; y < 24; y++)
        memset(p.rgb + 3 * (y * 32 + 23), 100, 3);
    return p;
}

static SampleRequest golden_request(const Fixture *f, const Picture *picture, const Picture *mask)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = tensorfile_metadata(f->golden, "prompt");
    r.negative = tensorfile_metadata(f->golden, "negative");
    r.seed = strtoull(tensorfile_metadata(f->golden, "seed"), NULL, 10);
    r.steps = 10;
    r.guidance = 5;
    r.begin.picture = picture;
    r.begin.mask = mask;
    return r;
}

static void assert_same_picture(const char *what, const Picture *got, const TensorEntry *e, int tolerance)
{
    const size_t plane = (size_t)size_area(got->size);
    assert_int_equal(e->bytes, 3 * plane);
    const uint8_t *want = e->data;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++)
            if (abs(got->rgb[3 * i + c] - want[c * plane + i]) > tolerance)
                fail_msg("%s: pixel %zu is %d, not %d", what, i, got->rgb[3 * i + c], want[c * plane + i]);
}

static void compare(const char *kind, bool nine, bool masked)
{
    static const double STRENGTHS[] = {0.75, 1};
    Fixture f;
    Picture picture = made_picture(32, 32), mask = golden_mask();
    open_model(&f, nine);
    int count, compared = 0;
    const SamplerKind *samplers = sampler_kinds(&count);
    for (int s = 0; s < count; s++)
        for (int i = 0; i < 2 && test_sampler(samplers[s].name); i++) {
            char key[64];
            snprintf(key, sizeof key, "%s.%s.%.*f", kind, samplers[s].name, i ? 1 : 2, STRENGTHS[i]);
            const TensorEntry *e = tensorfile_find(f.golden, key);
            if (!e)
                continue;
            SampleResult result;
            SampleRequest r = golden_request(&f, &picture, masked ? &mask : NULL);
            r.sampler = samplers[s].name;
            r.begin.strength = STRENGTHS[i];
            assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &result));
            assert_close(key, result.latents->data, e, LATENT_TOLERANCE);
            if (compared++ == 0) {
                snprintf(key, sizeof key, "%s.picture", kind);
                assert_same_picture(key, &result.picture, golden(f.golden, "%s", key), 1);
            }
            sample_result_free(&result);
        }
    assert_true(compared >= (test_device_slow() ? 2 : 8));
    picture_free(&picture);
    picture_free(&mask);
    close_model(&f);
}

static void picture_to_picture_is_diffusers(void **state)
{
    (void)state;
    compare("img2img", false, false);
}

static void inpainting_with_any_model_is_diffusers(void **state)
{
    (void)state;
    compare("inpaint4", false, true);
}

static void inpainting_with_nine_channels_is_diffusers(void **state)
{
    (void)state;
    compare("inpaint9", true, true);
}

static void the_masked_part_alone_is_diffusers(void **state)
{
    (void)state;
    Fixture f;
    SampleResult result;
    Picture picture = made_picture(48, 40), mask = made_mask(48, 40, (Rectangle){10, 8, 28, 22});
    open_model(&f, false);
    SampleRequest r = golden_request(&f, &picture, &mask);
    r.begin.strength = 0.75;
    r.begin.padding = 3;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &result));
    assert_int_equal(result.picture.size.width, 48);
    assert_int_equal(result.picture.size.height, 40);
    assert_same_picture("masked.picture", &result.picture, golden(f.golden, "masked.picture"), 2);
    sample_result_free(&result);
    picture_free(&picture);
    picture_free(&mask);
    close_model(&f);
}

/* What all of these begin from: made_picture(32, 32), painted anew in a rectangle of it. */
typedef struct Case {
    Fixture f;
    Picture picture, mask;
    SampleRequest r;
    SampleResult result;
} Case;

static const Rectangle HOLE = {8, 12, 20, 26};

static void begin_case(Case *k)
{
    open_model(&k->f, false);
    k->picture = made_picture(32, 32);
    k->mask = made_mask(32, 32, HOLE);
    k->r = golden_request(&k->f, &k->picture, &k->mask);
    k->r.steps = 2;
    k->result = (SampleResult){0};
}

static void end_case(Case *k)
{
    sample_result_free(&k->result);
    picture_free(&k->picture);
    picture_free(&k->mask);
    close_model(&k->f);
}

static void draw(Case *k)
{
    sample_result_free(&k->result);
    assert_ok(pipeline_sample(k->f.p, &k->r, NULL, NULL, &k->result));
}

/* How many pixels of the rectangle, widened by so many, and of what is outside of it are not the picture's.
 */
static void count_changed(const Case *k, int widened, int *inside, int *outside)
{
    *inside = *outside = 0;
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 32; x++) {
            const bool in = x >= HOLE.left - widened && x < HOLE.right + widened && y >= HOLE.top - widened &&
                            y < HOLE.bottom + widened;
            const size_t at = 3 * ((size_t)y * 32 + (size_t)x);
            *(in ? inside : outside) += memcmp(k->result.picture.rgb + at, k->picture.rgb + at, 3) != 0;
        }
}

static void what_is_pasted_back_keeps_its_bytes(void **state)
{
    (void)state;
    static const struct {
        int blur, padding;
        Paste paste;
        const char *compat;
    } CASES[] = {{0, NO_PADDING, PASTE_ON, "diffusers"},
                 {0, NO_PADDING, PASTE_AUTO, "a1111"},
                 {2, NO_PADDING, PASTE_ON, "diffusers"},
                 {0, 2, PASTE_AUTO, "diffusers"},
                 {1, 4, PASTE_AUTO, "comfy"}};
    Case k;
    int inside, outside;
    begin_case(&k);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        k.r.begin.blur = CASES[i].blur;
        k.r.begin.padding = CASES[i].padding;
        k.r.begin.paste = CASES[i].paste;
        k.r.compat = compat_find(CASES[i].compat);
        draw(&k);
        count_changed(&k, 3 * CASES[i].blur, &inside, &outside);
        assert_int_equal(outside, 0);
        assert_true(inside > 100);
    }
    k.r.begin = (SampleBegin){.picture = &k.picture, .mask = &k.mask, .padding = NO_PADDING};
    k.r.compat = NULL; /* as diffusers: all of it has been through the VAE */
    draw(&k);
    count_changed(&k, 0, &inside, &outside);
    assert_true(outside > 100);
    end_case(&k);
}

static void each_way_to_treat_a_mask_counts(void **state)
{
    (void)state;
    static float seen[6][4 * 16 * 16];
    Case k;
    begin_case(&k);
    for (int i = 8; i < 24; i++)
        memset(k.mask.rgb + 3 * (10 * 32 + i), 120, 3); /* a soft edge */
    k.r.begin.strength = 0.6;
    k.r.steps = 5;
    for (int i = 0; i < 6; i++) {
        k.r.begin.content = i < 4 ? (MaskContent)i : CONTENT_ORIGINAL;
        k.r.begin.soft = i == 4;
        k.r.begin.blur = i == 5 ? 6 : 0;
        draw(&k);
        memcpy(seen[i], k.result.latents->data, sizeof seen[i]);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(seen[i], seen[j], sizeof seen[i]);
    }
    end_case(&k);
}

static void inpainting_follows_a1111_at_each_call(void **state)
{
    (void)state;
    static const char *const SAMPLERS[] = {"ddim", "euler", "heun"};
    Case k;
    begin_case(&k);
    k.r.steps = 10;
    k.r.compat = compat_find("a1111");
    k.r.rng = "cpu";
    for (int i = 0; i < 6; i++) {
        char key[64];
        k.r.sampler = SAMPLERS[i / 2];
        if (!test_sampler(k.r.sampler))
            continue;
        k.r.begin.strength = i % 2 ? 1 : 0.75;
        snprintf(key, sizeof key, "a1111.%s.%s", k.r.sampler, i % 2 ? "1.0" : "0.75");
        draw(&k);
        assert_close(key, k.result.latents->data, golden(k.f.golden, "%s", key), LATENT_TOLERANCE);
    }
    end_case(&k);
}

static void inpainting_follows_comfyui_at_both_ends_of_a_call(void **state)
{
    (void)state;
    static const char *const STRENGTHS[] = {"0.75", "1.0"};
    Case k;
    begin_case(&k);
    for (int y = HOLE.top; y < HOLE.bottom; y++) /* half of a latent's column */
        memset(k.mask.rgb + 3 * (y * 32 + HOLE.left), 0, 3);
    k.r.steps = 10;
    k.r.compat = compat_find("comfy");
    k.r.sampler = "euler";
    for (int i = 0; i < 2; i++) {
        char key[64];
        k.r.begin.strength = strtod(STRENGTHS[i], NULL);
        snprintf(key, sizeof key, "comfy.euler.%s", STRENGTHS[i]);
        draw(&k);
        assert_close(key, k.result.latents->data, golden(k.f.golden, "%s", key), LATENT_TOLERANCE);
    }
    end_case(&k);
}

static void a_filled_hole_takes_the_colours_around_it(void **state)
{
    (void)state;
    Picture p, filled, mask = made_mask(32, 32, HOLE);
    assert_ok(picture_new((Size){32, 32}, &p));
    for (int i = 0; i < 3 * 32 * 32; i++)
        p.rgb[i] = (uint8_t)(mask.rgb[i] ? 255 : 40 + i % 3);
    assert_ok(fill_masked(&p, &mask, &filled));
    for (int i = 0; i < 3 * 32 * 32; i++)
        assert_int_equal(filled.rgb[i], 40 + i % 3);
    picture_free(&p);
    picture_free(&filled);
    picture_free(&mask);
}

static void a_blurred_mask_keeps_its_sum_and_its_symmetry(void **state)
{
    (void)state;
    Picture mask = made_mask(64, 64, (Rectangle){24, 24, 40, 40});
    assert_ok(mask_blur(&mask, 3));
    int64_t sum = 0;
    for (int y = 0; y < 64; y++)
        for (int x = 0; x < 64; x++) {
            const int v = mask.rgb[3 * (y * 64 + x)];
            sum += v;
            assert_int_equal(v, mask.rgb[3 * (x * 64 + y)]);
            assert_int_equal(v, mask.rgb[3 * ((63 - y) * 64 + x)]);
            if (x < 24 - 8 || x >= 40 + 8)
                assert_int_equal(v, 0);
        }
    assert_in_range(sum, 255 * 256 * 99 / 100, 255 * 256 * 101 / 100);
    assert_in_range(mask.rgb[3 * (32 * 64 + 24)], 128, 160); /* its edge: half a pixel inside of it */
    picture_free(&mask);
}

static void assert_steps(const Case *k, const char *compat, double strength, int steps)
{
    SampleRequest r = k->r;
    int got;
    r.compat = compat_find(compat);
    r.begin.strength = strength;
    assert_ok(pipeline_steps(k->f.m, &r, &got));
    assert_int_equal(got, steps);
}

static void strength_is_counted_as_each_program_does(void **state)
{
    (void)state;
    Case k;
    begin_case(&k);
    k.r.steps = 10;
    k.r.begin.mask = NULL;
    k.r.sampler = "euler";
    assert_steps(&k, "diffusers", 0.7, 7);
    assert_steps(&k, "diffusers", 0.75, 7);
    assert_steps(&k, "diffusers", 1, 10);
    assert_steps(&k, "a1111", 0.7, 8);
    assert_steps(&k, "a1111", 1, 10);
    assert_steps(&k, "a1111", 0.01, 1);
    assert_steps(&k, "comfy", 0.25, 10);
    assert_steps(&k, "diffusers", 0, 8); /* the default, 0.8 */
    k.r.steps_before = 10;               /* a second pass */
    assert_steps(&k, "diffusers", 0.7, 7);
    assert_steps(&k, "a1111", 0.7, 10);
    k.r.steps_before = 0;
    k.r.sampler = "ddim"; /* from the place of ⌊n s⌋ down, two of whose ends are not asked about */
    assert_steps(&k, "a1111", 0.7, 6);
    assert_steps(&k, "a1111", 1, 8);
    assert_steps(&k, "a1111", 0.01, 1);
    assert_steps(&k, "comfy", 0.7, 10);
    k.r.sampler = "pndm"; /* one more for the first */
    assert_steps(&k, "a1111", 0.7, 7);
    k.r.sampler = "unipc";
    assert_steps(&k, "a1111", 0.7, 7);
    k.r.sampler = "euler";
    k.r.begin.mask = &k.mask;
    assert_steps(&k, "diffusers", 0, 10);
    end_case(&k);
}

static void assert_refused(Case *k, const char *message)
{
    assert_int_equal(pipeline_sample(k->f.p, &k->r, NULL, NULL, &k->result), STATUS_REFUSED);
    if (!strstr(status_message(), message))
        fail_msg("%s", status_message());
    assert_null(k->result.latents);
}

static void what_cannot_be_begun_from_is_refused(void **state)
{
    (void)state;
    Case k;
    begin_case(&k);
    k.r.begin.strength = 0.3;
    assert_refused(&k, "less than one step");
    memset(k.mask.rgb, 0, 3 * 32 * 32);
    k.r.begin.strength = 1;
    assert_refused(&k, "black all over");
    end_case(&k);
}

static void the_size_is_the_pictures_own_where_none_is_given(void **state)
{
    (void)state;
    Case k;
    begin_case(&k);
    Picture odd = made_picture(47, 38);
    SampleRequest r = k.r;
    r.begin.picture = &odd;
    assert_ok(pipeline_choose_size(k.f.m, &r));
    assert_int_equal(r.size.width, 46);
    assert_int_equal(r.size.height, 38);
    r.size = (Size){0, 64};
    assert_ok(pipeline_choose_size(k.f.m, &r));
    assert_int_equal(r.size.width, 46);
    assert_int_equal(r.size.height, 64);
    r.size = (Size){0};
    r.begin.padding = 3; /* worked at in the model's, and put back */
    assert_ok(pipeline_choose_size(k.f.m, &r));
    assert_int_equal(r.size.width, k.f.m->default_size);
    r.size = (Size){32, 32};
    for (int fit = FIT_STRETCH; fit <= FIT_PAD; fit++) {
        k.r = r;
        k.r.begin.padding = NO_PADDING;
        k.r.begin.fit = (PictureFit)fit;
        draw(&k);
        assert_int_equal(k.result.picture.size.width, 32);
    }
    k.r.begin.padding = 3;
    draw(&k);
    assert_int_equal(k.result.picture.size.width, 47);
    assert_int_equal(k.result.picture.size.height, 38);
    picture_free(&odd);
    end_case(&k);
}

/* A model of nine channels paints without a picture, too. */
static void an_inpainting_model_draws_from_the_prompt_alone(void **state)
{
    (void)state;
    Fixture f;
    SampleResult a, b;
    open_model(&f, true);
    SampleRequest r = golden_request(&f, NULL, NULL);
    r.steps = 2;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &a));
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &b));
    assert_memory_equal(a.latents->data, b.latents->data, tensor_bytes(a.latents));
    assert_int_equal(a.picture.size.width, 32);
    sample_result_free(&a);
    sample_result_free(&b);
    close_model(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picture_to_picture_is_diffusers),
        cmocka_unit_test(inpainting_with_any_model_is_diffusers),
        cmocka_unit_test(inpainting_with_nine_channels_is_diffusers),
        cmocka_unit_test(the_masked_part_alone_is_diffusers),
        cmocka_unit_test(what_is_pasted_back_keeps_its_bytes),
        cmocka_unit_test(each_way_to_treat_a_mask_counts),
        cmocka_unit_test(inpainting_follows_a1111_at_each_call),
        cmocka_unit_test(inpainting_follows_comfyui_at_both_ends_of_a_call),
        cmocka_unit_test(a_filled_hole_takes_the_colours_around_it),
        cmocka_unit_test(a_blurred_mask_keeps_its_sum_and_its_symmetry),
        cmocka_unit_test(strength_is_counted_as_each_program_does),
        cmocka_unit_test(what_cannot_be_begun_from_is_refused),
        cmocka_unit_test(the_size_is_the_pictures_own_where_none_is_given),
        cmocka_unit_test(an_inpainting_model_draws_from_the_prompt_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
