/* The rows of what other programs do differently, and that samplers and noise follow them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/compat/compat.h"

#include <string.h>

static void programs_are_found_by_name(void **state)
{
    (void)state;
    assert_string_equal(compat_find(NULL)->name, COMPAT_DEFAULT);
    assert_string_equal(compat_find("comfy")->label, "ComfyUI");
    assert_null(compat_find("invoke"));
    assert_ptr_equal(compat_of(NULL), compat_find("diffusers"));
    assert_ptr_equal(compat_of(compat_find("a1111")), compat_find("a1111"));
}

/* Every field, so that a change of a row is one that was meant. */
static void each_program_has_its_own_ways(void **state)
{
    (void)state;
    static const Compat ROWS[] = {
        {"diffusers", "diffusers", 0, SKIP_OF_PROMPT, ZEROS_ABSENT, PROMPT_PLAIN, SAMPLER_DIFFUSERS, "cpu",
         false, STRENGTH_SHARE, true, INPAINT_STEPS, false, true},
        {"a1111", "AUTOMATIC1111", 1, SKIP_NOTHING, ZEROS_EMPTY, PROMPT_A1111, SAMPLER_A1111, "cuda", false,
         STRENGTH_SHARE_AND_ONE, false, INPAINT_CALLS, true, false},
        {"comfy", "ComfyUI", 1, SKIP_FROM_LAST, ZEROS_NEVER, PROMPT_COMFY, SAMPLER_COMFY, "cpu", true,
         STRENGTH_LONGER_GRID, false, INPAINT_STEPS, false, false}};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        NoiseKind kind;
        const Compat *want = &ROWS[i], *c = compat_find(want->name);
        assert_non_null(c);
        assert_string_equal(c->name, want->name);
        assert_string_equal(c->label, want->label);
        assert_int_equal(c->clip_skip_none, want->clip_skip_none);
        assert_int_equal(c->sdxl_skip, want->sdxl_skip);
        assert_int_equal(c->zero_negative, want->zero_negative);
        assert_int_equal(c->prompts, want->prompts);
        assert_int_equal(c->sampling, want->sampling);
        assert_string_equal(c->rng, want->rng);
        assert_int_equal(c->noise_apart, want->noise_apart);
        assert_int_equal(c->strength, want->strength);
        assert_int_equal(c->draws_latents, want->draws_latents);
        assert_int_equal(c->inpaint, want->inpaint);
        assert_int_equal(c->pastes, want->pastes);
        assert_int_equal(c->checks_pictures, want->checks_pictures);
        assert_int_equal(noise_kind_parse(c->rng, &kind), STATUS_OK);
    }
}

/* COMPAT_CHOICES names the rows, and no others. */
static void the_choices_are_the_rows(void **state)
{
    (void)state;
    char words[] = COMPAT_CHOICES, *rest = words;
    int count = 0;
    for (char *word; (word = strsep(&rest, "|")); count++)
        assert_non_null(compat_find(word));
    assert_int_equal(count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(programs_are_found_by_name),
                                       cmocka_unit_test(each_program_has_its_own_ways),
                                       cmocka_unit_test(the_choices_are_the_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
