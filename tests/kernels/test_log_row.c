/* Rows of a table on terminals. Breaks if a row ran over a narrow terminal's edge, lost a word there, or were
 * cut into lines where a program or a file reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* A terminal of so many columns: what is written to *out can be read from the result. */
static int open_terminal(int columns, FILE **out)
{
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master))
        skip();
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    const struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    struct termios plain;
    assert_int_equal(ioctl(slave, TIOCSWINSZ, &size), 0);
    assert_int_equal(tcgetattr(slave, &plain), 0);
    plain.c_oflag &= ~(tcflag_t)OPOST;
    assert_int_equal(tcsetattr(slave, TCSANOW, &plain), 0);
    *out = fdopen(slave, "w");
    return master;
}

static void check_terminal(int columns, const char *row, const char *expected)
{
    FILE *out;
    char text[512] = "";
    const int master = open_terminal(columns, &out);
    log_row(out, 7, "%s", row);
    fflush(out);
    assert_int_equal(read(master, text, sizeof text - 1), strlen(expected));
    assert_string_equal(text, expected);
    fclose(out);
    close(master);
}

static void a_row_goes_on_below_its_first_word(void **state)
{
    (void)state;
    check_terminal(40, "disk   about 11 MB", "disk   about 11 MB\n");
    check_terminal(30, "disk   about 11 MB: 5 MB a checkpoint",
                   "disk   about 11 MB: 5 MB a\n       checkpoint\n");
    check_terminal(30, "disk   1 2 3 4 5 6 7 8 9 0 ä 2", "disk   1 2 3 4 5 6 7 8 9 0 ä\n       2\n");
    check_terminal(30, "       aligned   columns", "       aligned   columns\n");
    check_terminal(30, "path   /a/word/that/is/wider/than/all", "path   /a/word/that/is/wider/than/all\n");
}

static void elsewhere_a_row_is_a_line(void **state)
{
    (void)state;
    char text[512] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    log_row(out, 7, "disk   %0200d and more", 5);
    fclose(out);
    assert_int_equal(strlen(text), 7 + 200 + 9 + 1);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_goes_on_below_its_first_word),
        cmocka_unit_test(elsewhere_a_row_is_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
