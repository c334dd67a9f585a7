/* Every objective of the table against PyTorch and diffusers (tests/golden/objectives.safetensors, written by
 * scripts/reference/objectives.py). Breaks if one came without its numbers there, asked or judged otherwise,
 * lacked a part, or were not offered where a configuration's words are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/files/tensor_file.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/ctx.h"
#include "kernels/device.h"
#include "kernels/ops.h"
#include "train/config/schema.h"
#include "train/objectives/objective.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAMPLES 5
#define SIZE 36 /* numbers of a latent, (4,3,3) */
#define GAMMA 5.0f
#define TOLERANCE 2e-6 /* of the largest value: some roundings */

static TensorFile *golden;

/* "NAME.PART" of the golden file into out, n floats. */
static void read_golden(const Objective *o, const char *part, float *out, int64_t n)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", o->name, part);
    const TensorEntry *e = tensorfile_find(golden, name);
    if (!e)
        fail_msg("objectives.safetensors has no %s: add it to scripts/reference/objectives.py", name);
    assert_int_equal(tensor_entry_count(e), n);
    assert_int_equal(tensor_entry_read(e, DTYPE_F32, out), STATUS_OK);
}

static void assert_close(const Objective *o, const char *part, const float *got, int64_t n)
{
    float want[SAMPLES * SIZE], largest = 0;
    read_golden(o, part, want, n);
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= TOLERANCE * largest))
            fail_msg("%s.%s[%lld] is %.9g, not %.9g", o->name, part, (long long)i, got[i], want[i]);
}

static void timesteps_of(const Objective *o, int t[SAMPLES])
{
    int32_t numbers[SAMPLES];
    char name[64];
    snprintf(name, sizeof name, "%s.timesteps", o->name);
    const TensorEntry *e = tensorfile_find(golden, name);
    assert_non_null(e);
    assert_int_equal(tensor_entry_read(e, DTYPE_I32, numbers), STATUS_OK);
    for (int i = 0; i < SAMPLES; i++)
        t[i] = numbers[i];
}

/* The loss as the step takes it, where the model answers with the golden prediction. */
typedef struct Answer {
    const Objective *o;
    float prediction[SAMPLES * SIZE], target[SAMPLES * SIZE], weights[SAMPLES];
    float loss, per_sample[SAMPLES], grad[SAMPLES * SIZE];
    Tensor *asked;
} Answer;

static const int64_t shape[] = {SAMPLES, 4, 3, 3}; /* where only numbers count: as they lie */

static Tensor *prediction_of(Ctx *c, const void *of)
{
    Answer *a = (Answer *)of;
    a->asked = ctx_input(c, DTYPE_F32, 4, shape, a->prediction);
    a->asked->requires_grad = true;
    return a->asked;
}

static Tensor *target_of(Ctx *c, const void *of)
{
    return ctx_input(c, DTYPE_F32, 4, shape, ((const Answer *)of)->target);
}

static Tensor *weights_of(Ctx *c, const void *of)
{
    return ctx_input(c, DTYPE_F32, 1, shape, ((const Answer *)of)->weights);
}

static void answer_step(Ctx *c, void *arg)
{
    Answer *a = arg;
    const StepParts parts = {a, prediction_of, target_of, weights_of};
    Tensor *per_sample = NULL;
    ctx_set_recording(c, true);
    Tensor *loss = a->o->loss(c, &parts, &per_sample);
    ctx_read(c, loss, &a->loss);
    ctx_read(c, per_sample, a->per_sample);
    ctx_backward(c, loss, 1);
    ctx_read(c, a->asked->grad, a->grad);
}

static void check_loss(const Objective *o, const float *target, const float *weights)
{
    static Answer a;
    a = (Answer){.o = o};
    read_golden(o, "prediction", a.prediction, SAMPLES * SIZE);
    memcpy(a.target, target, sizeof a.target);
    memcpy(a.weights, weights, sizeof a.weights);
    Ctx *c = ctx_new(device_cpu(), NULL);
    if (ctx_run(c, NULL, answer_step, &a) != STATUS_OK)
        fail_msg("%s", status_message());
    ctx_free(c);
    assert_close(o, "loss", &a.loss, 1);
    assert_close(o, "grad", a.grad, SAMPLES * SIZE);
    for (int i = 0; i < SAMPLES; i++) {
        double sum = 0;
        for (int k = i * SIZE; k < (i + 1) * SIZE; k++)
            sum += (double)(a.prediction[k] - target[k]) * (double)(a.prediction[k] - target[k]);
        assert_float_equal(a.per_sample[i], sum / SIZE, 1e-5 * sum / SIZE);
    }
}

