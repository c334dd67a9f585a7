/* Caches: what was written is found, for the same picture and key only; damage and other runs' leftovers
 * never get in. */
#include "pictures.h"

#include "data/cache/cache_walk.h"
#include "data/dataset/dataset.h"
#include "kernels/base/log.h"

#include <sys/file.h>
#include <sys/wait.h>

#include <fcntl.h>

#define KEY "0123abcd"
#define N 100

static char folder[64], *path;
static const uint8_t hash_a[32] = {1, 2, 3}, hash_b[32] = {1, 2, 4};

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    path = path_join(folder, "run.cache.h5");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(path);
    return dir_remove(folder) != STATUS_OK;
}

static void fill(float *x, int seed)
{
    for (int i = 0; i < N; i++)
        x[i] = (float)(seed * 1000 + i) * 0.37f;
}

static void write_entry(DatasetCache *c, const char *name, int i, const uint8_t hash[32])
{
    float x[N];
    fill(x, i);
    assert_ok(cache_write(c, name, i, hash, x, N));
}

static bool finds(DatasetCache *c, const char *name, int i, const uint8_t hash[32])
{
    float x[N], expected[N];
    bool found;
    fill(expected, i);
    assert_ok(cache_read(c, name, i, hash, x, N, &found));
    if (found)
        assert_memory_equal(x, expected, sizeof x);
    return found;
}

static void entries_come_back_after_reopening(void **state)
{
    (void)state;
    DatasetCache *c;
    assert_ok(cache_open(path, KEY, 5, &c));
    assert_false(file_exists(path)); /* made at the first write */
    assert_false(finds(c, "text", 2, hash_a));
    write_entry(c, "text", 2, hash_a);
    write_entry(c, "latent_mean", 4, hash_b);
    assert_true(finds(c, "text", 2, hash_a));
    assert_ok(cache_close(c));
    for (int again = 0; again < 2; again++) {
        assert_ok(cache_open(path, KEY, 5, &c));
        assert_true(finds(c, "text", 2, hash_a));
        assert_true(finds(c, "latent_mean", 4, hash_b));
        assert_false(finds(c, "text", 4, hash_a));
        assert_ok(cache_close(c));
    }
    assert_ok(cache_open(path, KEY, 5, &c)); /* and it can be gone on with */
    write_entry(c, "text", 3, hash_b);
    assert_true(finds(c, "text", 2, hash_a));
    assert_true(finds(c, "text", 3, hash_b));
    assert_ok(cache_close(c));
}

static void another_picture_or_key_or_size_finds_nothing(void **state)
{
    (void)state;
    DatasetCache *c, *other;
    float x[2 * N] = {0};
    bool found;
    assert_ok(cache_open(path, KEY, 5, &c));
    write_entry(c, "text", 2, hash_a);
    assert_false(finds(c, "text", 2, hash_b));
    assert_ok(cache_read(c, "text", 2, hash_a, x, 2 * N, &found));
    assert_false(found);
    assert_ok(cache_open(path, "fe", 5, &other)); /* the same file twice in one process */
    assert_false(finds(other, "text", 2, hash_a));
    write_entry(other, "text", 2, hash_b);
    assert_true(finds(c, "text", 2, hash_a));
    assert_true(finds(other, "text", 2, hash_b));
    assert_ok(cache_close(other));
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, KEY, 6, &c)); /* the dataset has grown */
    assert_false(finds(c, "text", 2, hash_a));
    write_entry(c, "text", 5, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, KEY, 6, &c));
    assert_true(finds(c, "text", 5, hash_a));
    assert_false(finds(c, "text", 2, hash_a));
    assert_int_not_equal(cache_write(c, "text", 6, hash_a, x, N), STATUS_OK);
    assert_int_not_equal(cache_write(c, "text", -1, hash_a, x, N), STATUS_OK);
    assert_ok(cache_close(c));
    assert_int_not_equal(cache_open(path, "../x", 6, &c), STATUS_OK);
}

/* In the file, of the entry that fill(…, seed) made. */
static void change_a_float_of(int seed)
{
    char *data;
    size_t size;
    float x[N];
    assert_ok(file_read(path, 1 << 24, &data, &size));
    fill(x, seed);
    char *at = memmem(data, size, x, sizeof x);
    assert_non_null(at);
    at[17] ^= 4;
    write_file(folder, "run.cache.h5", data, size);
    mem_free(data);
}

static void a_damaged_entry_is_not_used(void **state)
{
    (void)state;
    DatasetCache *c;
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    write_entry(c, "text", 1, hash_b);
    assert_ok(cache_close(c));
    change_a_float_of(1);
    assert_ok(cache_open(path, KEY, 3, &c));
    assert_true(finds(c, "text", 0, hash_a));
    assert_false(finds(c, "text", 1, hash_b));
    write_entry(c, "text", 1, hash_b);
    assert_true(finds(c, "text", 1, hash_b));
    assert_ok(cache_close(c));
}

