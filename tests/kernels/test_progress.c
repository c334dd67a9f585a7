/* The progress line, on a clock of the test's own. Breaks if the rate or the time left would be wrong, if a
 * log would fill with lines, or if a terminal's line would run over its edge. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/progress.h"

#include <stdlib.h>
#include <string.h>

static double time_now;
static char *text;
static size_t size;

static double test_clock(void)
{
    return time_now;
}

static void begin(Progress *p, int64_t first, int64_t total, bool terminal)
{
    time_now = 1000;
    progress_begin(p, "train", "step", first, total);
    p->clock = test_clock;
    p->began = p->recent_time = time_now;
    p->out = open_memstream(&text, &size);
    p->terminal = terminal;
    p->color = false;
    p->width = 60;
}

static void end(Progress *p)
{
    fclose(p->out);
}

static int lines(void)
{
    int n = 0;
    for (const char *s = text; *s; s++)
        n += *s == '\n';
    return n;
}

static void a_log_gets_the_first_a_few_and_the_last_line(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 100, false);
    for (int i = 1; i <= 100; i++) {
        time_now += 0.5;
        progress_update(&p, i, "loss %.2f", 1.0 / i);
    }
    progress_end(&p);
    end(&p);
    assert_int_equal(lines(), 1 + 9 + 1); /* at 0.5 s, every 5 s of 50, the end */
    assert_ptr_equal(strstr(text, "train  1/100  1%  2.00 steps/s  0:50 left  loss 1.00\n"), text);
    assert_non_null(strstr(text, "train  100/100  100%  2.00 steps/s  took 0:50  loss 0.01\n"));
    assert_null(strchr(text, '\033'));
    free(text);
}

/* However slow: what is done last stands in the line of progress_end, also if something was printed in
 * between. */
static void the_last_unit_is_one_line_of_a_log(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 2, false);
    for (int i = 1; i <= 2; i++) {
        time_now += 20;
        progress_update(&p, i, "loss %d", i);
    }
    progress_clear(&p);
    progress_end(&p);
    end(&p);
    assert_string_equal(text, "train  1/2  50%  20.0 s/step  0:20 left  loss 1\n"
                              "train  2/2  100%  20.0 s/step  took 0:40  loss 2\n");
    free(text);
}

static void long_work_writes_a_line_a_minute(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 7200, false);
    for (int i = 1; i <= 7200; i++) {
        time_now += 1;
        progress_update(&p, i, NULL);
    }
    end(&p);
    assert_in_range(lines(), 120, 170); /* of two hours */
    free(text);
}

static void a_resumed_run_counts_its_own_steps_only(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 500, 600, false);
    time_now += 10;
    progress_update(&p, 510, NULL);
    end(&p);
    assert_string_equal(text, "train  510/600  85%  1.00 s/step  1:30 left\n");
    free(text);
}

/* A preview between two steps is no step's time, and those still to come are time that is left. */
static void what_stands_beside_counts_for_the_time_left_alone(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 100, false);
    for (int i = 1; i <= 50; i++) {
        time_now += 1;
        progress_update(&p, i, NULL);
        time_now += 9;
        progress_beside(&p, 9.0 * (100 - i));
    }
    time_now += 61;
    progress_beside(&p, 500);
    time_now += 1;
    progress_update(&p, 51, NULL);
    end(&p);
    assert_non_null(strstr(text, "train  51/100  51%  1.00 s/step  9:09 left\n"));
    free(text);
}

static void what_is_over_at_once_is_not_in_the_log(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 4, false);
    progress_quiet(&p, 1);
    for (int i = 1; i <= 4; i++) {
        time_now += 0.2;
        progress_update(&p, i, NULL);
    }
    progress_clear(&p);
    progress_end(&p);
    fflush(p.out);
    assert_int_equal(size, 0);
    time_now += 1;
    progress_update(&p, 2, NULL);
    end(&p);
    assert_non_null(strstr(text, "train  2/4"));
    free(text);
}

