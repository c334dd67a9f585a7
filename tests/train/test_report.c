/* A run's page, report.html: any text stays text, a log of any length makes a small page, and what is missing
 * or spoilt in the folder costs no page. Breaks if a prompt can be markup, if a page grows with the log, or
 * if a tag is left open. */
#include "runs.h"

#include "train/pictures/owned.h"
#include "train/report/html.h"
#include "train/report/plot.h"
#include "train/report/report.h"

#include "tests/data/pictures.h"

static char *taken(Buffer *b)
{
    char *text = NULL;
    assert_ok(buffer_take(b, &text));
    return text;
}

static int count_of(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        n++;
    return n;
}

static void has(const char *text, const char *part, bool wanted)
{
    if ((strstr(text, part) != NULL) != wanted)
        fail_msg("\"%s\" is%s on the page", part, wanted ? " not" : "");
}

static void a_text_is_no_markup(void **state)
{
    (void)state;
    Buffer b = {0};
    html_text(&b, "a<b> & \"c\" 'd'\n\xC3\xBC \x01\xFF\xC3 end\x7F");
    char *text = taken(&b);
    assert_string_equal(text, "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\n\xC3\xBC \xEF\xBF\xBD\xEF\xBF\xBD"
                              "\xEF\xBF\xBD end\xEF\xBF\xBD");
    mem_free(text);
}

#define MANY 1000000

static void a_long_curve_stays_small_and_keeps_its_extremes(void **state)
{
    (void)state;
    Curve *c = mem_calloc(1, sizeof *c);
    assert_non_null(c);
    for (int i = 1; i <= MANY; i++)
        curve_add(c, i, i == 123456 ? 500 : i == 765432 ? NAN : i % 10);
    double sum = 0, high = 0, low = 0;
    int64_t values = 0;
    for (int i = 0; i < c->count; i++) {
        const Bucket *bucket = &c->buckets[i];
        values += bucket->count;
        sum += bucket->y * (double)bucket->count;
        high = fmax(high, bucket->high);
        low = fmin(low, bucket->low);
        assert_true(i == 0 || bucket->x > c->buckets[i - 1].x);
    }
    assert_true(c->count > CURVE_BUCKETS / 4 && c->count <= CURVE_BUCKETS);
    assert_int_equal(values, MANY - 1);
    assert_true(fabs(sum / (double)values - 4.5005) < 1e-3);
    assert_true(high == 500 && low == 0);

    Buffer b = {0};
    plot_add(
        &b,
        &(Plot){.title = "a < b", .unit = "s", .series = &(Series){c, "each", 0, SERIES_FAINT}, .count = 1});
    char *text = taken(&b);
    assert_true(strlen(text) < 30000);
    has(text, "a &lt; b", true);
    has(text, "spikes", true);
    has(text, "×10", true); /* steps up to 10⁶ */
    mem_free(text);
    mem_free(c);
}

/* Ticks and places are numbers, whatever the values are. */
static void every_curve_can_be_drawn(void **state)
{
    (void)state;
    static const double values[][3] = {{0, 0, 0},
                                       {1, 1, 1},
                                       {-1, 0, 1},
                                       {1e-12, 2e-12, 3e-12},
                                       {1e15, 2e15, 1e15},
                                       {0.1, INFINITY, 0.3},
                                       {0.1, 0.1 + 1.4e-17, 0.1},
                                       {0, 5e-324, 0},
                                       {-5, -5, -5}};
    Curve *c = mem_calloc(1, sizeof *c);
    Buffer b = {0};
    plot_add(&b, &(Plot){.title = "", .unit = "", .series = &(Series){c, "", 0, SERIES_LINE}, .count = 1});
    assert_true(b.length == 0);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int style = SERIES_LINE; style <= SERIES_POINTS; style++)
            for (int count = 1; count <= 3; count++) {
                *c = (Curve){0};
                for (int k = 0; k < count; k++)
                    curve_add(c, k, values[i][k]);
                const Series s = {c, "", 0, (SeriesStyle)style};
                plot_add(&b,
                         &(Plot){.title = "", .unit = "", .series = &s, .count = 1, .from_zero = i % 2 == 1});
                char *text = taken(&b);
                has(text, "nan", false);
                has(text, "inf", false);
                has(text, ">-0<", false);
                assert_true(count_of(text, "<text") >= 4 && count_of(text, "<text") < 30);
                mem_free(text);
            }
    mem_free(c);
}

/* Folders of runs -----------------------------------------------------------------------------------------
 */

/* Every tag that is opened is closed again, in order. */
static void assert_well_formed(const char *html)
{
    char open[64][16];
    int depth = 0;
    for (const char *at = html; (at = strchr(at, '<')); at++) {
        const bool closes = at[1] == '/';
        const char *end = strchr(at, '>');
        char name[16] = "";
        assert_non_null(end);
        sscanf(at + 1 + closes, "%15[a-z0-9]", name);
        if (!*name || strcmp(name, "meta") == 0 || strcmp(name, "img") == 0 || strcmp(name, "br") == 0 ||
            end[-1] == '/')
            continue;
        if (!closes) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        } else if (depth == 0 || strcmp(open[--depth], name) != 0) {
            fail_msg("</%s> closes <%s>", name, depth >= 0 ? open[depth] : "");
        }
    }
    assert_int_equal(depth, 0);
}

