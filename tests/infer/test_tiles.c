/* Pictures in two passes and by tiles: against diffusers' numbers (scripts/reference/maps.py), and what each
 * of them promises. They are made of the same stages as others, so the GPU's stand-in is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/tiles.h"
#include "maps.h"

#define LATENT_TOLERANCE 1e-3

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
    assert_true(l2_error(tiled, whole, (int64_t)out) < 0.005);
    /* no seams: no step between neighbours that the whole has not */
    for (int x = 1; x < 144; x++) {
        double step = 0;
        for (int y = 20; y < 60; y++)
            step += (double)(tiled[3 * (y * 144 + x)] - tiled[3 * (y * 144 + x - 1)]) -
                    (double)(whole[3 * (y * 144 + x)] - whole[3 * (y * 144 + x - 1)]);
        assert_true(fabs(step / 40) < 0.005);
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
    assert_ok(tiles_decode_plan(s, f.m, size_divided(r.size, 2), 32, &bytes[1]));
    assert_true(bytes[1] < bytes[0]);
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &whole));
    r.vae_tile = 64;
    assert_ok(pipeline_sample(f.p, &r, NULL, NULL, &tiled));
    assert_memory_equal(whole.latents->data, tiled.latents->data, tensor_bytes(whole.latents));
    double sum = 0;
    int most = 0;
    for (int i = 0; i < 3 * 256 * 192; i++) {
        const int off = abs(whole.picture.rgb[i] - tiled.picture.rgb[i]);
        sum += off;
        most = off > most ? off : most;
    }
    print_message("mean difference: %.3g of 255, the largest %d\n", sum / (3 * 256 * 192), most);
    assert_true(sum / (3 * 256 * 192) < 0.3 && most <= 2);
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
    assert_true(l2_error(tiled, whole, (int64_t)out) < 1e-5);
    mem_free(x);
    mem_free(whole);
    mem_free(tiled);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_passes_are_diffusers_pipelines_one_after_the_other),
        cmocka_unit_test(tiles_have_no_seams),
        cmocka_unit_test(a_picture_by_tiles_is_nearly_the_whole_one_in_less_memory),
        cmocka_unit_test(the_encoders_tiles_are_near_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