static bool looks(DatasetCache *c, const char *name, int i, const uint8_t hash[32])
{
    float scratch[N];
    bool found;
    assert_ok(cache_has(c, name, i, hash, scratch, N, &found));
    return found;
}

/* A look into a file that was closed reads hashes only: that a float has changed since then comes out when it
 * is read. In one whose writer was killed the floats are checked. */
static void a_look_is_cheap_where_it_may_be(void **state)
{
    (void)state;
    for (int killed = 0; killed < 2; killed++) {
        DatasetCache *c;
        const pid_t child = fork();
        if (child == 0) {
            if (cache_open(path, KEY, 3, &c) != STATUS_OK)
                _exit(1);
            write_entry(c, "text", 0, hash_a);
            write_entry(c, "text", 1, hash_b);
            _exit(killed || cache_close(c) == STATUS_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        change_a_float_of(1);
        assert_ok(cache_open(path, KEY, 3, &c));
        assert_true(looks(c, "text", 0, hash_a));
        assert_false(looks(c, "text", 0, hash_b));
        assert_false(looks(c, "text", 2, hash_a));
        assert_int_equal(looks(c, "text", 1, hash_b), !killed);
        assert_false(finds(c, "text", 1, hash_b));
        write_entry(c, "text", 1, hash_b);
        assert_ok(cache_close(c)); /* closed now */
        assert_ok(cache_open(path, KEY, 3, &c));
        assert_true(looks(c, "text", 1, hash_b));
        assert_true(finds(c, "text", 1, hash_b));
        assert_ok(cache_close(c));
        assert_ok(unlink(path));
    }
}

/* The file cut at any length, or not HDF5 at all: made anew, never used, never a failure. */
static void a_broken_file_is_made_anew(void **state)
{
    (void)state;
    DatasetCache *c;
    char *data;
    size_t size;
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    assert_ok(cache_close(c));
    assert_ok(file_read(path, 1 << 24, &data, &size));
    for (size_t n = 0; n < size; n += 97) {
        write_file(folder, "run.cache.h5", data, n);
        assert_ok(cache_open(path, KEY, 3, &c));
        assert_false(finds(c, "text", 0, hash_a));
        write_entry(c, "text", 0, hash_a);
        assert_true(finds(c, "text", 0, hash_a));
        assert_ok(cache_close(c));
    }
    write_text(folder, "run.cache.h5", "no HDF5");
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    assert_ok(cache_close(c));
    mem_free(data);
}

/* A process that ends without closing, after three entries: they are there, and the file can be gone on with.
 */
static void overwrite_start(const char *bytes)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
}

/* An error of the disk between reading and writing must not cost what is in the file. */
static void what_was_read_is_not_given_up_when_it_cannot_be_opened_again(void **state)
{
    (void)state;
    DatasetCache *c;
    float x[N];
    assert_ok(cache_open(path, KEY, 5, &c));
    write_entry(c, "text", 2, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, KEY, 5, &c));
    assert_true(finds(c, "text", 2, hash_a));
    overwrite_start("junk");
    fill(x, 3);
    assert_int_equal(cache_write(c, "text", 3, hash_b, x, N), STATUS_FAILED);
    assert_non_null(strstr(status_message(), path));
    cache_close(c);
    overwrite_start("\x89HDF");
    assert_ok(cache_open(path, KEY, 5, &c));
    assert_true(finds(c, "text", 2, hash_a));
    assert_ok(cache_close(c));
}