static char *page_of(const char *run)
{
    char *path = path_in(run, REPORT_FILE), *text = NULL;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &text, &size));
    assert_true(strlen(text) == size);
    assert_well_formed(text);
    assert_string_equal(text + size - 8, "</html>\n");
    mem_free(path);
    return text;
}

#define STEPS 30000

static char *folder_of_a_run(const char *name)
{
    char *run = path_in(work, "%s", name), *samples = path_in(run, "samples"),
         *log = path_in(run, "log.jsonl");
    assert_ok(dir_make(samples));
    write_text(run, "config.yaml",
               "model: {base: builtin:tiny}\ndataset: {path: '<pictures>.h5'}\nmethod: {kind: lora}\n"
               "train: {steps: 30000, batch: 4}\n"
               "preview: {every: 10, prompts: ['<script>alert(1)</script>']}\noutput: {dir: .}\n");
    write_text(samples, "step-000000.png", "");
    write_text(samples, "step-000000.txt",
               "step 0, from left to right:\n1. <script>alert(2)</script> (seed 1)\n");
    write_text(samples, "step-x.png", "");
    write_text(samples, "\xFF.png", "");
    FILE *f = fopen(log, "w");
    assert_non_null(f);
    fprintf(f, "no JSON\n[1]\n{\"step\":\"<script>\"}\n{\"text\":\"%070000d\"}\n", 0);
    for (int i = 1; i <= STEPS; i++)
        fprintf(f,
                "{\"step\":%d,\"loss\":%g,\"lr\":1e-4,\"grad_norm\":null,\"seconds\":0.5,\"epoch\":%.9g,"
                "\"change_norm\":%d,\"loss_bands\":[0.1,null,0.3,0.4],\"memory_bytes\":2000000000%s}\n",
                i, 0.1 + 1.0 / i, i / 5.0, i, i % 1000 ? "" : ",\"validation_loss\":0.25");
    fprintf(f, "{\"step\":%d,\"seconds\":99999,\"done\":true}\n{\"step\":%d,\"lo", STEPS, STEPS + 1);
    fclose(f);
    mem_free(samples);
    mem_free(log);
    return run;
}

static void a_page_holds_the_run_and_no_markup_of_others(void **state)
{
    (void)state;
    char *run = folder_of_a_run("a <b>\xFF");
    write_text(run, "lora.safetensors", "");
    assert_ok(report_write(run));
    char *page = page_of(run);
    assert_true(strlen(page) < 400000);
    has(page, "<script", false);
    has(page, "&lt;script&gt;alert(2)", true);
    has(page, "a &lt;b&gt;\xEF\xBF\xBD", true);
    has(page, "30000 of 30000, 6000 epochs", true);
    has(page, "20 an epoch, of &lt;pictures&gt;.h5; 4 a step", true);
    has(page, "4 h 10 min in steps, 0.5 s each", true);
    has(page, "Draw with it", true);
    has(page, "least 0.25000, at step 1000", true);
    has(page, "samples/step-000000.png", true);
    has(page, "step-x", false);
    assert_int_equal(count_of(page, "class=\"plot\""), 6); /* no gradient's norm has come */
    assert_int_equal(count_of(page, "<circle"), 30);
    bool listed = false;
    assert_ok(owned_find(run, REPORT_FILE, &listed));
    assert_true(listed);
    mem_free(page);
    mem_free(run);
}

static void what_is_missing_costs_no_page(void **state)
{
    (void)state;
    char *run = folder_of_a_run("spoilt"), *log = path_in(run, "log.jsonl");
    write_text(run, "config.yaml", "model: {base: '<nothing>'\n");
    assert_ok(report_write(run));
    char *page = page_of(run);
    has(page, "config.yaml", true);
    has(page, "base: &#39;&lt;nothing&gt;&#39;", true);
    mem_free(page);
    remove(log);
    assert_ok(report_write(run));
    page = page_of(run);
    has(page, "<svg", false);
    mem_free(page);
    mem_free(log);
    mem_free(run);
}

static void somebodys_page_is_left_alone(void **state)
{
    (void)state;
    char *run = folder_of_a_run("theirs"), *path = path_in(run, REPORT_FILE), *text;
    size_t size;
    write_text(run, REPORT_FILE, "mine");
    assert_int_equal(report_write(run), STATUS_REFUSED);
    assert_ok(file_read(path, 1 << 20, &text, &size));
    assert_string_equal(text, "mine");
    mem_free(text);
    mem_free(path);
    mem_free(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_no_markup),
        cmocka_unit_test(a_long_curve_stays_small_and_keeps_its_extremes),
        cmocka_unit_test(every_curve_can_be_drawn),
        cmocka_unit_test(a_page_holds_the_run_and_no_markup_of_others),
        cmocka_unit_test(what_is_missing_costs_no_page),
        cmocka_unit_test(somebodys_page_is_left_alone),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
