/* What lies beside a final name: the next writer removes what a killed one left, and never what is in use. */
#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/atelier-test-aside-XXXXXX";

static char *at(const char *name)
{
    char *p = path_join(root, name);
    assert_non_null(p);
    return p;
}

static bool there(const char *name)
{
    char *p = at(name);
    const bool found = file_exists(p);
    mem_free(p);
    return found;
}

static void put(const char *name)
{
    char *p = at(name);
    assert_int_equal(file_write_atomic(p, "what was written so far", 23), STATUS_OK);
    mem_free(p);
}

static void test_names_are_told_apart(void **state)
{
    (void)state;
    assert_true(name_is_aside("set.h5.atelier-part-4711"));
    assert_true(name_is_aside("set.h5.atelier-build-1"));
    assert_true(name_is_aside("a.safetensors.atelier-hashed-2.atelier-part-2"));
    assert_false(name_is_aside("set.h5"));
    assert_false(name_is_aside("my.atelier-pictures"));
    assert_false(name_is_aside("set.h5.atelier-part-"));
    assert_false(name_is_aside("set.h5.atelier-part-12x"));
}

static void test_the_next_writer_removes_what_a_killed_one_left(void **state)
{
    (void)state;
    put("set.h5.atelier-part-4711");
    put("set.h5.atelier-build-4711/set.h5");
    put("other.h5.atelier-part-4711");
    put("set.h5.atelier-notes.txt"); /* somebody's own */
    put("set.h5");
    assert_false(there("set.h5.atelier-part-4711"));
    assert_false(there("set.h5.atelier-build-4711"));
    assert_true(there("other.h5.atelier-part-4711"));
    assert_true(there("set.h5.atelier-notes.txt"));
    aside_clean_folder(root);
    assert_false(there("other.h5.atelier-part-4711"));
    assert_true(there("set.h5.atelier-notes.txt"));
    assert_true(there("set.h5"));
}

static void test_what_is_held_stays(void **state)
{
    (void)state;
    char *file = at("set.h5.atelier-part-4712"), *folder = at("set.h5.atelier-build-4712");
    char *path = at("set.h5"), *inside = at("set.h5.atelier-build-4712/set.h5");
    int holds[2];
    assert_int_equal(aside_file(file, path, &holds[0]), STATUS_OK);
    assert_int_equal(aside_folder(folder, path, &holds[1]), STATUS_OK);
    assert_int_equal(file_write_atomic(inside, "x", 1), STATUS_OK);
    put("set.h5");
    aside_clean_folder(root);
    assert_true(file_exists(file));
    assert_true(file_exists(inside));
    close(holds[0]);
    close(holds[1]);
    aside_clean_folder(root);
    assert_false(file_exists(file));
    assert_false(file_exists(folder));
    mem_free(file);
    mem_free(folder);
    mem_free(path);
    mem_free(inside);
}

/* Of a process with the same number: on another machine, or long dead. */
static void test_what_lies_there_is_begun_anew_unless_it_is_held(void **state)
{
    (void)state;
    char *file = at("a.atelier-part-1"), *path = at("a");
    int first, second;
    put("a.atelier-part-1");
    assert_int_equal(aside_file(file, path, &first), STATUS_OK);
    assert_int_equal(file_size(file), 0);
    assert_int_equal(write(first, "kept", 4), 4);
    assert_int_not_equal(aside_file(file, path, &second), STATUS_OK);
    assert_non_null(strstr(status_message(), path));
    assert_int_equal(file_size(file), 4);
    close(first);
    mem_free(file);
    mem_free(path);
}

static void test_links_are_not_followed(void **state)
{
    (void)state;
    char *outside = at("mine"), *link = at("b.atelier-old-3");
    put("mine/picture.jpg");
    assert_int_equal(symlink(outside, link), 0);
    aside_clean_folder(root);
    assert_true(there("mine/picture.jpg"));
    mem_free(outside);
    mem_free(link);
}

static int make_root(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return dir_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_told_apart),
        cmocka_unit_test(test_the_next_writer_removes_what_a_killed_one_left),
        cmocka_unit_test(test_what_is_held_stays),
        cmocka_unit_test(test_what_lies_there_is_begun_anew_unless_it_is_held),
        cmocka_unit_test(test_links_are_not_followed),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
