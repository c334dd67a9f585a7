/* Files: nothing half-written under a final name, and errors that name the path. */
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/atelier-test-file-XXXXXX";

static char *at(const char *name)
{
    char *p = path_join(root, name);
    assert_non_null(p);
    return p;
}

static void assert_content(const char *path, const char *text)
{
    char *data = NULL;
    size_t size = 0;
    assert_int_equal(file_read(path, 1 << 20, &data, &size), STATUS_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(data, text);
    mem_free(data);
}

static int count_in(const char *folder)
{
    char **names = NULL;
    int n = 0;
    assert_int_equal(dir_list(folder, &names, &n), STATUS_OK);
    dir_list_free(names, n);
    return n;
}

static void test_written_file_is_read_back_whole(void **state)
{
    (void)state;
    char *p = at("deep/er/a.txt"); /* parents are made */
    assert_int_equal(file_write_atomic(p, "hello", 5), STATUS_OK);
    assert_content(p, "hello");
    assert_int_equal(file_size(p), 5);
    assert_int_equal(file_write_atomic(p, "", 0), STATUS_OK); /* replaces */
    assert_content(p, "");
    mem_free(p);
    p = at("deep/er");
    assert_int_equal(count_in(p), 1); /* no temporary is left */
    assert_true(file_is_dir(p));
    mem_free(p);
}

static void test_large_file_is_read_over_buffer_growth(void **state)
{
    (void)state;
    char *p = at("large");
    const size_t n = 100003;
    char *data = mem_alloc(n), *back = NULL;
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 31 >> 3);
    assert_int_equal(file_write_atomic(p, data, n), STATUS_OK);
    size_t size = 0;
    assert_int_equal(file_read(p, n, &back, &size), STATUS_OK);
    assert_int_equal(size, n);
    assert_memory_equal(back, data, n);
    mem_free(back);
    assert_int_equal(file_read(p, n - 1, &back, &size), STATUS_REFUSED);
    assert_null(back);
    assert_non_null(strstr(status_message(), p));
    mem_free(data);
    mem_free(p);
}

static void test_aborted_file_leaves_the_old_one(void **state)
{
    (void)state;
    char *p = at("kept/a.txt"), *folder = at("kept");
    assert_int_equal(file_write_atomic(p, "old", 3), STATUS_OK);
    AtomicFile *f = NULL;
    assert_int_equal(atomic_open(p, &f), STATUS_OK);
    assert_int_equal(atomic_write(f, "new and longer", 14), STATUS_OK);
    assert_int_equal(count_in(folder), 2);
    assert_content(p, "old");
    atomic_abort(f);
    assert_content(p, "old");
    assert_int_equal(count_in(folder), 1);
    atomic_abort(NULL);
    mem_free(p);
    mem_free(folder);
}

static void test_full_disk_is_reported_and_leaves_the_old_file(void **state)
{
    (void)state;
    if (!file_exists("/dev/full"))
        skip();
    /* Writing through a link to /dev/full fails as a full disk does, at the latest in commit. */
    char *p = at("full/a.txt"), *folder = at("full");
    assert_int_equal(file_write_atomic(p, "old", 3), STATUS_OK);
    char *part = path_aside(p, "part");
    assert_int_equal(symlink("/dev/full", part), 0);
    assert_int_not_equal(file_write_atomic(p, "new", 3), STATUS_OK);
    assert_non_null(strstr(status_message(), p));
    assert_content(p, "old");
    assert_int_equal(count_in(folder), 1);
    mem_free(part);
    mem_free(p);
    mem_free(folder);
}

static void test_missing_file_names_its_path(void **state)
{
    (void)state;
    char *data = NULL, *p = at("missing");
    size_t size = 0;
    assert_int_equal(file_read(p, 10, &data, &size), STATUS_REFUSED);
    assert_non_null(strstr(status_message(), "missing"));
    assert_non_null(strstr(status_message(), "there is no such file"));
    assert_int_equal(file_size(p), -1);
    assert_false(file_exists(p));
    assert_int_equal(file_read(root, 10, &data, &size), STATUS_REFUSED); /* a folder */
    assert_int_equal(file_write_atomic(root, "x", 1), STATUS_REFUSED);
    assert_int_equal(file_write_atomic("", "x", 1), STATUS_REFUSED);
    mem_free(p);
    p = at("file-as-folder");
    char *below = at("file-as-folder/b");
    assert_int_equal(file_write_atomic(p, "x", 1), STATUS_OK);
    assert_int_not_equal(file_write_atomic(below, "x", 1), STATUS_OK);
    mem_free(below);
    mem_free(p);
}

