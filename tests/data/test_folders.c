/* Names of folders as kohya's scripts have them: what is meant so is taken and told with its number, a date
 * or a camera's folder never becomes repeats and a caption in silence. */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "data/lint/lint.h"
#include "kernels/base/log.h"

static char top[64], *folder, *out; /* top/photos, top/out.h5 */

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(top);
    folder = path_join(top, "photos");
    out = path_join(top, "out.h5");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(folder);
    mem_free(out);
    return dir_remove(top) != STATUS_OK;
}

/* Pictures a.png, b.png … in photos/NAME. */
static void fill(const char *name, int pictures)
{
    for (int i = 0; i < pictures; i++) {
        char *file = mem_printf("%s/%c.png", name, 'a' + i);
        char *path = path_join(folder, file);
        assert_ok(dir_make_parent(path));
        write_png(folder, file, 16, 16, i);
        mem_free(path);
        mem_free(file);
    }
}

static Status build(FolderNames names)
{
    return dataset_build(
        &(DatasetBuild){.folder = folder, .out = out, .caption = "for all", .folder_names = names}, NULL);
}

static char notes[4096], errors[4096];
static void take_finding(LintKind kind, const char *message, void *arg)
{
    (void)arg;
    char *to = kind == LINT_ERROR ? errors : notes;
    snprintf(to + strlen(to), 4096 - strlen(to), "%s\n", message);
}

static void lint(const char *path, FolderNames names)
{
    int pictures;
    notes[0] = errors[0] = 0;
    assert_ok(dataset_lint(&(Lint){.path = path, .folder_names = names, .report = take_finding}, &pictures));
}

static void assert_noted(const char *text)
{
    if (!strstr(notes, text))
        fail_msg("no note \"%s\" in:\n%s", text, notes);
}

static void the_number_before_the_first_underscore(void **state)
{
    (void)state;
    int repeats = 0;
    const char *caption = NULL;
    assert_true(folder_name_read("10_sks cat", &repeats, &caption));
    assert_int_equal(repeats, 10);
    assert_string_equal(caption, "sks cat");
    assert_true(folder_name_read("1_a_b", &repeats, &caption));
    assert_string_equal(caption, "a_b");
    static const char *const ordinary[] = {"sks cat", "10 sks",          "_cat", "10_", "0_cat",
                                           "-3_cat",  "99999999999_cat", "",     "10"};
    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++)
        assert_false(folder_name_read(ordinary[i], &repeats, &caption));
}

/* Names that make somebody's archive 2,024 repeats of "dog". */
static void what_no_one_means_is_asked_about(void **state)
{
    (void)state;
    static const char *const doubtful[][2] = {
        {"2024_dog",
         "2024 repeats of each of 2 pictures, and the caption of 2, as kohya's scripts name folders "
         "(10_sks cat); that is more than anybody means"},
        {"501_dog", "that is more than anybody means"},
        {"100_PANA", "cameras name their folders so"},
        {"101_0612", "cameras name their folders so"},
        {"12_2023", "a caption without a letter"},
        {"05_08_2024", "a caption without a letter"},
        {"trips/1999_sea", "trips/1999_sea: 1999 repeats"},
    };
    for (size_t i = 0; i < sizeof doubtful / sizeof *doubtful; i++) {
        fill(doubtful[i][0], 2);
        assert_int_equal(build(FOLDER_NAMES_AUTO), STATUS_FAILED);
        assert_message(doubtful[i][0]);
        assert_message(doubtful[i][1]);
        assert_message("rename it or give --folder-names plain; if it is meant, --folder-names kohya");
        assert_message("dataset.folder_names");
        assert_false(file_exists(out));
        lint(folder, FOLDER_NAMES_AUTO);
        assert_non_null(strstr(errors, doubtful[i][1]));
        assert_ok(dir_remove(folder));
    }
}

static void what_people_write_is_not_asked_about(void **state)
{
    (void)state;
    static const char *const meant[] = {"10_sks cat",   "1_dog",  "500_x",    "100_pana",
                                        "100_CATSY",    "3_猫",   "2024 dog", "2024-05-01_dog",
                                        "20240501_dog", "99_PANA"};
    for (size_t i = 0; i < sizeof meant / sizeof *meant; i++) {
        fill(meant[i], 1);
        assert_ok(build(FOLDER_NAMES_AUTO));
        assert_ok(dir_remove(folder));
    }
}

static void both_answers_are_taken(void **state)
{
    (void)state;
    Dataset *d;
    fill("2024_dog", 2);
    fill("10_cat", 1);
    assert_ok(build(FOLDER_NAMES_KOHYA));
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_repeats(d, 0), 10);
    assert_string_equal(dataset_caption(d, 0), "cat");
    assert_int_equal(dataset_repeats(d, 2), 2024);
    assert_string_equal(dataset_caption(d, 2), "dog");
    dataset_close(d);
    assert_ok(build(FOLDER_NAMES_PLAIN));
    assert_ok(dataset_open(out, &d));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dataset_repeats(d, i), 1);
        assert_string_equal(dataset_caption(d, i), "for all");
    }
    dataset_close(d);
    lint(out, FOLDER_NAMES_AUTO);
    assert_null(strstr(notes, "taken from a folder"));
}

static void the_folder_that_was_named_says_nothing(void **state)
{
    (void)state;
    Dataset *d;
    mem_free(folder);
    folder = path_join(top, "10_sks cat");
    fill("5_more", 1);
    fill(".", 1);
    assert_ok(build(FOLDER_NAMES_AUTO));
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_repeats(d, 0), 5);
    assert_string_equal(dataset_caption(d, 0), "more");
    assert_int_equal(dataset_repeats(d, 1), 1);
    assert_string_equal(dataset_caption(d, 1), "for all");
    dataset_close(d);
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = folder, .out = out}, NULL), STATUS_FAILED);
    assert_message("1 of 2 pictures has no caption: a.png");
    assert_message("name the folder around it to have it taken");
    lint(folder, FOLDER_NAMES_AUTO);
    assert_noted("10_sks cat: its own name is not taken as repeats and caption");
}

/* With a count and a name, of a folder and of the file built from it alike. */
static void what_was_taken_is_told(void **state)
{
    (void)state;
    fill("10_sks cat", 3);
    fill("10_sks cat/20_close", 1);
    fill("1_dog", 2);
    fill("1_fox", 1);
    fill("other", 1);
    write_text(folder, "10_sks cat/b.txt", "its own");
    write_text(folder, "1_fox/a.txt", "its own"); /* nothing is taken of 1_fox */
    assert_ok(build(FOLDER_NAMES_AUTO));
    for (int built = 0; built < 2; built++) {
        lint(built ? out : folder, FOLDER_NAMES_AUTO);
        assert_noted("10_sks cat: 10 repeats of each of 3 pictures, and the caption of 2\n");
        assert_noted("10_sks cat/20_close: 20 repeats of each of 1 picture, and the caption of 1\n");
        assert_noted("1_dog: 1 repeat of each of 2 pictures, and the caption of 2\n");
        assert_null(strstr(notes, "fox: "));
        assert_null(strstr(notes, "other: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        cmocka_unit_test(the_number_before_the_first_underscore),
        TEST(what_no_one_means_is_asked_about),
        TEST(what_people_write_is_not_asked_about),
        TEST(both_answers_are_taken),
        TEST(the_folder_that_was_named_says_nothing),
        TEST(what_was_taken_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
