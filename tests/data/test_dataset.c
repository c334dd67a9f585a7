/* Building a dataset of a folder, and opening it: captions find their pictures, nothing is left out in
 * silence, nothing half-written is left behind, and broken files are told apart. */
#include "pictures.h"

#include "data/dataset/dataset.h"
#include "data/lint/lint.h"
#include "kernels/base/log.h"
#include "kernels/base/sha256.h"

#include <sys/stat.h>

static char folder[64], *out; /* a new folder for each test; out lies in it */

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    out = path_join(folder, "out.h5");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(out);
    return dir_remove(folder) != STATUS_OK;
}

static Status build(DatasetSummary *summary)
{
    return dataset_build(&(DatasetBuild){.folder = folder, .out = out}, summary);
}

/* After a failure: no file, no part of one. */
static void assert_nothing_left(void)
{
    char **names;
    int count;
    assert_ok(dir_list(folder, &names, &count));
    for (int i = 0; i < count; i++)
        if (strncmp(names[i], "out.h5", 6) == 0)
            fail_msg("%s is left", names[i]);
    dir_list_free(names, count);
}

static void make_folder(const char *name)
{
    char *path = path_join(folder, name);
    assert_ok(dir_make(path));
    mem_free(path);
}

static void check_entry(const Dataset *d, int i, const char *name, const char *caption)
{
    assert_string_equal(dataset_name(d, i), name);
    assert_string_equal(dataset_caption(d, i), caption);
}

static void every_source_of_captions_in_its_rank(void **state)
{
    (void)state;
    make_folder("sub");
    write_png(folder, "a.png", 16, 16, 1);
    write_text(folder, "a.txt", "from txt\r\n");
    write_text(folder, "a.caption", "not this");
    write_png(folder, "b.png", 16, 16, 2);
    write_text(folder, "b.caption", "from caption");
    write_png(folder, "sub/c.png", 16, 16, 3);
    write_png(folder, "d.png", 16, 16, 4);
    write_png(folder, "e.png", 16, 16, 5);
    write_text(folder, "e.txt", "\n"); /* empty: no caption */
    write_text(folder, "metadata.jsonl",
               "{\"file_name\":\"a.png\",\"text\":\"nor "
               "this\"}\n{\"file_name\":\"sub/c.png\",\"text\":\"from metadata\"}\n"
               "{\"file_name\":\"gone.png\",\"text\":\"x\"}\n");
    DatasetSummary summary;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "for all"}, &summary));
    assert_int_equal(summary.pictures, 5);
    assert_int_equal(summary.unused_files, 3); /* a.caption, two lines of metadata */
    Dataset *d;
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_count(d), 5);
    assert_int_equal(dataset_repeats(d, 4), 1);
    assert_string_equal(dataset_source(d), path_base(folder));
    check_entry(d, 0, "a.png", "from txt");
    check_entry(d, 1, "b.png", "from caption");
    check_entry(d, 2, "d.png", "for all");
    check_entry(d, 3, "e.png", "for all");
    check_entry(d, 4, "sub/c.png", "from metadata");
    dataset_close(d);
}

static void kohyas_folders_give_captions_and_repeats(void **state)
{
    (void)state;
    make_folder("10_sks cat");
    make_folder("10_sks cat/more");
    write_png(folder, "10_sks cat/1.png", 16, 16, 1);
    write_png(folder, "10_sks cat/2.png", 16, 16, 2);
    write_text(folder, "10_sks cat/2.txt", "its own");
    write_png(folder, "10_sks cat/more/3.png", 16, 16, 3);
    assert_ok(build(NULL));
    Dataset *d;
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_repeats(d, 2), 10);
    check_entry(d, 0, "10_sks cat/1.png", "sks cat");
    check_entry(d, 1, "10_sks cat/2.png", "its own");
    check_entry(d, 2, "10_sks cat/more/3.png", "sks cat");
    dataset_close(d);
    make_folder("3_a dog");
    write_png(folder, "3_a dog/1.png", 16, 16, 4);
    assert_ok(unlink(out));
    assert_ok(build(NULL));
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_repeats(d, 0), 10); /* each folder its own */
    assert_int_equal(dataset_repeats(d, 2), 10);
    check_entry(d, 3, "3_a dog/1.png", "a dog");
    assert_int_equal(dataset_repeats(d, 3), 3);
    dataset_close(d);
}

