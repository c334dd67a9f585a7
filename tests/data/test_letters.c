/* Letters on pictures. Breaks if a title in another language than English became a row of boxes, if an accent
 * were lost or lay on its letter, or if what is drawn took other columns than what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/letters/glyphs.h"
#include "data/letters/letters.h"

#include <stdbool.h>
#include <string.h>

enum { WIDTH = 60, HEIGHT = 14, TOP = 4, BYTES = 3 * WIDTH * HEIGHT };

static void draw(const char *text, uint8_t rgb[BYTES])
{
    Picture p = {{WIDTH, HEIGHT}, rgb};
    memset(rgb, 255, BYTES);
    letters_draw(&p, 0, TOP, 1, text, WIDTH / LETTER_WIDTH);
}

/* "#" where a dot is, of the first letter's rows from top on. */
static void rows_of(const char *text, int top, int rows, char *out)
{
    uint8_t rgb[BYTES];
    draw(text, rgb);
    for (int y = 0; y < rows; y++, *out++ = ' ')
        for (int x = 0; x < GLYPH_WIDTH; x++)
            *out++ = rgb[3 * ((TOP + top + y) * WIDTH + x)] ? '.' : '#';
    out[-1] = 0;
}

static void check_rows(const char *text, int top, const char *expected)
{
    char rows[128];
    rows_of(text, top, (int)(strlen(expected) + 1) / (GLYPH_WIDTH + 1), rows);
    assert_string_equal(rows, expected);
}

static void accents_stand_over_their_letters(void **state)
{
    (void)state;
    check_rows("o", 0, "..... ..... .###. #...# #...# #...# .###.");
    check_rows("ö", 0, ".#.#. ..... .###. #...# #...# #...# .###.");
    check_rows("Ö", -3, "..... .#.#. ..... .###. #...# #...# #...# #...# #...# .###.");
    check_rows("í", -1, "...#. ..#.. ..... .##.. ..#.. ..#.. ..#.. .###."); /* without its own dot */
    check_rows("ç", 6, ".###. ..#.. .##..");
    check_rows("ß", 0, ".##.. #..#. #..#. #.##. #...# #...# #.##.");
}

/* As macOS names files: a letter, then its accent. */
static void an_accent_of_its_own_is_drawn_to_the_letter_before(void **state)
{
    (void)state;
    uint8_t one[BYTES], two[BYTES];
    draw("ü Й", one);
    draw("u\u0308 И\u0306", two);
    assert_memory_equal(one, two, BYTES);
    assert_int_equal(letters_columns("u\u0308"), 1);
    assert_int_equal(letters_bytes("u\u0308b", 1), 3);
}

/* No letter of Latin-1 and Latin Extended-A is missing, and none looks like one without its accent. */
static void every_letter_of_latin_is_drawn(void **state)
{
    (void)state;
    uint8_t rgb[BYTES], ascii[95][BYTES];
    for (int i = 0; i < 95; i++)
        draw((const char[]){(char)(' ' + i), 0}, ascii[i]);
    for (unsigned code = 0xA1; code < 0x180; code++) {
        const char text[] = {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F)), 0};
        const bool soft_hyphen = code == 0xAD;
        if (letters_columns(text) != !soft_hyphen)
            fail_msg("U+%04X takes %d columns", code, letters_columns(text));
        draw(text, rgb);
        for (int i = 1; i < 95; i++)
            if (memcmp(rgb, ascii[i], BYTES) == 0)
                fail_msg("U+%04X looks like %c", code, ' ' + i);
    }
}

static void others_stand_as_their_code(void **state)
{
    (void)state;
    uint8_t rgb[BYTES], spelled[BYTES];
    draw("\U0001F431", rgb);
    draw("U+1F431", spelled);
    assert_memory_equal(rgb, spelled, BYTES);
    assert_int_equal(letters_columns("\U0001F431"), 7);
    assert_int_equal(letters_columns("\u732B\u732B"), 7 + 6); /* a gap between two */
    assert_int_equal(letters_columns("\u2764\uFE0F"), 6);     /* how it is to look takes no room */
    draw("\uFB01", rgb);                                      /* one character for two letters */
    draw("fi", spelled);
    assert_memory_equal(rgb, spelled, BYTES);
    draw("\xff", rgb); /* no UTF-8 */
    check_rows("\xff", 0, glyph_box());
}

/* A line is never empty while there is text: who cuts text into lines would not come to an end. */
static void what_is_too_wide_is_taken_all_the_same(void **state)
{
    (void)state;
    assert_int_equal(letters_bytes("\U0001F431x", 3), 4);
    assert_int_equal(letters_bytes("x\U0001F431", 3), 1);
    assert_int_equal(letters_bytes("", 3), 0);
}

static void lines_break_at_blanks_and_say_where_words_are_missing(void **state)
{
    (void)state;
    uint8_t rgb[BYTES], expected[BYTES];
    Picture p = {{WIDTH, HEIGHT}, rgb};
    assert_int_equal(letters_lines("a cat on a mat", 5, 9), 3); /* a cat, on a, mat */
    assert_int_equal(letters_lines("a cat on a mat", 5, 2), 2);
    assert_int_equal(letters_lines("caterpillar", 5, 9), 3);
    assert_int_equal(letters_lines("", 5, 9), 0);
    memset(rgb, 255, BYTES);
    letters_draw_lines(&p, 0, TOP, 1, "a cat on", 8, 1);
    draw("a cat on", expected);
    assert_memory_equal(rgb, expected, BYTES);
    memset(rgb, 255, BYTES);
    letters_draw_lines(&p, 0, TOP, 1, "a cat on a mat", 8, 1);
    draw("a cat o…", expected);
    assert_memory_equal(rgb, expected, BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accents_stand_over_their_letters),
        cmocka_unit_test(an_accent_of_its_own_is_drawn_to_the_letter_before),
        cmocka_unit_test(every_letter_of_latin_is_drawn),
        cmocka_unit_test(others_stand_as_their_code),
        cmocka_unit_test(lines_break_at_blanks_and_say_where_words_are_missing),
        cmocka_unit_test(what_is_too_wide_is_taken_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