/* At 80 columns no number is cut: what has no room is left out whole, from the end. */
static void a_narrow_line_leaves_out_whole_parts(void **state)
{
    (void)state;
    static const struct {
        int width;
        const char *shown;
    } cases[] = {
        {200, "\rtrain  250/1000  25%  1.00 s/step  12:30 left  loss 0.0640  moved 1.23  0.55 GB  "
              "[0.1 0.2]\033[K"},
        {80, "\rtrain  250/1000  25%  1.00 s/step  12:30 left  loss 0.0640  moved 1.23  0.55 GB\033[K"},
        {60, "\rtrain  250/1000  25%  1.00 s/step  12:30 left  loss 0.0640\033[K"},
        {20, "\rtrain  250/1000\033[K"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Progress p;
        begin(&p, 249, 1000, true);
        p.width = cases[i].width;
        time_now += 1;
        progress_update(&p, 250, "loss %.4f  moved %.3g  %.2f GB  [0.1 0.2]", 0.064, 1.23, 0.55);
        end(&p);
        assert_string_equal(text, cases[i].shown);
        free(text);
    }
}

static void the_rate_follows_a_change_within_a_minute(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 1000, false);
    time_now += 60; /* a slow first step */
    progress_update(&p, 1, NULL);
    for (int i = 2; i <= 200; i++) {
        time_now += 1;
        progress_update(&p, i, NULL);
    }
    assert_true(p.seconds_per_unit > 0.99 && p.seconds_per_unit < 1.2);
    end(&p);
    free(text);
}

static void a_pause_counts_as_one_unit_among_many(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 1000, false);
    for (int i = 1; i <= 400; i++) {
        time_now += i == 400 ? 9 : 0.1; /* a preview in the last one */
        progress_update(&p, i, NULL);
    }
    assert_true(p.seconds_per_unit > 0.1 && p.seconds_per_unit < 0.16);
    end(&p);
    free(text);
}

static void a_terminals_line_stays_inside_and_is_redrawn_ten_times_a_second(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 1000, true);
    for (int i = 1; i <= 100; i++) {
        time_now += 0.01;
        progress_update(&p, i, "%s",
                        "ünïcödé that is far too long for a line of sixty columns, and then some");
    }
    fflush(p.out);
    int redrawn = 0;
    for (char *s = text; (s = strchr(s, '\r')) != NULL; s++) {
        int width = 0;
        redrawn++;
        for (const char *c = s + 1; *c != '\033'; c++)
            width += ((unsigned char)*c & 0xC0) != 0x80;
        assert_in_range(width, 20, 59);
    }
    assert_in_range(redrawn, 9, 11);
    assert_int_equal(lines(), 0);
    progress_clear(&p);
    fflush(p.out);
    assert_string_equal(text + size - strlen("\r\033[K"), "\r\033[K");
    progress_end(&p);
    end(&p);
    assert_int_equal(lines(), 1);
    free(text);
}

static void an_unknown_total_shows_no_share(void **state)
{
    (void)state;
    Progress p;
    begin(&p, 0, 0, false);
    time_now += 1;
    progress_update(&p, 4, NULL);
    end(&p);
    assert_string_equal(text, "train  4 steps  4.00 steps/s\n");
    free(text);
}

static void times_are_short(void **state)
{
    (void)state;
    char buf[32];
    assert_string_equal(progress_time(0, buf, sizeof buf), "0:00");
    assert_string_equal(progress_time(409.4, buf, sizeof buf), "6:49");
    assert_string_equal(progress_time(3723, buf, sizeof buf), "1:02:03");
    assert_string_equal(progress_time(2 * 86400 + 4 * 3600, buf, sizeof buf), "2d 4h");
    assert_string_equal(progress_time(-1, buf, sizeof buf), "0:00");
    progress_time(1e300, buf, sizeof buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_gets_the_first_a_few_and_the_last_line),
        cmocka_unit_test(the_last_unit_is_one_line_of_a_log),
        cmocka_unit_test(long_work_writes_a_line_a_minute),
        cmocka_unit_test(a_resumed_run_counts_its_own_steps_only),
        cmocka_unit_test(what_stands_beside_counts_for_the_time_left_alone),
        cmocka_unit_test(what_is_over_at_once_is_not_in_the_log),
        cmocka_unit_test(a_narrow_line_leaves_out_whole_parts),
        cmocka_unit_test(the_rate_follows_a_change_within_a_minute),
        cmocka_unit_test(a_pause_counts_as_one_unit_among_many),
        cmocka_unit_test(a_terminals_line_stays_inside_and_is_redrawn_ten_times_a_second),
        cmocka_unit_test(an_unknown_total_shows_no_share),
        cmocka_unit_test(times_are_short),
    };
    progress_to(progress_terminal, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
