/* Fewer evaluations of the UNet: what is skipped, that nothing else changes, and that what is kept is used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/stages.h"
#include "kernels/base/random.h"
#include "tests/far/far.h"
#include "golden.h"

#define MOST_STEPS 16

typedef struct Fixture {
    Model *m;
    Ctx *c;
    Pipeline *p;
    SampleRequest r;
    SampleResult result;
    int steps, batches[MOST_STEPS];
    float guided[MOST_STEPS], prompts[MOST_STEPS], without[MOST_STEPS]; /* the first number of each */
} Fixture;

static Status trace(const SampleStep *s, void *arg)
{
    Fixture *f = arg;
    const size_t n = (size_t)(s->channels * size_area(s->size));
    const int i = f->steps++;
    f->batches[i] = s->batch;
    f->guided[i] = s->guided[0];
    f->prompts[i] = s->prediction[s->batch == 2 ? n : 0];
    f->without[i] = s->prediction[0];
    return STATUS_OK;
}

static void open_fixture(Fixture *f, const char *kind)
{
    char path[512];
    *f = (Fixture){.r = sample_request_default()};
    snprintf(path, sizeof path, "%s/models/%s", TEST_GOLDEN, kind);
    assert_ok(model_load(path, MODEL_ALL, DTYPE_F32, &f->m));
    f->c = ctx_new(test_device(), &(CtxOptions){.dtype = DTYPE_F32});
    assert_non_null(f->c);
    assert_ok(pipeline_new(f->c, f->m, &f->p));
    pipeline_trace(f->p, trace, f);
    f->r.prompt = "a red heart";
    f->r.sampler = "ddim";
    f->r.guidance = 4;
    f->r.steps = 6;
    f->r.seed = 3;
}

static void close_fixture(Fixture *f)
{
    sample_result_free(&f->result);
    pipeline_free(f->p);
    ctx_free(f->c);
    model_free(f->m);
}

static void draw(Fixture *f)
{
    sample_result_free(&f->result);
    f->steps = 0;
    assert_ok(pipeline_sample(f->p, &f->r, NULL, NULL, &f->result));
    assert_int_equal(f->steps, 6);
}

static float *copy_latents(const Fixture *f)
{
    float *copy = mem_alloc(tensor_bytes(f->result.latents));
    assert_non_null(copy);
    memcpy(copy, f->result.latents->data, tensor_bytes(f->result.latents));
    return copy;
}

static void an_interval_of_all_levels_changes_nothing_and_one_of_none_is_no_guidance(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, "sd1");
    const size_t bytes = 4 * 16 * 16 * sizeof(float);
    draw(&f);
    float *all = copy_latents(&f);
    f.r.fewer = (SampleFewer){.guided_below = 1000};
    draw(&f);
    assert_memory_equal(f.result.latents->data, all, bytes);
    f.r.fewer = (SampleFewer){.guided_above = 900, .guided_below = 1000};
    draw(&f);
    float *none = copy_latents(&f);
    for (int i = 0; i < 6; i++)
        assert_int_equal(f.batches[i], 1);
    f.r.fewer = (SampleFewer){0};
    f.r.guidance = 1;
    draw(&f);
    assert_memory_equal(f.result.latents->data, none, bytes);
    f.r.guidance = 4;
    f.r.fewer = (SampleFewer){.guided_above = 0.4f, .guided_below = 5};
    draw(&f);
    assert_int_equal(f.batches[0], 1); /* sigma 14 at first, 0.03 at last */
    assert_int_equal(f.batches[3], 2);
    assert_int_equal(f.batches[5], 1);
    assert_true(f.guided[0] == f.prompts[0]);
    mem_free(all);
    mem_free(none);
    close_fixture(&f);
}

static void the_direction_of_a_step_is_kept_for_the_next_ones(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, "sd1");
    f.r.fewer.guide_every = 3;
    draw(&f);
    for (int i = 0; i < 6; i++) {
        const int from = i / 3 * 3;
        assert_int_equal(f.batches[i], i == from ? 2 : 1);
        const float direction = f.prompts[from] - f.without[from];
        assert_true(fabsf(f.guided[i] - (f.prompts[i] + 3 * direction)) <= 1e-5f * (1 + fabsf(f.guided[i])));
    }
    close_fixture(&f);
}

static void keep_and_take(const char *kind, Size size)
{
    Fixture f;
    Stages *s;
    TorchRandom g;
    open_fixture(&f, kind);
    assert_ok(stages_new(f.c, f.m, &s));
    const ConditioningShape shape = conditioning_shape(f.m);
    const size_t n = 2 * 4 * (size_t)size_area(size), text = (size_t)conditioning_size(&shape, 2),
                 deep = 2 * (size_t)size_area(size) * (size_t)unet_deep_channels(f.m->unet);
    float *x = mem_alloc((3 * n + text + deep) * sizeof *x), *whole = x + n, *taken = whole + n,
          *words = taken + n;
    torch_seed(&g, 1);
    torch_randn(&g, x, n);
    torch_randn(&g, words, text);
    UNetCall call = {.batch = 2,
                     .size = size,
                     .shape = shape,
                     .x = x,
                     .text = words,
                     .timestep = 300,
                     .use = DEEP_KEPT,
                     .deep = words + text,
                     .out = whole};
    assert_ok(stage_unet(s, &call));
    call.use = DEEP_TAKEN;
    call.out = taken;
    assert_ok(stage_unet(s, &call));
    assert_memory_equal(whole, taken, n * sizeof *x);
    for (size_t k = 0; k < deep; k++) /* and it is what counts */
        call.deep[k] *= 1.5f;
    assert_ok(stage_unet(s, &call));
    assert_memory_not_equal(whole, taken, n * sizeof *x);
    call.use = DEEP_FORGOTTEN;
    assert_ok(stage_unet(s, &call));
    assert_memory_equal(whole, taken, n * sizeof *x);
    mem_free(x);
    stages_free(s);
    close_fixture(&f);
}

static void the_deep_part_that_is_kept_gives_the_whole_again(void **state)
{
    (void)state;
    keep_and_take("sd1", (Size){12, 16});
    keep_and_take("sd2", (Size){13, 9});
}

static void steps_in_between_take_the_deep_part_of_before(void **state)
{
    (void)state;
    Fixture f;
    open_fixture(&f, "sd1");
    draw(&f);
    float *all = copy_latents(&f);
    const float first = f.guided[0], second = f.guided[1];
    f.r.fewer.deep_every = 2;
    draw(&f);
    assert_true(f.guided[0] == first);
    assert_true(f.guided[1] != second);
    const double away = l2_error(f.result.latents->data, all, 4 * 16 * 16);
    print_message("every second: %.3g\n", away);
    assert_true(away > 0 && away < 0.5);
    f.r.fewer.guide_every = 2; /* both: the prompt's half of what was kept for two */
    draw(&f);
    f.r.fewer.guided_below = 2; /* kept for one, wanted for two: computed */
    draw(&f);
    mem_free(all);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_interval_of_all_levels_changes_nothing_and_one_of_none_is_no_guidance),
        cmocka_unit_test(the_direction_of_a_step_is_kept_for_the_next_ones),
        cmocka_unit_test(the_deep_part_that_is_kept_gives_the_whole_again),
        cmocka_unit_test(steps_in_between_take_the_deep_part_of_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
