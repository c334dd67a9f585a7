/* What the UNet is asked. Breaks if timesteps, noise, noisy latents, targets or min-SNR weights were other
 * than the papers' and PyTorch's, or if batch 4 and batch 1 × accumulate 4 saw different numbers or captions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "train/step/batch.h"
#include "train/step/objective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static NoiseSchedule schedule;

static int open_schedule(void **state)
{
    (void)state;
    return schedule_default(&schedule);
}

static int close_schedule(void **state)
{
    (void)state;
    schedule_free(&schedule);
    return 0;
}

/* torch: a = cumprod(1 − linspace(√0.00085, √0.012, 1000)²); min(snr, 5)/snr and min(snr, 5)/(snr + 1) */
static void min_snr_weights_are_the_papers(void **state)
{
    (void)state;
    static const struct {
        int t;
        double epsilon, v;
    } expected[] = {{0, 0.004253725150991146, 0.004250109391548487},
                    {100, 0.5914454476948554, 0.5288842153853851},
                    {250, 1, 0.6737922926143264},
                    {500, 1, 0.2763324706759799},
                    {999, 1, 0.004660095021826684}};
    NoiseSchedule s = schedule;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        s.prediction = PREDICT_EPSILON;
        assert_float_equal(objective_weight(&s, expected[i].t, 5, false), expected[i].epsilon,
                           2e-6 * expected[i].epsilon);
        s.prediction = PREDICT_V;
        assert_float_equal(objective_weight(&s, expected[i].t, 5, false), expected[i].v,
                           2e-6 * expected[i].v);
        assert_true(objective_weight(&s, expected[i].t, 0, false) == 1);
    }
}

/* numpy: snr = min(a/(1 − a), 1000); 1/√snr, and 1/(snr + 1) for v. Together with min-SNR the two multiply.
 */
static void debiased_weights_are_sd_scripts(void **state)
{
    (void)state;
    static const struct {
        int t;
        double epsilon, v;
    } expected[] = {{0, 0.03162277660168379, 0.000999000999000999},
                    {250, 0.6957989370616523, 0.3262073747666785},
                    {999, 14.61464122933364, 0.9953399014869226}};
    NoiseSchedule s = schedule;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const int t = expected[i].t;
        s.prediction = PREDICT_EPSILON;
        assert_float_equal(objective_weight(&s, t, 0, true), expected[i].epsilon, 2e-6 * expected[i].epsilon);
        assert_float_equal(objective_weight(&s, t, 5, true),
                           expected[i].epsilon * (double)objective_weight(&s, t, 5, false),
                           2e-6 * expected[i].epsilon);
        s.prediction = PREDICT_V;
        assert_float_equal(objective_weight(&s, t, 0, true), expected[i].v, 2e-6 * expected[i].v);
    }
}

/* With √ᾱ and √(1−ᾱ) known, the noise or the latent can be had back from what was made of them. */
static void targets_give_latent_and_noise_back(void **state)
{
    (void)state;
    const float x[3] = {0.5f, -1.25f, 2}, e[3] = {-0.75f, 0.1f, 1.5f};
    for (int t = 1; t < 1000; t += 333)
        for (int kind = PREDICT_EPSILON; kind <= PREDICT_SAMPLE; kind++) {
            NoiseSchedule s = schedule;
            s.prediction = (PredictionType)kind;
            float noisy[3], target[3];
            objective_noisy(&s, t, x, e, 3, noisy, target);
            const double a = sqrt(s.alphas_cumprod[t]), b = sqrt(1 - s.alphas_cumprod[t]);
            for (int i = 0; i < 3; i++) {
                assert_float_equal(noisy[i], a * x[i] + b * e[i], 1e-6);
                const double v = a * e[i] - b * x[i];
                const double expected = kind == PREDICT_EPSILON ? e[i] : kind == PREDICT_V ? v : x[i];
                assert_float_equal(target[i], expected, 1e-6);
                assert_float_equal(a * noisy[i] - b * v, x[i], 1e-5);
            }
        }
}

static void timesteps_cover_the_schedule_evenly(void **state)
{
    (void)state;
    int seen[10] = {0};
    for (uint32_t i = 0; i < 20000; i++) {
        const int t =
            objective_timestep((SampleKey){.seed = 5, .step = 1 + i / 4, .sample = i % 4}, &schedule);
        assert_in_range(t, 0, 999);
        seen[t / 100]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 1800, 2200);
}

/* Mean and deviation of n numbers. */
static void moments(const float *x, int n, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    *mean = sum / n;
    *deviation = sqrt(squares / n - *mean * *mean);
}

