/* The command line by its table, and the small text helpers it uses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/text.h"

#include <locale.h>
#include <string.h>

typedef struct Values {
    int steps;
    double cfg;
    uint64_t seed;
    const char *prompt, *dtype;
    OptionList loras, files;
    bool json, steps_given;
} Values;

static Status parse(Values *v, char **argv, bool *done)
{
    const Option table[] = {
        {"steps", OPTION_INT, &v->steps, .value = "N", .help = "", .min = 1, .max = 100,
         .given = &v->steps_given},
        {"cfg", OPTION_FLOAT, &v->cfg, .value = "S", .help = ""},
        {"seed", OPTION_UINT64, &v->seed, .value = "N", .help = ""},
        {NULL, OPTION_HEADING, NULL, .help = "more"},
        {"prompt", OPTION_TEXT, &v->prompt, .value = "TEXT", .help = "", .required = true},
        {"dtype", OPTION_TEXT, &v->dtype, .value = "D", .help = "", .choices = "f32|bf16"},
        {"lora", OPTION_LIST, &v->loras, .value = "FILE", .help = ""},
        {"json", OPTION_FLAG, &v->json, .help = ""},
    };
    static const OptionElsewhere elsewhere[] = {{"guidance-scale|scale", "here it is --cfg S"}};
    const Command command = {.name = "sample",
                             .elsewhere = elsewhere,
                             .elsewhere_count = 1,
                             .usage = "",
                             .summary = "",
                             .options = table,
                             .option_count = 8,
                             .positional = &v->files,
                             .max_positional = 2};
    int argc = 0;
    while (argv[argc])
        argc++;
    return options_parse(&command, argc, argv, done);
}
#define PARSE(v, ...) parse(v, (char *[]){"sample", __VA_ARGS__, NULL}, &(bool){false})

static void every_kind_of_option_is_read(void **state)
{
    (void)state;
    Values v = {0};
    assert_int_equal(PARSE(&v, "--steps", "7", "a.h5", "--cfg=-1.5e0", "--seed", "18446744073709551615",
                           "--prompt", "--steps", "--lora=a:0.5", "--lora", "b", "--json", "--dtype", "bf16",
                           "--", "--b"),
                     STATUS_OK);
    assert_int_equal(v.steps, 7);
    assert_true(v.steps_given);
    assert_true(v.cfg == -1.5);
    assert_true(v.seed == UINT64_MAX);
    assert_string_equal(v.prompt,
                        "--steps"); /* what follows an option is its value, whatever it looks like */
    assert_int_equal(v.loras.count, 2);
    assert_string_equal(v.loras.items[0], "a:0.5");
    assert_string_equal(v.loras.items[1], "b");
    assert_true(v.json);
    assert_int_equal(v.files.count, 2);
    assert_string_equal(v.files.items[1], "--b");
}

static void wrong_lines_are_refused_with_what_to_do(void **state)
{
    (void)state;
    Values v = {0};
    assert_int_equal(PARSE(&v, "--promt", "x"), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "did you mean --prompt?"));
    static char *const ELSEWHERE[] = {"--scale", "--guidance_scale=4", "--guidance-scale"};
    for (size_t i = 0; i < sizeof ELSEWHERE / sizeof *ELSEWHERE; i++) {
        assert_int_equal(PARSE(&v, ELSEWHERE[i]), STATUS_REFUSED);
        assert_non_null(strstr(status_message(), "another program's: here it is --cfg S"));
    }
    assert_int_equal(PARSE(&v, "--guidance"), STATUS_REFUSED); /* no part of a name */
    assert_null(strstr(status_message(), "another program's"));
    assert_int_equal(PARSE(&v, "--qqqqqq"), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "atelier sample --help"));
    assert_int_equal(PARSE(&v, "--steps", "0", "--prompt", ""), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "1 to 100"));
    assert_int_equal(PARSE(&v, "--steps", "7x", "--prompt", ""), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "--seed", "-1", "--prompt", ""), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "--dtype", "f3", "--prompt", ""), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "--json=1", "--prompt", ""), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "--prompt"), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "-x", "--prompt", ""), STATUS_REFUSED);
    assert_int_equal(PARSE(&v, "a"), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "--prompt is missing"));
    assert_int_equal(PARSE(&v, "a", "b", "c", "--prompt", ""), STATUS_REFUSED);
}

