/* A1111's text about a picture, read back as options. If this fails, --again draws something else than the
 * picture says. */
#include "infer/sample/parameters.h"
#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The words, with a line's end after each. */
static void comes_to(const char *text, const char *wanted)
{
    Words w = {0};
    char got[2048] = "";
    if (parameters_read(text, &w) != STATUS_OK)
        fail_msg("%s", status_message());
    for (int i = 0; i < w.count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s\n", w.items[i]);
    assert_string_equal(got, wanted);
    words_free(&w);
}

static void settings_become_options(void **state)
{
    (void)state;
    comes_to(
        "a heart\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x768, Model hash: "
        "6ce0161689, "
        "Model: \"a, b: c\", Clip skip: 2, Version: v1.9.4",
        "--compat=a1111\n--prompt=a heart\n--steps=20\n--sampler=euler_a\n--cfg=7.5\n--seed=42\n--width=512\n"
        "--height=768\n--clip-skip=2\n");
}

static void prompts_may_have_several_lines(void **state)
{
    (void)state;
    comes_to("a (red:1.2) heart,\nnight\nNegative prompt: bad,\nugly\nSteps: 5, Sampler: DDIM, Seed: 1",
             "--compat=a1111\n--prompt=a (red:1.2) "
             "heart,\nnight\n--negative=bad,\nugly\n--steps=5\n--sampler=ddim\n"
             "--seed=1\n");
    comes_to("\nSteps: 5, Sampler: DDIM, Seed: 1",
             "--compat=a1111\n--prompt=\n--steps=5\n--sampler=ddim\n--seed=1\n");
    comes_to("Steps: 5, Sampler: DDIM, Seed: 1",
             "--compat=a1111\n--prompt=\n--steps=5\n--sampler=ddim\n--seed=1\n");
}

static void schedules_stand_alone_or_after_the_sampler(void **state)
{
    (void)state;
    comes_to("x\nSteps: 5, Sampler: DPM++ 2M Karras, Seed: 1",
             "--compat=a1111\n--prompt=x\n--steps=5\n--schedule=karras\n--sampler=dpmpp_2m\n--seed=1\n");
    comes_to("x\nSteps: 5, Sampler: DPM++ 2M, Schedule type: Karras, Seed: 1",
             "--compat=a1111\n--prompt=x\n--steps=5\n--sampler=dpmpp_2m\n--schedule=karras\n--seed=1\n");
    comes_to("x\nSteps: 5, Sampler: Euler, Schedule type: Automatic, Seed: 1",
             "--compat=a1111\n--prompt=x\n--steps=5\n--sampler=euler\n--seed=1\n");
}

static void a_second_pass_has_its_own_strength(void **state)
{
    (void)state;
    comes_to(
        "x\nSteps: 5, Sampler: DDIM, Seed: 1, Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 3, "
        "Hires "
        "upscaler: Latent (nearest), RNG: NV, Tiling: True",
        "--compat=a1111\n--prompt=x\n--steps=5\n--sampler=ddim\n--seed=1\n--hires-strength=0.6\n--hires=1.5\n"
        "--hires-steps=3\n--hires-upscale=latent\n--rng=cuda\n--tiling=xy\n");
    comes_to("x\nSteps: 5, Sampler: DDIM, Seed: 1, Denoising strength: 0.6",
             "--compat=a1111\n--prompt=x\n--steps=5\n--sampler=ddim\n--seed=1\n");
}

static void refused(const char *text, const char *message)
{
    Words w = {0};
    assert_int_equal(parameters_read(text, &w), STATUS_REFUSED);
    if (!strstr(status_message(), message))
        fail_msg("\"%s\" is not in: %s", message, status_message());
    words_free(&w);
}

static void what_is_no_settings_is_refused(void **state)
{
    (void)state;
    refused("a picture of a cat", "no settings");
    refused("a: b, c: d", "no settings");
    refused("", "no settings");
    refused("x\nSteps: 5, Sampler: Nobody's, Seed: 1", "Nobody's");
    refused("x\nSteps: 5, Size: large, Seed: 1", "large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_become_options),
        cmocka_unit_test(prompts_may_have_several_lines),
        cmocka_unit_test(schedules_stand_alone_or_after_the_sampler),
        cmocka_unit_test(a_second_pass_has_its_own_strength),
        cmocka_unit_test(what_is_no_settings_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