static void offset_noise_shifts_whole_channels_and_nothing_else(void **state)
{
    (void)state;
    enum { CHANNELS = 4, AREA = 256 };
    static float plain[CHANNELS * AREA], shifted[CHANNELS * AREA];
    const SampleKey key = {.seed = 3, .step = 9, .sample = 2};
    objective_noise(key, 0, CHANNELS, AREA, plain);
    objective_noise(key, 0.5f, CHANNELS, AREA, shifted);
    double mean, deviation;
    moments(plain, CHANNELS * AREA, &mean, &deviation);
    assert_float_equal(mean, 0, 0.1);
    assert_float_equal(deviation, 1, 0.1);
    float last = 0;
    for (int c = 0; c < CHANNELS; c++) {
        const float shift = shifted[c * AREA] - plain[c * AREA];
        assert_true(shift != 0 && shift != last && fabsf(shift) < 3);
        last = shift;
        for (int i = 1; i < AREA; i++)
            assert_float_equal(shifted[c * AREA + i] - plain[c * AREA + i], shift, 1e-6);
    }
}

static void latents_are_drawn_from_the_posterior_and_scaled(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float mean[N], deviation[N], latent[N];
    for (int i = 0; i < N; i++) {
        mean[i] = 2;
        deviation[i] = 0.5f;
    }
    objective_latent((SampleKey){.seed = 1, .step = 1}, mean, deviation, 0.18215f, N, latent);
    double m, d;
    moments(latent, N, &m, &d);
    assert_float_equal(m, 2 * 0.18215, 0.01);
    assert_float_equal(d, 0.5 * 0.18215, 0.005);
}

static void every_sample_has_numbers_of_its_own(void **state)
{
    (void)state;
    float a[8], b[8];
    const SampleKey keys[] = {{1, 1, 0}, {2, 1, 0}, {1, 2, 0}, {1, 1, 1}};
    objective_noise(keys[0], 0, 1, 8, a);
    for (int i = 1; i < 4; i++) {
        objective_noise(keys[i], 0, 1, 8, b);
        for (int k = 0; k < 8; k++)
            assert_true(a[k] != b[k]);
    }
    objective_noise(keys[0], 0, 1, 8, b);
    assert_memory_equal(a, b, sizeof a);
}

/* Captions
 * --------------------------------------------------------------------------------------------------- */

static void captions_are_dropped_as_often_as_asked(void **state)
{
    (void)state;
    ConfigDataset d = {.caption = {.dropout = 0.25f}};
    int dropped = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        char room[64];
        const char *c = caption_for(&d, "a cat", (SampleKey){.seed = 8, .step = i}, room);
        assert_true(!*c || strcmp(c, "a cat") == 0);
        dropped += !*c;
    }
    assert_in_range(dropped, 900, 1100);
}

static void shuffling_keeps_every_part_and_the_first_ones_in_place(void **state)
{
    (void)state;
    ConfigDataset d = {.caption = {.shuffle = true, .keep_tokens = 1}};
    bool seen[3][3] = {{false}};
    static const char *const parts[] = {"red hat", "grass", "sky"};
    for (uint32_t i = 0; i < 200; i++) {
        char room[128];
        const char *c =
            caption_for(&d, " sks cat ,red hat,, grass , sky", (SampleKey){.seed = 8, .step = i}, room);
        assert_memory_equal(c, "sks cat, ", 9);
        assert_int_equal(strlen(c), strlen("sks cat, red hat, grass, sky"));
        int places[3];
        for (int p = 0; p < 3; p++) {
            const char *at = strstr(c, parts[p]);
            assert_non_null(at);
            places[p] = 0;
            for (const char *k = c; k < at; k++)
                places[p] += *k == ',';
            seen[p][places[p] - 1] = true;
        }
    }
    for (int p = 0; p < 3; p++)
        for (int k = 0; k < 3; k++)
            assert_true(seen[p][k]);
    char room[4];
    const char *empty = caption_for(&d, "", (SampleKey){.seed = 8}, room);
    assert_string_equal(empty, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(min_snr_weights_are_the_papers),
        cmocka_unit_test(debiased_weights_are_sd_scripts),
        cmocka_unit_test(targets_give_latent_and_noise_back),
        cmocka_unit_test(timesteps_cover_the_schedule_evenly),
        cmocka_unit_test(offset_noise_shifts_whole_channels_and_nothing_else),
        cmocka_unit_test(latents_are_drawn_from_the_posterior_and_scaled),
        cmocka_unit_test(every_sample_has_numbers_of_its_own),
        cmocka_unit_test(captions_are_dropped_as_often_as_asked),
        cmocka_unit_test(shuffling_keeps_every_part_and_the_first_ones_in_place),
    };
    return cmocka_run_group_tests(tests, open_schedule, close_schedule);
}
