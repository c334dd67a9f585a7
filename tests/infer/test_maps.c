/* Pictures of any size, that fit to themselves, from noise between two seeds: against diffusers' numbers
 * (scripts/reference/maps.py), and what each of them promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/variation.h"
#include "maps.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_of_odd_sides_are_diffusers),
        cmocka_unit_test(maps_that_go_on_at_the_opposite_edge_are_torchs_circular_ones),
        cmocka_unit_test(a_picture_of_odd_size_and_one_that_wraps_can_be_drawn),
        cmocka_unit_test(noise_between_two_seeds_is_a1111s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
