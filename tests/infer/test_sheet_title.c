/* What stands over a sheet. Breaks if a long prompt drove the sampler and the seed out of the title, was cut
 * where there was room, or left a sheet without an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/sample/sheet.h"

#include <string.h>

#define LONG                                                                                                 \
    "a red heart on a blue table beside a very large window through which the evening sun is to be seen, "

/* A sheet of one white picture. */
static Picture sheet_of(const char *prompt, uint64_t seed)
{
    static uint8_t white[3 * 128 * 128];
    SampleArguments a = {.request = sample_request_default()};
    Shot one = {.a = &a, .seed = seed};
    const Shots s = {.items = &one, .count = 1, .sheet = true};
    Picture sheet;
    memset(white, 255, sizeof white);
    a.request.prompt = prompt;
    assert_int_equal(sheet_compose(&s, &(Picture){{128, 128}, white}, &sheet), 0);
    return sheet;
}

static bool same(const char *a, uint64_t a_seed, const char *b, uint64_t b_seed)
{
    Picture one = sheet_of(a, a_seed), two = sheet_of(b, b_seed);
    const bool is =
        size_equal(one.size, two.size) && memcmp(one.rgb, two.rgb, 3 * (size_t)size_area(one.size)) == 0;
    picture_free(&one);
    picture_free(&two);
    return is;
}

static void a_long_prompt_leaves_the_settings_their_place(void **state)
{
    (void)state;
    assert_true(same(LONG "and so on", 1, LONG "and something else", 1)); /* the end is cut */
    assert_false(same(LONG "and so on", 1, LONG "and so on", 2));
    assert_false(same("a red heart", 1, "a red hearse", 1));
}

static void a_prompt_without_blanks_has_an_end_too(void **state)
{
    (void)state;
    char word[400];
    memset(word, 'm', sizeof word - 1);
    word[sizeof word - 1] = 0;
    assert_false(same(word, 1, word, 2));
    Picture emoji = sheet_of("🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱🐱", 1);
    assert_true(emoji.size.height < 128 + 5 * 12 + 12); /* four lines of title at most */
    picture_free(&emoji);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_leaves_the_settings_their_place),
        cmocka_unit_test(a_prompt_without_blanks_has_an_end_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