static void test_names_are_listed_in_byte_order(void **state)
{
    (void)state;
    static const char *const made[] = {"list/b", "list/\xc3\xa4", "list/B", "list/10", "list/9"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char *p = at(made[i]);
        assert_int_equal(file_write_atomic(p, "", 0), STATUS_OK);
        mem_free(p);
    }
    char *folder = at("list"), **names = NULL;
    int n = 0;
    assert_int_equal(dir_list(folder, &names, &n), STATUS_OK);
    assert_int_equal(n, 5);
    static const char *const sorted[] = {"10", "9", "B", "b", "\xc3\xa4"};
    for (int i = 0; i < n; i++)
        assert_string_equal(names[i], sorted[i]);
    dir_list_free(names, n);
    mem_free(folder);
}

static void test_removing_a_folder_does_not_follow_links(void **state)
{
    (void)state;
    char *outside = at("outside/a"), *inside = at("tree/x/y"), *tree = at("tree"), *link = at("tree/link"),
         *target = at("outside");
    assert_int_equal(file_write_atomic(outside, "1", 1), STATUS_OK);
    assert_int_equal(file_write_atomic(inside, "2", 1), STATUS_OK);
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(dir_remove(tree), STATUS_OK);
    assert_false(file_exists(tree));
    assert_content(outside, "1");
    assert_int_equal(dir_remove(tree), STATUS_REFUSED);
    mem_free(outside);
    mem_free(inside);
    mem_free(tree);
    mem_free(link);
    mem_free(target);
}

static void test_paths_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"", "b", "b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *p = path_join(cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
        mem_free(p);
    }
    assert_string_equal(path_base("a/b.txt"), "b.txt");
    assert_string_equal(path_base("b.txt"), "b.txt");
}

static int refuse_nth(size_t bytes, void *arg)
{
    (void)bytes;
    return (*(int *)arg)-- == 0;
}

static void test_every_failing_allocation_is_survived(void **state)
{
    (void)state;
    char *p = at("oom/a.txt"), *folder = at("oom");
    assert_int_equal(file_write_atomic(p, "old", 3), STATUS_OK);
    bool done = false;
    for (int i = 0; i < 100 && !done; i++) {
        int left = i;
        mem_set_hook(refuse_nth, &left);
        char *data = NULL, **names = NULL;
        size_t size = 0;
        int n = 0;
        const bool read = file_read(p, 100, &data, &size) == STATUS_OK;
        const bool list = read && dir_list(folder, &names, &n) == STATUS_OK;
        const bool write = list && file_write_atomic(p, "old", 3) == STATUS_OK;
        mem_set_hook(NULL, NULL);
        dir_list_free(names, n);
        mem_free(data);
        done = write;
        assert_content(p, "old");
        assert_int_equal(count_in(folder), 1);
    }
    assert_true(done);
    mem_free(p);
    mem_free(folder);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return dir_remove(root) == STATUS_OK ? 0 : -1;
}

/* So that a file is not taken for a damaged one. */
static void test_too_many_open_files_are_not_the_files_fault(void **state)
{
    (void)state;
    int taken[4096], count = 0;
    struct rlimit before, few;
    char *p = at("b.txt"), *data;
    size_t size;
    assert_int_equal(file_write_atomic(p, "hello", 5), STATUS_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (count < 4096 && (taken[count] = dup(0)) >= 0)
        count++;
    const Status s = file_read(p, 100, &data, &size);
    for (int i = 0; i < count; i++)
        close(taken[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(s, STATUS_FAILED);
    assert_true(status_is_memory());
    assert_non_null(strstr(status_message(), "too many files are open; ulimit -n"));
    assert_content(p, "hello");
    mem_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_many_open_files_are_not_the_files_fault),
        cmocka_unit_test(test_written_file_is_read_back_whole),
        cmocka_unit_test(test_large_file_is_read_over_buffer_growth),
        cmocka_unit_test(test_aborted_file_leaves_the_old_one),
        cmocka_unit_test(test_full_disk_is_reported_and_leaves_the_old_file),
        cmocka_unit_test(test_missing_file_names_its_path),
        cmocka_unit_test(test_names_are_listed_in_byte_order),
        cmocka_unit_test(test_removing_a_folder_does_not_follow_links),
        cmocka_unit_test(test_paths_join),
        cmocka_unit_test(test_every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
