/* The list of phrases that prompts may not have in them. Breaks if a word gets through in other letters, or
 * if a harmless word is taken for one that has it inside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/safety/prompt_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char LIST[] = "\xEF\xBB\xBF# what this house does not draw\r\n"
                           "\n"
                           "bomb   # and bombs are another word\r\n"
                           "  Crème Brûlée\n"
                           "straße\n"
                           "爆弾\n"
                           "R2-D2";

static PromptFilter *filter;

static int open_list(void **state)
{
    (void)state;
    return prompt_filter_parse(LIST, sizeof LIST - 1, "list.txt", &filter) != STATUS_OK;
}

static int close_list(void **state)
{
    (void)state;
    prompt_filter_free(filter);
    return 0;
}

static void phrases_are_found_as_whole_words(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *phrase; /* NULL: it passes */
    } CASES[] = {
        {"a bomb", "bomb"},
        {"(BOMB:1.3), red", "bomb"},
        {"bo\xCC\x81mb", "bomb"},                                     /* an accent of its own */
        {"\xEF\xBD\x82\xEF\xBD\x8F\xEF\xBD\x8D\xEF\xBD\x82", "bomb"}, /* full width */
        {"bo\xC2\xADmb", "bomb"},                                     /* a soft hyphen in it */
        {"bombs away", NULL},
        {"bombastic", NULL},
        {"a creme, brulee", "Crème Brûlée"},
        {"CRÈME\n BRÛLÉE!", "Crème Brûlée"},
        {"creme and brulee", NULL},
        {"a creme brulees", NULL},
        {"eine STRASSE", "straße"},
        {"赤い爆弾の絵", "爆弾"},
        {"赤い爆の弾", NULL},
        {"r2 d2 on the moon", "R2-D2"},
        {"r2d2", NULL},
        {"", NULL},
        {",.-", NULL},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const Status s = prompt_filter_check(filter, CASES[i].prompt);
        char phrase[64];
        snprintf(phrase, sizeof phrase, "`%s`", CASES[i].phrase ? CASES[i].phrase : "");
        if (s != (CASES[i].phrase ? STATUS_REFUSED : STATUS_OK) ||
            (s != STATUS_OK && !strstr(status_message(), phrase)))
            fail_msg("\"%s\": %d %s", CASES[i].prompt, s, s ? status_message() : "");
    }
    assert_int_equal(prompt_filter_check(filter, "\xFF"), STATUS_REFUSED);
}

static void lists_that_say_nothing_are_refused_by_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t size;
        const char *says;
    } CASES[] = {{"good\n---\n", 9, "line 2"}, {"good\n\xC3(\n", 8, "line 2: is not UTF-8"}};
    PromptFilter *f;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        assert_int_equal(prompt_filter_parse(CASES[i].text, CASES[i].size, "list.txt", &f), STATUS_REFUSED);
        assert_non_null(strstr(status_message(), CASES[i].says));
        assert_null(f);
    }
    assert_int_equal(prompt_filter_parse("# nothing\n", 10, "list.txt", &f), STATUS_OK);
    assert_int_equal(prompt_filter_check(f, "anything"), STATUS_OK);
    prompt_filter_free(f);
    assert_int_equal(prompt_filter_open("/nowhere/list.txt", &f), STATUS_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phrases_are_found_as_whole_words),
        cmocka_unit_test(lists_that_say_nothing_are_refused_by_line),
    };
    return cmocka_run_group_tests(tests, open_list, close_list);
}
