/* Pictures of any size, that fit to themselves, by tiles, in two passes, from noise between two seeds:
 * against diffusers' numbers (scripts/reference/maps.py), and what each of them promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/tiles.h"
#include "infer/pipeline/variation.h"
#include "kernels/base/random.h"
#include "tests/far/far.h"
#include "golden.h"

#define LATENT_TOLERANCE 1e-3

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Pipeline *p;
    Stages *stages;
    TensorFile *golden;
} Fixture;

static void open_fixture(Fixture *f)
{
    assert_ok(model_load(TEST_GOLDEN "/models/sd1", MODEL_ALL, DTYPE_F32, &f->m));
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(f->c);
    assert_ok(pipeline_new(f->c, f->m, &f->p));
    assert_ok(stages_new(f->c, f->m, &f->stages));
    f->golden = golden_open("maps.safetensors");
}

static void close_fixture(Fixture *f)
{
    tensorfile_close(f->golden);
    stages_free(f->stages);
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
}

static float *drawn(uint64_t seed, size_t n)
{
    TorchRandom g;
    float *out = mem_alloc(n * sizeof *out);
    assert_non_null(out);
    torch_seed(&g, seed);
    torch_randn(&g, out, n);
    return out;
}

static void compare_unet(Fixture *f, Size size, const char *key)
{
    const size_t n = 4 * (size_t)size_area(size);
    ConditioningShape shape = conditioning_shape(f->m);
    float *x = drawn(60, n), *text = drawn(61, (size_t)conditioning_text_size(&shape)),
          *out = mem_alloc(n * sizeof *out);
    assert_ok(stage_unet(
        f->stages,
        &(UNetCall){
            .batch = 1, .size = size, .shape = shape, .x = x, .text = text, .timestep = 500, .out = out}));
    assert_close(key, out, golden(f->golden, "%s", key), MODULE_TOLERANCE);
    mem_free(x);
    mem_free(text);
    mem_free(out);
}

static void maps_of_odd_sides_are_diffusers(void **state)
{
    (void)state;
    static const Size SIZES[] = {{15, 16}, {16, 11}, {13, 9}};
    Fixture f;
    open_fixture(&f);
    for (int i = 0; i < 3; i++) {
        char key[32];
        snprintf(key, sizeof key, "odd.%d.%d", SIZES[i].width, SIZES[i].height);
        compare_unet(&f, SIZES[i], key);
    }
    close_fixture(&f);
}

static void maps_that_go_on_at_the_opposite_edge_are_torchs_circular_ones(void **state)
{
    (void)state;
    static const char *const AXES[] = {NULL, "x", "y", "xy"};
    const Size size = {12, 16};
    Fixture f;
    open_fixture(&f);
    for (unsigned wrap = WRAP_X; wrap <= (WRAP_X | WRAP_Y); wrap++) {
        char key[32];
        stages_wrap(f.stages, wrap);
        snprintf(key, sizeof key, "wrap.unet.%s", AXES[wrap]);
        compare_unet(&f, size, key);
        snprintf(key, sizeof key, "wrap.vae.%s", AXES[wrap]);
        float *z = drawn(62, 4 * 12 * 16), *pixels = mem_alloc(3 * 24 * 32 * sizeof(float)),
              *nchw = mem_alloc(3 * 24 * 32 * sizeof(float));
        assert_ok(stage_decode(f.stages, size, z, pixels));
        for (int i = 0; i < 24 * 32; i++)
            for (int c = 0; c < 3; c++)
                nchw[c * 24 * 32 + i] = pixels[3 * i + c];
        assert_close(key, nchw, golden(f.golden, "%s", key), MODULE_TOLERANCE);
        mem_free(z);
        mem_free(pixels);
        mem_free(nchw);
    }
    close_fixture(&f);
}

static SampleRequest heart(void)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    r.prompt = "a red heart";
    r.guidance = 5;
    r.steps = 4;
    r.seed = 42;
    return r;
}

static void a_picture_of_odd_size_and_one_that_wraps_can_be_drawn(void **state)
{
    (void)state;
    Fixture f;
    SampleResult a, b;
    open_fixture(&f);
    SampleRequest r = heart();
    r.size = (Size){34, 30};
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &a));
    assert_int_equal(a.picture.size.width, 34);
    assert_int_equal(a.picture.size.height, 30);
    r.wrap = WRAP_X;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &b));
    assert_memory_not_equal(a.latents->data, b.latents->data, tensor_bytes(a.latents));
    sample_result_free(&b);
    r.wrap = 0; /* and it is forgotten */
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &b));
    assert_memory_equal(a.latents->data, b.latents->data, tensor_bytes(a.latents));
    sample_result_free(&a);
    sample_result_free(&b);
    close_fixture(&f);
}

static void two_passes_are_diffusers_pipelines_one_after_the_other(void **state)
{
    (void)state;
    Fixture f;
    SampleResult result;
    int steps;
    open_fixture(&f);
    SampleRequest r = heart();
    r.size = size_square(32);
    r.hires = (SampleHires){.scale = 1.5, .strength = 0.75};
    assert_ok(pipeline_steps(f.m, &r, &steps));
    assert_int_equal(steps, 4 + 3);
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &result));
    assert_int_equal(result.picture.size.width, 48);
    assert_close("hires", result.latents->data, golden(f.golden, "hires"), LATENT_TOLERANCE);
    sample_result_free(&result);
    r.hires.pixels = true;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &result));
    assert_int_equal(result.picture.size.width, 48);
    sample_result_free(&result);
    Picture picture = {0};
    r.begin.picture = &picture;
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &result), STATUS_REFUSED);
    close_fixture(&f);
}

