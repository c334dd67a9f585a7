/* SDXL: both text encoders, the UNet and whole pictures against diffusers, with a tiny random model
 * (scripts/reference/sdxl.py). */
#include "reference.h"
#include "sdxl.h"

#include "infer/models/parts.h"
#include "infer/pipeline/told.h"
#include "kernels/base/json.h"

enum { B = 2, TOKENS = 77 };

static void a_folder_is_read(void **state)
{
    (void)state;
    Model *m;
    assert_ok(model_load(SDXL, MODEL_ALL, DTYPE_F32, &m));
    assert_int_equal(m->family, FAMILY_SDXL);
    assert_true(m->zero_negative);
    assert_int_equal(m->default_size, 32);
    const ConditioningShape s = conditioning_shape(m);
    assert_int_equal(s.ids, 2 * TOKENS);
    assert_int_equal(s.width, 16 + 24);
    assert_int_equal(s.pooled, 20);
    assert_int_equal(s.extra, 6);
    assert_int_equal(clip_config(m->clip)->projection, 0);
    for (int i = 0; i < PART_COUNT; i++)
        assert_non_null(part_network((PartId)i, m));
    model_free(m);
}

/* Modules ------------------------------------------------------------------------------------------------ */

typedef struct Step {
    const Fixture *f;
    int clip_skip;
    int32_t ids[B * 2 * TOKENS];
    float *out;
} Step;

static Step step_new(const Fixture *f, int clip_skip)
{
    Step s = {.f = f, .clip_skip = clip_skip};
    for (int i = 0; i < B; i++)
        for (int e = 0; e < 2; e++) {
            const int32_t *ids = (const int32_t *)golden(f->golden, "ids.%d", e + 1)->data;
            memcpy(s.ids + (2 * i + e) * TOKENS, ids + i * TOKENS, TOKENS * sizeof *ids);
        }
    return s;
}

static void states_step(Ctx *c, void *arg)
{
    Step *s = arg;
    ctx_read(c, conditioning_encode(c, s->f->m, s->clip_skip, B, s->ids).states, s->out);
}

static void pooled_step(Ctx *c, void *arg)
{
    Step *s = arg;
    ctx_read(c, conditioning_encode(c, s->f->m, s->clip_skip, B, s->ids).pooled, s->out);
}

static Conditioning golden_text(Ctx *c, const Fixture *f)
{
    return (Conditioning){.states = cast(c, golden_input(c, golden(f->golden, "states")), c->dtype),
                          .pooled = cast(c, golden_input(c, golden(f->golden, "pooled")), c->dtype),
                          .extra = golden_input(c, golden(f->golden, "numbers"))};
}

static void unet_step(Ctx *c, void *arg)
{
    Step *s = arg;
    const Fixture *f = s->f;
    const Conditioning text = golden_text(c, f);
    Tensor *x = from_nchw(c, golden_input(c, golden(f->golden, "unet.x"))),
           *t = golden_input(c, golden(f->golden, "unet.t"));
    ctx_read(c, to_nchw(c, unet_forward(c, f->m->unet, x, t, &text)), s->out);
}

static float *compute(const Fixture *f, StepFn fn, int clip_skip, const char *name)
{
    Step s = step_new(f, clip_skip);
    return compute_golden(f->c, fn, &s, &s.out, golden(f->golden, "%s", name));
}

static void check(const Fixture *f, StepFn fn, int clip_skip, const char *name)
{
    float *out = compute(f, fn, clip_skip, name);
    assert_close(name, out, golden(f->golden, "%s", name), MODULE_TOLERANCE);
    mem_free(out);
}

static void modules_agree_with_the_reference(void **state)
{
    (void)state;
    Fixture f;
    fixture_open(&f, "models/sdxl.safetensors", DTYPE_F32);
    check(&f, states_step, 0, "states");
    check(&f, states_step, 1, "states.skip");
    check(&f, pooled_step, 0, "pooled");
    check(&f, pooled_step, 1, "pooled"); /* is of the last layer whatever is left out */
    check(&f, unet_step, 0, "unet.out");
    fixture_close(&f);
}