static void the_bytes_come_back_as_they_were(void **state)
{
    (void)state;
    size_t sizes[GOLDEN_PICTURES], size;
    uint8_t *files[GOLDEN_PICTURES], *bytes, hash[SHA256_SIZE], told[SHA256_SIZE];
    for (int i = 0; i < GOLDEN_PICTURES; i++) {
        files[i] = golden_bytes(golden_pictures[i], &sizes[i]);
        write_file(folder, golden_pictures[i], files[i], sizes[i]);
    }
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, NULL));
    Dataset *d;
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_count(d), GOLDEN_PICTURES);
    for (int i = 0; i < GOLDEN_PICTURES; i++) {
        int k = 0;
        while (strcmp(golden_pictures[k], dataset_name(d, i)) != 0)
            k++;
        assert_ok(dataset_bytes(d, i, &bytes, &size));
        assert_int_equal(size, sizes[k]);
        assert_memory_equal(bytes, files[k], size);
        sha256(bytes, size, hash);
        dataset_sha256(d, i, told);
        assert_memory_equal(hash, told, SHA256_SIZE);
        Picture p = golden_pixels(golden_pictures[k]);
        assert_true(size_equal(dataset_size(d, i), p.size)); /* after orientation */
        picture_free(&p);
        mem_free(bytes);
        if (i > 0)
            assert_true(strcmp(dataset_name(d, i - 1), dataset_name(d, i)) < 0);
    }
    dataset_close(d);
    for (int i = 0; i < GOLDEN_PICTURES; i++)
        mem_free(files[i]);
}

/* '-' comes before '/' before 'b': not the order in which folders are walked. */
static void the_order_is_that_of_whole_names(void **state)
{
    (void)state;
    make_folder("a");
    write_png(folder, "a/x.png", 16, 16, 1);
    write_png(folder, "a-b.png", 16, 16, 2);
    write_png(folder, "ab.png", 16, 16, 3);
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, NULL));
    Dataset *d;
    assert_ok(dataset_open(out, &d));
    check_entry(d, 0, "a-b.png", "x");
    check_entry(d, 1, "a/x.png", "x");
    check_entry(d, 2, "ab.png", "x");
    dataset_close(d);
}

static void equal_folders_give_equal_files(void **state)
{
    (void)state;
    char *other = path_join(folder, "other.h5"), *a, *b;
    size_t n, m;
    make_folder("in");
    write_png(folder, "in/a.png", 20, 16, 1);
    write_png(folder, "in/b.png", 16, 20, 2);
    char *in = path_join(folder, "in");
    assert_ok(dataset_build(&(DatasetBuild){.folder = in, .out = out, .caption = "x"}, NULL));
    assert_ok(dataset_build(&(DatasetBuild){.folder = in, .out = other, .caption = "x"}, NULL));
    assert_ok(file_read(out, 1 << 24, &a, &n));
    assert_ok(file_read(other, 1 << 24, &b, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    mem_free(a);
    mem_free(b);
    mem_free(in);
    mem_free(other);
}

static void missing_captions_are_named(void **state)
{
    (void)state;
    char name[32];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "p%d.png", i);
        write_png(folder, name, 16, 16, i);
    }
    write_text(folder, "p3.txt", "has one");
    DatasetSummary summary;
    assert_int_not_equal(build(&summary), STATUS_OK);
    assert_int_equal(summary.without_caption, 7);
    assert_message("7 of 8 pictures have no caption: p0.png, p1.png, p2.png, p4.png, p5.png and 2 more");
    assert_message("--caption");
    assert_nothing_left();
}