static void help_stops_the_reading(void **state)
{
    (void)state;
    Values v = {0};
    bool done = false;
    assert_int_equal(parse(&v, (char *[]){"sample", "--nonsense", "--help", NULL}, &done), STATUS_OK);
    assert_true(done);
}

static void numbers_are_whole_tokens_in_c_notation(void **state)
{
    (void)state;
    double f = 0;
    int64_t i = 0;
    assert_true(text_to_float("1.5e-3", &f) && f == 1.5e-3);
    assert_true(text_to_float(".5", &f) && f == 0.5);
    assert_true(text_to_float("-2", &f) && f == -2);
    assert_true(text_to_float("0e-400", &f) && f == 0);
    assert_true(text_to_float("1e-300", &f) && f > 0);
    const char *bad[] = {"",    "+",   ".",     "1e",     "1.5x",    " 1",        "1 ",  "0x10",
                         "nan", "inf", "1e999", "1e-400", "-1e-400", "0.01e-330", "1,5", "1_0"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_false(text_to_float(bad[k], &f));
        assert_false(text_to_int(bad[k], &i));
    }
    assert_true(text_to_int("-9223372036854775808", &i) && i == INT64_MIN);
    assert_false(text_to_int("9223372036854775808", &i));
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8")) {
        assert_true(text_to_float("1.5", &f) && f == 1.5);
        assert_false(text_to_float("1,5", &f));
        setlocale(LC_NUMERIC, "C");
    }
}

static void the_nearest_word_is_found_or_none(void **state)
{
    (void)state;
    const char *words[] = {"steps", "seed", "sampler"};
    assert_string_equal(text_nearest("setps", words, 3), "steps");
    assert_string_equal(text_nearest("SEED", words, 3), "seed");
    assert_null(text_nearest("unrelated", words, 3));
    assert_null(text_nearest("x", words, 0));
    assert_int_equal(text_distance("ab", "ba"), 1);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
}

static void invalid_utf8_is_found_at_its_byte(void **state)
{
    (void)state;
    assert_int_equal(text_invalid_utf8("aé€😀", 10), -1);
    assert_int_equal(text_invalid_utf8("ab\xff", 3), 2);
    assert_int_equal(text_invalid_utf8("\xc0\x80", 2), 0);      /* overlong */
    assert_int_equal(text_invalid_utf8("a\xed\xa0\x80", 4), 1); /* surrogate */
    assert_int_equal(text_invalid_utf8("\xf4\x90\x80\x80", 4), 0);
    assert_int_equal(text_invalid_utf8("\xe2\x82", 2), 0);
}

static void words_can_be_pasted_into_a_shell(void **state)
{
    (void)state;
    static const char *const WORDS[][2] = {{"runs/cat-1.yaml", "runs/cat-1.yaml"},
                                           {"train.steps=5", "train.steps=5"},
                                           {"", "''"},
                                           {"my dog.yaml", "'my dog.yaml'"},
                                           {"a$b;c", "'a$b;c'"},
                                           {"pic's", "'pic'\\''s'"},
                                           {"'", "''\\'''"}};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        char *word = text_for_shell(WORDS[i][0]);
        assert_string_equal(word, WORDS[i][1]);
        mem_free(word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_option_is_read),
        cmocka_unit_test(wrong_lines_are_refused_with_what_to_do),
        cmocka_unit_test(help_stops_the_reading),
        cmocka_unit_test(numbers_are_whole_tokens_in_c_notation),
        cmocka_unit_test(the_nearest_word_is_found_or_none),
        cmocka_unit_test(invalid_utf8_is_found_at_its_byte),
        cmocka_unit_test(words_can_be_pasted_into_a_shell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
