/* The rows of what other programs do differently, and that samplers and noise follow them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/compat/compat.h"
#include "infer/compat/elsewhere.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <stdio.h>
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
    static const Compat ROWS[] = {{"diffusers", "diffusers", 0, SKIP_OF_PROMPT, SKIP_OF_PROMPT, ZEROS_ABSENT,
                                   PROMPT_PLAIN, SAMPLER_DIFFUSERS, "cpu", false, STRENGTH_SHARE,
                                   STRENGTH_SHARE, true, INPAINT_STEPS, MASK_UPPER_LEFT, false, true},
                                  {"a1111", "AUTOMATIC1111", 1, SKIP_OF_BOTH, SKIP_NOTHING, ZEROS_EMPTY,
                                   PROMPT_A1111, SAMPLER_A1111, "cuda", false, STRENGTH_SHARE_AND_ONE,
                                   STRENGTH_LONGER_GRID, false, INPAINT_CALLS, MASK_UPPER_LEFT, true, false},
                                  {"comfy", "ComfyUI", 1, SKIP_OF_BOTH, SKIP_FROM_LAST, ZEROS_NEVER,
                                   PROMPT_COMFY, SAMPLER_COMFY, "cpu", true, STRENGTH_LONGER_GRID,
                                   STRENGTH_LONGER_GRID, false, INPAINT_BOTH, MASK_MIDDLE, false, false}};
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        NoiseKind kind;
        const Compat *want = &ROWS[i], *c = compat_find(want->name);
        assert_non_null(c);
        assert_string_equal(c->name, want->name);
        assert_string_equal(c->label, want->label);
        assert_int_equal(c->clip_skip_none, want->clip_skip_none);
        assert_int_equal(c->skip, want->skip);
        assert_int_equal(c->sdxl_skip, want->sdxl_skip);
        assert_int_equal(c->zero_negative, want->zero_negative);
        assert_int_equal(c->prompts, want->prompts);
        assert_int_equal(c->sampling, want->sampling);
        assert_string_equal(c->rng, want->rng);
        assert_int_equal(c->noise_apart, want->noise_apart);
        assert_int_equal(c->strength, want->strength);
        assert_int_equal(c->hires, want->hires);
        assert_int_equal(c->mask, want->mask);
        assert_int_equal(c->draws_latents, want->draws_latents);
        assert_int_equal(c->inpaint, want->inpaint);
        assert_int_equal(c->pastes, want->pastes);
        assert_int_equal(c->checks_pictures, want->checks_pictures);
        assert_int_equal(noise_kind_parse(c->rng, &kind), STATUS_OK);
    }
}

/* True: the page's table has a row of the option, with a value (`--seed N`) or without (`--tf32`). */
static bool has_row(const char *page, const char *option, size_t length)
{
    char with[64], without[64];
    snprintf(with, sizeof with, "| `%.*s ", (int)length, option);
    snprintf(without, sizeof without, "| `%.*s`", (int)length, option);
    return strstr(page, with) || strstr(page, without);
}

/* What the answers to other programs' options name is there, and none of those options is. */
static void other_programs_options_are_answered_with_ones_that_exist(void **state)
{
    (void)state;
    char *page, word[64];
    size_t size;
    int count;
    const OptionElsewhere *all = options_elsewhere(&count);
    assert_int_equal(file_read(ATELIER_SOURCE_DIR "/docs/commands.md", 1 << 20, &page, &size), STATUS_OK);
    char *sample = strstr(page, "## atelier sample"), *end = sample ? strstr(sample + 1, "\n## ") : NULL;
    assert_non_null(end);
    *end = 0;
    for (int i = 0; i < count; i++) {
        for (const char *p = strstr(all[i].answer, "--"); p; p = strstr(p + 1, "--")) {
            if (!has_row(sample, p, strcspn(p, " ,;.")))
                fail_msg("%.30s is no option of atelier sample", p);
        }
        for (const char *p = all[i].names; *p; p += strcspn(p, "|"), p += *p == '|') {
            snprintf(word, sizeof word, "--%.*s", (int)strcspn(p, "|"), p);
            if (has_row(sample, word, strlen(word)))
                fail_msg("%s is an option of atelier sample itself", word);
        }
    }
    mem_free(page);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_are_found_by_name), cmocka_unit_test(each_program_has_its_own_ways),
        cmocka_unit_test(other_programs_options_are_answered_with_ones_that_exist),
        cmocka_unit_test(the_choices_are_the_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