static void a_killed_run_loses_nothing_it_had_written(void **state)
{
    (void)state;
    DatasetCache *c;
    const pid_t child = fork();
    if (child == 0) {
        if (cache_open(path, KEY, 9, &c) != STATUS_OK)
            _exit(1);
        for (int i = 0; i < 3; i++)
            write_entry(c, "text", i, hash_a);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(cache_open(path, KEY, 9, &c));
    for (int i = 0; i < 3; i++)
        assert_true(finds(c, "text", i, hash_a));
    assert_false(finds(c, "text", 3, hash_a));
    write_entry(c, "text", 3, hash_a);
    assert_ok(cache_close(c));
}

static void two_runs_do_not_write_one_file(void **state)
{
    (void)state;
    DatasetCache *c;
    float x[N] = {0};
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    assert_ok(cache_close(c));
    const int other = open(path, O_RDWR); /* another process's lock looks the same */
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_ok(cache_open(path, KEY, 3, &c));
    assert_true(finds(c, "text", 0, hash_a)); /* reading is free */
    assert_int_equal(cache_write(c, "text", 1, hash_a, x, N), STATUS_REFUSED);
    assert_message("another run is writing this cache");
    assert_ok(cache_close(c));
    close(other);
}

/* What `data build --cache` puts into the dataset is found by a run, whose own entries go to its own file. */
static void caches_travel_in_the_dataset(void **state)
{
    (void)state;
    char *dataset = path_join(folder, "cat.h5"), *before, *after;
    size_t n, m;
    DatasetCache *c;
    Dataset *d;
    write_png(folder, "a.png", 16, 16, 1);
    write_png(folder, "b.png", 16, 16, 2);
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = dataset, .caption = "x"}, NULL));
    assert_ok(cache_open(path, KEY, 2, &c));
    write_entry(c, "text", 1, hash_a);
    assert_ok(cache_close(c));
    assert_ok(dataset_add_caches(dataset, path));
    assert_ok(unlink(path));
    assert_ok(file_read(dataset, 1 << 24, &before, &n));
    assert_ok(dataset_open(dataset, &d));
    assert_ok(cache_open_for(d, NULL, KEY, &c)); /* reading only */
    assert_true(finds(c, "text", 1, hash_a));
    assert_int_not_equal(cache_write(c, "text", 0, hash_a, (float[N]){0}, N), STATUS_OK);
    assert_ok(cache_close(c));
    assert_ok(cache_open_for(d, path, KEY, &c));
    assert_true(finds(c, "text", 1, hash_a));
    write_entry(c, "text", 0, hash_b);
    assert_true(finds(c, "text", 0, hash_b));
    assert_ok(cache_close(c));
    dataset_close(d);
    assert_ok(file_read(dataset, 1 << 24, &after, &m));
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    assert_ok(cache_open(dataset, KEY, 2, &c)); /* a dataset is never written to as a cache */
    assert_true(finds(c, "text", 1, hash_a));
    assert_int_not_equal(cache_write(c, "text", 0, hash_a, (float[N]){0}, N), STATUS_OK);
    assert_ok(cache_close(c));
    mem_free(before);
    mem_free(after);
    mem_free(dataset);
}

static void take_name(const char *key, const char *name, size_t count, size_t n, void *arg)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s/%s %zux%zu;", key, name, count, n);
}

static void caches_are_listed(void **state)
{
    (void)state;
    char text[256] = "";
    DatasetCache *c;
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    write_entry(c, "latent_std", 0, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_list(path, take_name, text));
    assert_string_equal(text, KEY "/latent_std 3x100;" KEY "/text 3x100;");
}

static bool take_visit(const char *key, const char *name, hid_t set, void *arg)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s/%s%s;", key ? key : "", name ? name : "",
            set < 0 ? " cannot be opened" : "");
    return true;
}

static bool stop_at_once(const char *key, const char *name, hid_t set, void *arg)
{
    (void)key;
    (void)name;
    (void)set;
    ++*(int *)arg;
    return false;
}

/* Links to nowhere are what cannot be opened; the library gives the names in order. */
static void the_walk_tells_what_cannot_be_opened(void **state)
{
    (void)state;
    char text[256] = "";
    int visits = 0;
    DatasetCache *c;
    assert_ok(cache_open(path, KEY, 3, &c));
    write_entry(c, "text", 0, hash_a);
    assert_ok(cache_close(c));
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(cache_is_sound(file));
    H5Lcreate_soft("/nowhere", file, "/cache/" KEY "/gone", H5P_DEFAULT, H5P_DEFAULT);
    assert_false(cache_is_sound(file));
    H5Lcreate_soft("/nowhere", file, "/cache/lost", H5P_DEFAULT, H5P_DEFAULT);
    assert_true(cache_walk(file, take_visit, text));
    assert_string_equal(text, KEY "/gone cannot be opened;" KEY "/text;" KEY "/text_check;" KEY
                                  "/text_hash;lost/ cannot be opened;");
    assert_false(cache_walk(file, stop_at_once, &visits));
    assert_int_equal(visits, 1);
    H5Ldelete(file, "/cache", H5P_DEFAULT);
    assert_true(cache_walk(file, stop_at_once, &visits)); /* no caches: nothing to visit */
    assert_int_equal(visits, 1);
    H5Lcreate_soft("/nowhere", file, "/cache", H5P_DEFAULT, H5P_DEFAULT);
    *text = 0;
    assert_true(cache_walk(file, take_visit, text));
    assert_string_equal(text, "/ cannot be opened;");
    assert_false(cache_is_sound(file));
    H5Fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(entries_come_back_after_reopening),
        TEST(another_picture_or_key_or_size_finds_nothing),
        TEST(a_damaged_entry_is_not_used),
        TEST(a_look_is_cheap_where_it_may_be),
        TEST(a_broken_file_is_made_anew),
        TEST(what_was_read_is_not_given_up_when_it_cannot_be_opened_again),
        TEST(a_killed_run_loses_nothing_it_had_written),
        TEST(two_runs_do_not_write_one_file),
        TEST(caches_travel_in_the_dataset),
        TEST(caches_are_listed),
        TEST(the_walk_tells_what_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