static void bad_pictures_stop_or_are_left_out(void **state)
{
    (void)state;
    size_t size;
    uint8_t *jpeg = golden_bytes("jpeg-444.jpg", &size);
    write_file(folder, "1-cut.jpg", jpeg, size - 100);
    write_text(folder, "2-text.jpg", "a photo of a cat");
    write_png(folder, "3-one.png", 1, 1, 1);
    write_file(folder, "4-empty.png", "", 0);
    write_png(folder, "5-good.png", 8, 8, 1);
    DatasetBuild b = {.folder = folder, .out = out, .caption = "x"};
    assert_int_not_equal(dataset_build(&b, NULL), STATUS_OK);
    assert_message("1-cut.jpg: JPEG data ends early at byte");
    assert_message("fix or remove it, or leave it out with --skip-bad");
    assert_nothing_left();
    b.skip_bad = true;
    DatasetSummary summary;
    assert_ok(dataset_build(&b, &summary));
    assert_int_equal(summary.pictures, 1);
    assert_int_equal(summary.skipped, 4);
    Dataset *d;
    const char *names;
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_left_out(d, &names), 4);
    assert_non_null(strstr(names, "1-cut.jpg\n"));
    dataset_close(d);
    assert_ok(unlink(out));
    char *good = path_join(folder, "5-good.png");
    assert_ok(unlink(good));
    assert_int_not_equal(dataset_build(&b, NULL), STATUS_OK);
    assert_message("none of the 4 pictures can be used");
    assert_nothing_left();
    mem_free(good);
    mem_free(jpeg);
}

static void nothing_is_ignored_in_silence(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_text(folder, "A.txt", "another name");
    write_text(folder, "notes.md", "x");
    write_text(folder, "old.gif", "GIF89a");
    write_text(folder, ".hidden", "x");
    write_text(folder, "Thumbs.db", "x");
    size_t size;
    uint8_t *jpeg = golden_bytes("jpeg-444.jpg", &size);
    write_file(folder, "photo", jpeg, size); /* no ending, but a picture */
    mem_free(jpeg);
    DatasetSummary summary;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, &summary));
    assert_int_equal(summary.pictures, 2);
    assert_int_equal(summary.unused_files, 3); /* A.txt, notes.md, old.gif */
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, &summary));
    assert_int_equal(summary.unused_files, 3); /* not out.h5, which is being replaced */
}

static void odd_names_work_and_are_escaped(void **state)
{
    (void)state;
    static const char *const names[] = {"new\nline.png", "sp ace.png", "\xE7\x8C\xAB.png", "caf\xE9.png",
                                        "%s%n.png"};
    for (int i = 0; i < 5; i++)
        write_png(folder, names[i], 16, 16, i);
    write_text(folder, "new\nline.txt", "of the odd one");
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "%s"}, NULL));
    Dataset *d;
    assert_ok(dataset_open(out, &d));
    assert_int_equal(dataset_count(d), 5);
    check_entry(d, 0, "%s%n.png", "%s");
    check_entry(d, 1, "caf\\xE9.png", "%s");
    check_entry(d, 2, "new\\nline.png", "of the odd one");
    check_entry(d, 4, "\xE7\x8C\xAB.png", "%s");
    dataset_close(d);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    assert_int_equal(build(NULL), STATUS_REFUSED);
    assert_message("no pictures");
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = "/nowhere", .out = out}, NULL), STATUS_REFUSED);
    assert_message("/nowhere: there is no such folder");
    write_png(folder, "a.png", 16, 16, 1);
    assert_int_equal(dataset_build(&(DatasetBuild){.folder = folder, .out = folder, .caption = "x"}, NULL),
                     STATUS_REFUSED);
    assert_nothing_left();
}

static volatile sig_atomic_t stop;
static void stop_after_one(int done, int total, void *arg)
{
    (void)total;
    (void)arg;
    stop = done == 1;
}

static void interrupted_building_leaves_nothing(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 2);
    stop = 0;
    const DatasetBuild b = {
        .folder = folder, .out = out, .caption = "x", .progress = stop_after_one, .stop = &stop};
    assert_int_equal(dataset_build(&b, NULL), STATUS_INTERRUPTED);
    assert_nothing_left();
}

/* "cat.png.atelier-part-4711" begins as a picture does. */
static void half_written_pictures_of_others_are_none(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png.atelier-part-4711", 16, 16, 2);
    DatasetSummary summary;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, &summary));
    assert_int_equal(summary.pictures, 1);
    assert_int_equal(summary.unused_files, 0);
}

static void links_in_a_circle_end(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    char *link = path_join(folder, "loop");
    assert_ok(symlink(folder, link));
    mem_free(link);
    DatasetSummary summary;
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, &summary));
    assert_int_equal(summary.pictures, 1);
    assert_int_equal(summary.unused_files, 1);
}

