/* What lint says of a set as a whole: what a run would lose, what looks alike, captions that stand apart; and
 * what it does not say of ordinary pictures. */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "data/lint/alike.h"
#include "data/lint/lint.h"
#include "data/lint/sheet.h"
#include "kernels/base/log.h"

static char top[64], *folder, *out; /* top/photos, top/out.h5 */
static char said[3][8192];          /* by kind, one a line */

static Framer *framer; /* of squares */
static int batch;

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    batch = 0;
    if (framer_new(&(FrameRule){.side = 64}, &framer) != STATUS_OK)
        return -1;
    temporary_folder(top);
    folder = path_join(top, "photos");
    out = path_join(top, "out.h5");
    return dir_make(folder) != STATUS_OK;
}

static int tear_down(void **state)
{
    (void)state;
    framer_free(framer);
    mem_free(folder);
    mem_free(out);
    return dir_remove(top) != STATUS_OK;
}

static void take_finding(LintKind kind, const char *message, void *arg)
{
    (void)arg;
    snprintf(said[kind] + strlen(said[kind]), sizeof said[kind] - strlen(said[kind]), "%s\n", message);
}

/* Words. */
static Status count_tokens(const char *caption, int *count, void *arg)
{
    (void)arg;
    *count = 1;
    for (const char *p = caption; *p; p++)
        *count += *p == ' ';
    return STATUS_OK;
}

static void lint(const char *path)
{
    int pictures;
    memset(said, 0, sizeof said);
    assert_ok(dataset_lint(&(Lint){.path = path,
                                   .framer = framer,
                                   .any_size = true,
                                   .batch = batch,
                                   .report = take_finding,
                                   .tokens = count_tokens,
                                   .tokens_seen = 5},
                           &pictures));
}

static void says(LintKind kind, const char *text)
{
    if (strcmp(said[kind], text) != 0)
        fail_msg("\"%s\" is wanted, not:\n%s(losses)\n%s(notes)\n%s", text, said[0], said[1], said[2]);
}

/* A picture of n soft spots that follow from seed, of this size. */
static void write_spots(const char *name, int width, int height, unsigned seed, int brighter)
{
    Picture p;
    int x[6], y[6];
    for (int i = 0; i < 6; i++) {
        seed = seed * 1103515245 + 12345;
        x[i] = (int)(seed >> 16) % 100;
        seed = seed * 1103515245 + 12345;
        y[i] = (int)(seed >> 16) % 100;
    }
    assert_ok(picture_new((Size){width, height}, &p));
    for (int i = 0; i < width * height; i++) {
        const int at_x = 100 * (i % width) / width, at_y = 100 * (i / width) / height;
        int value = 20;
        for (int k = 0; k < 6; k++) {
            const int far = (at_x - x[k]) * (at_x - x[k]) + (at_y - y[k]) * (at_y - y[k]);
            value += far < 900 ? (900 - far) / 8 : 0;
        }
        memset(p.rgb + 3 * i, value + brighter > 255 ? 255 : value + brighter, 3);
    }
    char *path = path_join(folder, name);
    assert_ok(picture_write_png(path, &p, NULL, 0));
    mem_free(path);
    picture_free(&p);
}

static void write_captions(int count, const char *format)
{
    for (int i = 0; i < count; i++) {
        char name[32], text[128];
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(text, sizeof text, format, i);
        write_text(folder, name, text);
    }
}

static void says_pairs(void)
{
    static const char *const PAIRS[] = {"3 pairs of pictures look nearly the same: ", "0.png and 1.png",
                                        "0.png and 2.png", "1.png and 2.png"};
    for (int i = 0; i < 4; i++)
        if (!strstr(said[LINT_NOTE], PAIRS[i]))
            fail_msg("\"%s\" is not in:\n%s", PAIRS[i], said[LINT_NOTE]);
}

static void the_same_in_another_size_looks_alike(void **state)
{
    (void)state;
    write_spots("0.png", 90, 80, 1, 0);
    write_spots("1.png", 180, 160, 1, 0);
    write_spots("2.png", 90, 80, 1, 4);
    write_spots("3.png", 90, 80, 2, 0);
    write_spots("4.png", 90, 80, 3, 0);
    write_png(folder, "5.png", 90, 80, 1); /* hardly any contrast but in one channel */
    write_captions(6, "a photo number %d");
    lint(folder);
    says_pairs();
    says(LINT_LOSS, "");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out}, NULL));
    lint(out);
    says_pairs();
}

/* Looks that differ in one to three bits, anywhere, are found, each pair once; in four they are not. */
static int pairs;
static void count_pair(int a, int b, void *arg)
{
    (void)a;
    (void)b;
    (void)arg;
    pairs++;
}