static void bf16_is_as_exact_as_the_references(void **state)
{
    (void)state;
    static const struct {
        StepFn fn;
        const char *name, *limit;
    } modules[] = {{states_step, "states", "states.bf16"},
                   {pooled_step, "pooled", "pooled.bf16"},
                   {unet_step, "unet.out", "unet.bf16"}};
    Fixture f;
    fixture_open(&f, "models/sdxl.safetensors", DTYPE_BF16);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        float *out = compute(&f, modules[i].fn, 0, modules[i].name);
        assert_as_exact(modules[i].name, out, golden(f.golden, "%s", modules[i].name),
                        golden(f.golden, "%s", modules[i].limit));
        mem_free(out);
    }
    fixture_close(&f);
}

/* The numbers of size as the UNet's config says they are told: reference's add_time_proj. */
static void numbers_step(Ctx *c, void *arg)
{
    Step *s = arg;
    const UNetConfig *k = unet_config(s->f->m->unet);
    const int64_t all = B * 6;
    Tensor *n = reshape(c, golden_input(c, golden(s->f->golden, "numbers")), 1, &all);
    ctx_read(c, timestep_embedding(c, n, k->addition_width, k->flip_sin_to_cos, k->freq_shift), s->out);
}

static void numbers_of_size_are_told_as_diffusers_tells_them(void **state)
{
    (void)state;
    Fixture f;
    fixture_open(&f, "models/sdxl.safetensors", DTYPE_F32);
    check(&f, numbers_step, 0, "numbers.embedded");
    fixture_close(&f);
}

/* Gradients ---------------------------------------------------------------------------------------------- */

static const float TIMES[B] = {900, 250};
enum { LATENTS = 4 * 16 * 16 };

typedef struct Training {
    Step text;
    float noise[B * LATENTS], noisy[B * LATENTS], loss;
} Training;

static void training_new(const Fixture *f, Training *t)
{
    t->text = step_new(f, 0);
    reference_latents(f->m, TIMES, B, LATENTS, t->noise, t->noisy);
}

static void full_step(Ctx *c, void *arg)
{
    Training *t = arg;
    const Fixture *f = t->text.f;
    const int64_t shape[] = {B, 4, 16, 16};
    Tensor *x = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, t->noisy)),
           *target = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, t->noise)),
           *times = ctx_input(c, DTYPE_F32, 1, shape, TIMES);
    Conditioning text = conditioning_encode(c, f->m, 0, B, t->text.ids);
    text.extra = golden_input(c, golden(f->golden, "numbers"));
    Tensor *loss = mse_loss(c, unet_forward(c, f->m->unet, x, times, &text), target, NULL, NULL);
    ctx_read(c, loss, &t->loss);
    ctx_backward(c, loss, 1.0f);
}

/* "unet.down_blocks.0….weight": its gradient. */
static const Tensor *gradient_of(const Model *m, const char *name)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const size_t n = strlen(PARTS[i].folder);
        if (strncmp(name, PARTS[i].folder, n) == 0 && name[n] == '.')
            return layer_gradient(part_layers((PartId)i, m), name + n + 1);
    }
    fail_msg("no part %s", name);
    return NULL;
}

static void gradients_of_all_weights_agree_with_the_reference(void **state)
{
    (void)state;
    static const PartId trained[] = {PART_UNET, PART_TEXT, PART_TEXT_2};
    Fixture f;
    Flat flat;
    int64_t room = 0;
    fixture_open(&f, "models/sdxl.safetensors", DTYPE_F32);
    for (int i = 0; i < 3; i++)
        room += layerset_room(part_layers(trained[i], f.m));
    assert_ok(flat_new(&flat, test_device(), NULL, room, false));
    for (int i = 0; i < 3; i++)
        assert_ok(layerset_train(part_layers(trained[i], f.m), &flat));
    Training t;
    training_new(&f, &t);
    ctx_set_recording(f.c, true);
    assert_ok(ctx_run(f.c, NULL, full_step, &t));
    assert_close("loss", &t.loss, golden(f.golden, "full.loss"), MODULE_TOLERANCE);
    assert_true(check_gradients(f.golden, f.m, gradient_of) > 200);
    fixture_close(&f);
    flat_free(&flat);
}

/* Prompts ------------------------------------------------------------------------------------------------ */