static void other_files_are_told_apart(void **state)
{
    (void)state;
    Dataset *d;
    assert_int_equal(dataset_open("/nowhere.h5", &d), STATUS_REFUSED);
    assert_message("/nowhere.h5: there is no such HDF5 file");
    assert_int_equal(dataset_open(folder, &d), STATUS_REFUSED);
    write_text(folder, "out.h5", "not HDF5 at all");
    assert_int_equal(dataset_open(out, &d), STATUS_FAILED);
    assert_message("is not an HDF5 file");
    write_text(folder, "out.h5", "\x89HDF\r\n\x1a\n but no more");
    assert_int_equal(dataset_open(out, &d), STATUS_FAILED);
    assert_message("broken HDF5 file");
    assert_null(d);
}

static int errors, notes;
static char findings[2048];
static void take_finding(LintKind kind, const char *message, void *arg)
{
    (void)arg;
    *(kind == LINT_ERROR ? &errors : &notes) += 1;
    strncat(findings, message, sizeof findings - strlen(findings) - 2);
    strcat(findings, "\n");
}

static void lint(const char *path)
{
    int pictures;
    errors = notes = 0;
    findings[0] = 0;
    assert_ok(dataset_lint(&(Lint){.path = path, .report = take_finding}, &pictures));
}

static void lint_finds_all_faults_at_once(void **state)
{
    (void)state;
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 1);
    write_text(folder, "a.txt", "caf\xE9");
    write_text(folder, "c.jpg", "no picture");
    write_text(folder, "c.txt", "x");
    lint(folder);
    assert_int_equal(errors, 3);
    assert_int_equal(notes, 1);
    assert_non_null(strstr(findings, "a.txt: byte 3 is not UTF-8"));
    assert_non_null(strstr(findings, "b.png: has no caption"));
    assert_non_null(strstr(findings, "c.jpg: is not a JPEG, PNG or WebP picture"));
    assert_non_null(strstr(findings, "b.png is the same file as a.png"));
    assert_nothing_left();
}

static void lint_finds_damage_in_a_dataset(void **state)
{
    (void)state;
    char *data;
    size_t size;
    write_png(folder, "a.png", 64, 64, 1);
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = out, .caption = "x"}, NULL));
    lint(out);
    assert_int_equal(errors + notes, 0);
    assert_ok(file_read(out, 1 << 24, &data, &size));
    char *png = memmem(data, size, "\x89PNG", 4);
    png[60] ^= 1;
    write_file(folder, "out.h5", data, size);
    lint(out);
    assert_int_equal(errors, 1);
    assert_non_null(strstr(findings, "a.png: is damaged: its SHA-256"));
    mem_free(data);
}

/* The pictures behind builtin:tiny, in HDF5's format with check sums in all of its structures. */
static void the_built_in_pictures_are_whole(void **state)
{
    (void)state;
    const char *path = TEST_GOLDEN "/../../data/builtin/emoji.h5";
    char *data;
    size_t size;
    Dataset *d;
    assert_ok(file_read(path, 1 << 24, &data, &size));
    assert_true(size > 9 && data[8] >= 3); /* version of the superblock */
    mem_free(data);
    assert_ok(dataset_open(path, &d));
    assert_int_equal(dataset_count(d), 1010);
    assert_string_equal(dataset_caption(d, 0), "grinning face");
    assert_string_equal(dataset_source(d), "emoji");
    dataset_close(d);
    lint(path);
    assert_int_equal(errors, 0);
    assert_int_equal(notes, 1); /* some emoji look nearly the same */
    if (!strstr(findings, "pairs of pictures look nearly the same: "))
        fail_msg("%s", findings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(every_source_of_captions_in_its_rank),
        TEST(kohyas_folders_give_captions_and_repeats),
        TEST(the_bytes_come_back_as_they_were),
        TEST(the_order_is_that_of_whole_names),
        TEST(equal_folders_give_equal_files),
        TEST(missing_captions_are_named),
        TEST(bad_pictures_stop_or_are_left_out),
        TEST(nothing_is_ignored_in_silence),
        TEST(odd_names_work_and_are_escaped),
        TEST(wrong_requests_are_refused),
        TEST(interrupted_building_leaves_nothing),
        TEST(half_written_pictures_of_others_are_none),
        TEST(links_in_a_circle_end),
        TEST(other_files_are_told_apart),
        TEST(lint_finds_all_faults_at_once),
        TEST(lint_finds_damage_in_a_dataset),
        TEST(the_built_in_pictures_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