static void check_objective(const Objective *o, const NoiseSchedule *s)
{
    float latent[SAMPLES * SIZE], noise[SAMPLES * SIZE], noisy[SAMPLES * SIZE], target[SAMPLES * SIZE];
    float min_snr[SAMPLES], debiased[SAMPLES];
    int t[SAMPLES];
    read_golden(o, "latent", latent, SAMPLES * SIZE);
    read_golden(o, "noise", noise, SAMPLES * SIZE);
    timesteps_of(o, t);
    for (int i = 0; i < SAMPLES; i++) {
        objective_prepare(o, s, t[i], latent + i * SIZE, noise + i * SIZE, SIZE, noisy + i * SIZE,
                          target + i * SIZE);
        min_snr[i] = objective_weight(o, s, t[i], GAMMA, false);
        debiased[i] = objective_weight(o, s, t[i], 0, true);
        assert_float_equal(objective_weight(o, s, t[i], GAMMA, true), min_snr[i] * debiased[i],
                           1e-6 * min_snr[i] * debiased[i]);
        assert_true(objective_weight(o, s, t[i], 0, false) == 1);
        const int drawn = o->timestep((SampleKey){.seed = 3, .step = 1, .sample = i}, s);
        assert_in_range(drawn, 0, s->train_steps - 1);
    }
    assert_close(o, "noisy", noisy, SAMPLES * SIZE);
    assert_close(o, "target", target, SAMPLES * SIZE);
    assert_close(o, "min_snr", min_snr, SAMPLES);
    assert_close(o, "debiased", debiased, SAMPLES);
    check_loss(o, target, min_snr);
    /* where it is written over the latent, as a caller may */
    objective_prepare(o, s, t[1], latent + SIZE, noise + SIZE, SIZE, latent + SIZE, target);
    assert_memory_equal(latent + SIZE, noisy + SIZE, SIZE * sizeof(float));
}

static void every_objective_is_that_of_the_reference(void **state)
{
    (void)state;
    NoiseSchedule s;
    assert_int_equal(schedule_default(&s), STATUS_OK);
    assert_int_equal(tensorfile_open(TEST_GOLDEN "/objectives.safetensors", &golden), STATUS_OK);
    for (int i = 0; objective_at(i); i++)
        check_objective(objective_at(i), &s);
    tensorfile_close(golden);
    schedule_free(&s);
}

/* The word in the schema, a sentence in its help and in the reference page, one for whatever a model tells.
 */
static void every_objective_can_be_asked_for_and_is_explained(void **state)
{
    (void)state;
    int count, kinds = 0;
    const SchemaKey *k = &schema_keys(&count)[schema_find("model.prediction")];
    char word[SCHEMA_NAME], *page;
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/configuration.md", 1 << 20, &page, &(size_t){0}),
                     STATUS_OK);
    for (; objective_at(kinds); kinds++) {
        const Objective *o = objective_at(kinds);
        assert_true(schema_choice(k->choices, 1 + kinds, word)); /* after auto */
        assert_string_equal(word, o->name);
        assert_ptr_equal(objective_for(o->prediction), o);
        char *sentence = mem_printf("%s: ", o->name);
        assert_non_null(strstr(k->more, sentence));
        assert_non_null(strstr(page, sentence));
        mem_free(sentence);
    }
    assert_false(schema_choice(k->choices, 1 + kinds, word));
    for (int p = PREDICT_EPSILON; p <= PREDICT_SAMPLE; p++)
        assert_non_null(objective_for((PredictionType)p));
    mem_free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_objective_is_that_of_the_reference),
        cmocka_unit_test(every_objective_can_be_asked_for_and_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