static void noise_between_two_seeds_is_a1111s(void **state)
{
    (void)state;
    enum { N = 4 * 16 * 12 };
    TensorFile *file = golden_open("maps.safetensors");
    float *a = drawn(70, N), *b = drawn(71, N), *line = drawn(70, N);
    noise_between(a, b, 1, 4, (Size){12, 16});
    assert_close("slerp.1.0", a, golden(file, "slerp.1.0"), 1e-6);
    mem_free(a);
    a = drawn(70, N);
    noise_between(a, b, 0.3f, 4, (Size){12, 16});
    assert_close("slerp.0.3", a, golden(file, "slerp.0.3"), 1e-5);
    noise_between(line, line, 0.5f, 4, (Size){12, 16}); /* to itself: a line */
    assert_true(isfinite(line[0]));
    mem_free(a);
    mem_free(b);
    mem_free(line);
    tensorfile_close(file);
}

static void tiles_have_no_seams(void **state)
{
    (void)state;
    const Size size = {72, 40};
    const size_t in = 4 * (size_t)size_area(size), out = 12 * (size_t)size_area(size);
    Fixture f;
    open_fixture(&f);
    float *z = mem_alloc(in * sizeof *z), *whole = mem_alloc(out * sizeof *whole),
          *tiled = mem_alloc(out * sizeof *tiled);
    for (size_t k = 0; k < in; k++) /* period 4, which every tile has alike */
        z[k] =
            sinf((float)(k / (size_t)size_area(size))) + 0.3f * (float)(k % 4) - 0.2f * (float)(k / 72 % 4);
    assert_int_equal(tile_side(f.m, size, 64), 32);
    assert_int_equal(tile_side(f.m, size, 0), 0);
    assert_int_equal(tile_side(f.m, size, 72 * 2), 0);
    assert_ok(stage_decode(f.stages, size, z, whole));
    assert_ok(tiles_decode(f.stages, f.m, size, 32, z, tiled));
    print_message("tiles: %.3g\n", l2_error(tiled, whole, (int64_t)out));
    assert_true(l2_error(tiled, whole, (int64_t)out) < 0.15);
    /* no seams: no step between neighbours that the whole has not */
    for (int x = 1; x < 144; x++) {
        double step = 0;
        for (int y = 20; y < 60; y++)
            step += (double)(tiled[3 * (y * 144 + x)] - tiled[3 * (y * 144 + x - 1)]) -
                    (double)(whole[3 * (y * 144 + x)] - whole[3 * (y * 144 + x - 1)]);
        assert_true(fabs(step / 40) < 0.06);
    }
    mem_free(z);
    mem_free(whole);
    mem_free(tiled);
    close_fixture(&f);
}

static void a_picture_by_tiles_is_nearly_the_whole_one_in_less_memory(void **state)
{
    (void)state;
    Fixture f;
    SampleResult whole, tiled;
    size_t bytes[2];
    open_fixture(&f);
    SampleRequest r = heart();
    r.steps = 1;
    r.guidance = 1;
    r.size = (Size){256, 192};
    Stages *s = f.stages;
    assert_ok(stage_decode_plan(s, size_divided(r.size, 2), &bytes[0]));
    assert_ok(tiles_decode_plan(s, size_divided(r.size, 2), 32, &bytes[1]));
    assert_true(bytes[1] < bytes[0]);
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &whole));
    r.vae_tile = 64;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &tiled));
    assert_memory_equal(whole.latents->data, tiled.latents->data, tensor_bytes(whole.latents));
    double sum = 0;
    for (int i = 0; i < 3 * 256 * 192; i++)
        sum += abs(whole.picture.rgb[i] - tiled.picture.rgb[i]);
    print_message("mean difference: %.3g of 255\n", sum / (3 * 256 * 192));
    assert_true(sum / (3 * 256 * 192) < 4);
    sample_result_free(&whole);
    r.begin.picture = &tiled.picture; /* and the encoder's tiles */
    r.begin.strength = 1;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &whole));
    sample_result_free(&whole);
    r.wrap = WRAP_X;
    assert_int_equal(pipeline_sample(f.p, &r, NULL, NULL, &whole), STATUS_REFUSED);
    sample_result_free(&tiled);
    close_fixture(&f);
}

static void the_encoders_tiles_are_near_the_whole(void **state)
{
    (void)state;
    const Size size = {80, 48}, pixels = {160, 96};
    const size_t in = 3 * (size_t)size_area(pixels), out = 8 * (size_t)size_area(size);
    Fixture f;
    open_fixture(&f);
    float *x = drawn(80, in), *whole = mem_alloc(out * sizeof *whole),
          *tiled = mem_alloc(out * sizeof *tiled);
    assert_ok(stage_encode(f.stages, pixels, x, whole));
    assert_ok(tiles_encode(f.stages, f.m, size, 32, x, tiled));
    print_message("encoder's tiles: %.3g\n", l2_error(tiled, whole, (int64_t)out));
    assert_true(l2_error(tiled, whole, (int64_t)out) < 0.02);
    mem_free(x);
    mem_free(whole);
    mem_free(tiled);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_of_odd_sides_are_diffusers),
        cmocka_unit_test(maps_that_go_on_at_the_opposite_edge_are_torchs_circular_ones),
        cmocka_unit_test(a_picture_of_odd_size_and_one_that_wraps_can_be_drawn),
        cmocka_unit_test(two_passes_are_diffusers_pipelines_one_after_the_other),
        cmocka_unit_test(noise_between_two_seeds_is_a1111s),
        cmocka_unit_test(tiles_have_no_seams),
        cmocka_unit_test(a_picture_by_tiles_is_nearly_the_whole_one_in_less_memory),
        cmocka_unit_test(the_encoders_tiles_are_near_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