/* What is told at the first step; mem_free. */
static float *tell(const Fixture *f, const SampleRequest *r, ConditioningShape *shape)
{
    Stages *stages;
    Prompts *prompts;
    Told *t;
    assert_ok(stages_new(f->c, f->m, &stages));
    assert_ok(prompts_new(f->m, stages, &prompts));
    assert_ok(told_read(prompts, r, size_square(32), 20, &t));
    *shape = told_shape(t);
    float *text = mem_calloc((size_t)conditioning_size(shape, told_batch(t)), sizeof *text);
    assert_non_null(text);
    assert_ok(told_encode(t));
    told_at(t, 0, text);
    told_free(t);
    prompts_free(prompts);
    stages_free(stages);
    return text;
}

static const char *word_of(json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

static void check_told(const Fixture *f, const TensorEntry *e)
{
    json_t *j = json_parse(tensorfile_metadata(f->golden, e->name), 0, NULL);
    SampleRequest r = sample_request_default();
    ConditioningShape shape;
    assert_non_null(j);
    r.guidance = 1;
    r.prompt = word_of(j, "prompt");
    r.compat = compat_find(word_of(j, "compat"));
    r.reading = (PromptReading){prompt_syntax_of(word_of(j, "syntax")), true};
    r.clip_skip = (int)json_integer_value(json_object_get(j, "clip_skip"));
    float *text = tell(f, &r, &shape);
    assert_int_equal(conditioning_text_size(&shape), tensor_entry_count(e));
    assert_close(e->name, text, e, MODULE_TOLERANCE);
    mem_free(text);
    json_decref(j);
}

/* Chunks, weights and clip skip of both encoders. */
static void prompts_are_told_as_each_program_does(void **state)
{
    (void)state;
    Fixture f;
    int told = 0;
    fixture_open(&f, "sdxl.safetensors", DTYPE_F32);
    for (int i = 0; i < tensorfile_count(f.golden); i++)
        if (!strncmp(tensorfile_entry(f.golden, i)->name, "told.", 5)) {
            check_told(&f, tensorfile_entry(f.golden, i));
            told++;
        }
    assert_int_equal(told, 6);
    fixture_close(&f);
}

/* Zeros, or what an empty text becomes: states and pooled text alike. */
static void no_negative_prompt_is_what_each_program_takes_it_for(void **state)
{
    (void)state;
    static const struct {
        const char *compat, *negative;
        bool model, zeros; /* the model's own file asks for them; they come */
    } CASES[] = {{"diffusers", NULL, true, true},   {"diffusers", "", true, false},
                 {"diffusers", NULL, false, false}, {"a1111", NULL, false, true},
                 {"a1111", "", true, true},         {"a1111", "a", true, false},
                 {"comfy", NULL, true, false},      {"comfy", "", true, false}};
    Fixture f;
    fixture_open(&f, "sdxl.safetensors", DTYPE_F32);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        SampleRequest r = sample_request_default();
        ConditioningShape shape;
        int64_t states, pooled;
        r.compat = compat_find(CASES[i].compat);
        r.negative = CASES[i].negative;
        f.m->zero_negative = CASES[i].model;
        float *text = tell(&f, &r, &shape);
        const int64_t a = conditioning_part(&shape, 2, 0, CONDITIONING_STATES, &states),
                      b = conditioning_part(&shape, 2, 0, CONDITIONING_POOLED, &pooled);
        int64_t zeros = 0;
        for (int64_t k = 0; k < states; k++)
            zeros += text[a + k] == 0;
        for (int64_t k = 0; k < pooled; k++)
            zeros += text[b + k] == 0;
        assert_int_equal(zeros, CASES[i].zeros ? states + pooled : 0);
        mem_free(text);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_is_read),
        cmocka_unit_test(modules_agree_with_the_reference),
        cmocka_unit_test(bf16_is_as_exact_as_the_references),
        cmocka_unit_test(numbers_of_size_are_told_as_diffusers_tells_them),
        cmocka_unit_test(gradients_of_all_weights_agree_with_the_reference),
        cmocka_unit_test(prompts_are_told_as_each_program_does),
        cmocka_unit_test(no_negative_prompt_is_what_each_program_takes_it_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
