/* What a sample is drawn from. Breaks if timesteps, noise and latents were not spread as the papers have it,
 * or if batch 4 and batch 1 × accumulate 4 saw different numbers or captions. What each objective makes of
 * them is tests/train/test_objectives.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "train/objectives/objective.h"
#include "train/step/captions.h"

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

static void timesteps_cover_the_schedule_evenly(void **state)
{
    (void)state;
    int seen[10] = {0};
    for (uint32_t i = 0; i < 20000; i++) {
        const int t =
            objective_uniform_timestep((SampleKey){.seed = 5, .step = 1 + i / 4, .sample = i % 4}, &schedule);
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
        cmocka_unit_test(timesteps_cover_the_schedule_evenly),
        cmocka_unit_test(offset_noise_shifts_whole_channels_and_nothing_else),
        cmocka_unit_test(latents_are_drawn_from_the_posterior_and_scaled),
        cmocka_unit_test(every_sample_has_numbers_of_its_own),
        cmocka_unit_test(captions_are_dropped_as_often_as_asked),
        cmocka_unit_test(shuffling_keeps_every_part_and_the_first_ones_in_place),
    };
    return cmocka_run_group_tests(tests, open_schedule, close_schedule);
}
