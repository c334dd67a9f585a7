/* Texts put together for a terminal: breaks if a line gets too long, if a letter of two bytes counts as two,
 * or if words get lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/buffer.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

static void assert_wrapped(int column, int indent, const char *text, const char *wanted)
{
    Buffer b = {0};
    char *out = NULL;
    buffer_add_wrapped(&b, column, indent, text);
    assert_int_equal(buffer_take(&b, &out), STATUS_OK);
    assert_string_equal(out, wanted);
    mem_free(out);
}

static void a_text_that_fits_stays_on_its_line(void **state)
{
    (void)state;
    assert_wrapped(0, 0, "", "\n");
    assert_wrapped(0, 0, "two words", "two words\n");
    assert_wrapped(0, 4, "indented", "    indented\n");
    assert_wrapped(3, 6, "after three", "   after three\n");
    assert_wrapped(6, 6, "where it begins", "where it begins\n");
    assert_wrapped(9, 6, "after nine", "after nine\n");
    assert_wrapped(0, 2, "one\ntwo", "  one\n  two\n");
}

#define X78 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void a_line_ends_before_column_80(void **state)
{
    (void)state;
    assert_wrapped(0, 0, "a " X78, "a\n" X78 "\n");
    assert_wrapped(0, 0, X78 " b", X78 "\nb\n");
    assert_wrapped(0, 0, &(X78 " b")[1], &(X78 " b\n")[1]); /* 77 and a blank and one more: 79 */
    assert_wrapped(0, 5, "a " X78 " b", "     a\n     " X78 "\n     b\n"); /* a word too long stands alone */
}

static void letters_of_several_bytes_are_one_column(void **state)
{
    (void)state;
    char text[3 * 40 + 8] = "", wanted[sizeof text + 2];
    for (int i = 0; i < 39; i++)
        strcat(text, "é");
    strcat(text, " ");
    for (int i = 0; i < 39; i++)
        strcat(text, "e");
    strcpy(wanted, text);
    strcat(wanted, "\n");
    assert_wrapped(0, 0, text, wanted);
}

static void a_buffer_without_memory_says_so(void **state)
{
    (void)state;
    Buffer b = {.failed = true};
    char *out = NULL;
    buffer_add(&b, "x");
    assert_int_equal(buffer_take(&b, &out), STATUS_FAILED);
    assert_null(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_that_fits_stays_on_its_line),
        cmocka_unit_test(a_line_ends_before_column_80),
        cmocka_unit_test(letters_of_several_bytes_are_one_column),
        cmocka_unit_test(a_buffer_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