static void three_bits_are_alike_and_four_are_not(void **state)
{
    (void)state;
    const uint64_t look = 0x123456789abcdef0;
    for (int first = 0; first < 64; first++)
        for (int second = 0; second < 64; second += 5)
            for (int third = 0; third < 64; third += 7) {
                const uint64_t other = look ^ 1ull << first ^ 1ull << second ^ 1ull << third;
                AlikePicture two[] = {{look, 0}, {other, 1}};
                pairs = 0;
                alike_pairs(two, 2, count_pair, NULL);
                assert_int_equal(pairs, 1);
            }
    AlikePicture far[] = {{look, 0}, {look ^ 0x0001000100010001, 1}, {0, 2}, {0, 3}};
    pairs = 0;
    alike_pairs(far, 4, count_pair, NULL);
    assert_int_equal(pairs, 0);
}

static void what_a_run_does_not_see_is_a_loss(void **state)
{
    (void)state;
    write_spots("0.png", 90, 60, 1, 0); /* 2:3, as photographs are */
    write_spots("1.png", 160, 90, 2, 0);
    write_spots("2.png", 90, 200, 3, 0);
    write_spots("3.png", 90, 90, 4, 0);
    write_captions(3, "a photo number %d");
    write_text(folder, "3.txt", "a photo number and more than that");
    lint(folder);
    says(LINT_LOSS, "1 picture (2.png (45 %)): less than half of the picture is used, the rest is cut away\n"
                    "1 picture (1.png (56 %)): more than a third of the picture is cut away\n"
                    "1 caption is longer than the 5 tokens that a text encoder sees: 3.png (7)\n");
    says(LINT_NOTE, "");
    says(LINT_ERROR, "");
}

static void a_caption_without_a_common_word_stands_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        write_spots(name, 64, 64, (unsigned)i + 1, 0);
    }
    write_captions(6, "a SKS dog, %d");
    write_text(folder, "2.txt", "on the beach");
    lint(folder);
    says(LINT_NOTE, "1 caption has no word that another one has: 2.png (\"on the beach\")\n");
    write_text(folder, "2.txt", "sks on the beach");
    lint(folder);
    says(LINT_NOTE, "");
    for (int i = 0; i < 6; i++) { /* nothing in common: no subject's pictures */
        char name[16], text[32];
        snprintf(name, sizeof name, "%d.txt", i);
        snprintf(text, sizeof text, "word%d", i);
        write_text(folder, name, text);
    }
    lint(folder);
    says(LINT_NOTE, "");
}

/* A wide picture has its middle third in a red frame, and is darker beside it; below stand letters. A page
 * has 80 pictures. Only a sheet is replaced. */
static void a_sheet_shows_what_is_trained_on(void **state)
{
    (void)state;
    enum { LEFT = 10, TOP = 10, SIDE = 192 };
    char *path = path_join(top, "sheet.png"), *bytes;
    size_t size;
    Picture p, wide;
    Sheet *sheet;
    const Size whole = {600, 200};
    int pages, dark = 0;
    assert_ok(picture_new(sheet_size(whole), &wide));
    assert_true(size_equal(wide.size, (Size){192, 64}));
    memset(wide.rgb, 200, 3 * (size_t)size_area(wide.size));
    assert_ok(sheet_open(path, framer, &sheet));
    for (int i = 0; i < 81; i++)
        assert_ok(sheet_add(sheet, "wide.png", "a caption", i == 1 ? NULL : &wide, whole));
    assert_ok(sheet_close(sheet, &pages));
    assert_int_equal(pages, 2);
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    assert_ok(picture_decode((uint8_t *)bytes, size, &p));
    const uint8_t *row = p.rgb + 3 * (size_t)p.size.width * (TOP + SIDE / 2); /* through the first cell */
    assert_int_equal(row[3 * (LEFT + 10)], 100);
    assert_int_equal(row[3 * (LEFT + 64)], 230); /* the frame */
    assert_int_equal(row[3 * (LEFT + 64) + 1], 30);
    assert_int_equal(row[3 * (LEFT + 96)], 200);
    assert_int_equal(row[3 * (LEFT + 127)], 230);
    assert_int_equal(row[3 * (LEFT + 128)], 100);
    for (int i = 0; i < SIDE; i++) /* the name */
        dark += p.rgb[3 * ((size_t)p.size.width * (TOP + SIDE + 6) + LEFT + (size_t)i)] == 0;
    assert_true(dark >= 8);
    picture_free(&p);
    mem_free(bytes);
    assert_ok(sheet_open(path, framer, &sheet)); /* one of before */
    assert_ok(sheet_add(sheet, "wide.png", NULL, &wide, whole));
    assert_ok(sheet_close(sheet, &pages));
    assert_int_equal(pages, 1);
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    assert_ok(picture_decode((uint8_t *)bytes, size, &p));
    assert_int_equal(p.size.width, LEFT + SIDE + LEFT); /* no columns that are empty */
    picture_free(&p);
    mem_free(bytes);
    write_png(top, "sheet.png", 16, 16, 1);
    assert_int_equal(sheet_open(path, framer, &sheet), STATUS_REFUSED);
    assert_message("is no sheet that was made here");
    picture_free(&wide);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(the_same_in_another_size_looks_alike), TEST(three_bits_are_alike_and_four_are_not),
        TEST(what_a_run_does_not_see_is_a_loss),    TEST(a_caption_without_a_common_word_stands_apart),
        TEST(a_sheet_shows_what_is_trained_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
