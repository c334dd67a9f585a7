/* Letters on pictures. Breaks if a title in another language than English became a row of boxes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/pictures/letters.h"

#include <string.h>

enum { SIDE = 8 };

static void draw(const char *text, uint8_t rgb[3 * SIDE * SIDE])
{
    Picture p = {{SIDE, SIDE}, rgb};
    memset(rgb, 255, 3 * SIDE * SIDE);
    letters_draw(&p, 0, 0, 1, text, 1);
}

static void accents_are_left_off(void **state)
{
    (void)state;
    static const char *const PAIRS[][2] = {{"\xc3\xbc", "u"}, {"\xc3\x89", "E"}, {"\xc5\x99", "r"}};
    uint8_t accented[3 * SIDE * SIDE], bare[3 * SIDE * SIDE], box[3 * SIDE * SIDE];
    draw("\xf0\x9f\x90\xb1", box); /* a cat's face */
    for (int i = 0; i < 3; i++) {
        draw(PAIRS[i][0], accented);
        draw(PAIRS[i][1], bare);
        assert_memory_equal(accented, bare, sizeof bare);
        assert_memory_not_equal(bare, box, sizeof bare);
    }
    draw("\xff", bare); /* no UTF-8 */
    assert_memory_equal(bare, box, sizeof bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accents_are_left_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
