/* Caches: what was written is found, for the same picture and key only; damage and other runs' leftovers
 * never get in. */
#include "pictures.h"

#include "data/cache/cache.h"
#include "data/cache/cache_walk.h"
#include "kernels/base/log.h"

#include <sys/file.h>
#include <sys/wait.h>

#include <fcntl.h>

#define KEY "0123abcd"
#define N 100

enum { TEXT, MEAN, STD };
static const CacheKind kind = {
    .what = "all",
    .key = KEY,
    .arrays = {{"text", 2, {4, 25}}, {"latent_mean", 3, {4, 5, 5}}, {"latent_std", 3, {4, 5, 5}}},
    .count = 3,
    .together = 1};

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

static void write_entry(DatasetCache *c, int array, int i, const uint8_t hash[32])
{
    float x[N];
    fill(x, i);
    assert_ok(cache_write(c, array, i, hash, x));
}

static bool finds(DatasetCache *c, int array, int i, const uint8_t hash[32])
{
    float x[N], expected[N];
    bool found;
    fill(expected, i);
    assert_ok(cache_read(c, array, i, hash, x, &found));
    if (found)
        assert_memory_equal(x, expected, sizeof x);
    return found;
}

static void entries_come_back_after_reopening(void **state)
{
    (void)state;
    DatasetCache *c;
    assert_ok(cache_open(path, &kind, 5, &c));
    assert_false(file_exists(path)); /* made at the first write */
    assert_false(finds(c, TEXT, 2, hash_a));
    write_entry(c, TEXT, 2, hash_a);
    write_entry(c, MEAN, 4, hash_b);
    assert_true(finds(c, TEXT, 2, hash_a));
    assert_ok(cache_close(c));
    for (int again = 0; again < 2; again++) {
        assert_ok(cache_open(path, &kind, 5, &c));
        assert_true(finds(c, TEXT, 2, hash_a));
        assert_true(finds(c, MEAN, 4, hash_b));
        assert_false(finds(c, TEXT, 4, hash_a));
        assert_ok(cache_close(c));
    }
    assert_ok(cache_open(path, &kind, 5, &c)); /* and it can be gone on with */
    write_entry(c, TEXT, 3, hash_b);
    assert_true(finds(c, TEXT, 2, hash_a));
    assert_true(finds(c, TEXT, 3, hash_b));
    assert_ok(cache_close(c));
}

static void another_picture_or_key_or_size_finds_nothing(void **state)
{
    (void)state;
    DatasetCache *c, *other;
    float x[N] = {0};
    CacheKind another = kind;
    strcpy(another.key, "fe");
    assert_ok(cache_open(path, &kind, 5, &c));
    write_entry(c, TEXT, 2, hash_a);
    assert_false(finds(c, TEXT, 2, hash_b));
    assert_ok(cache_open(path, &another, 5, &other)); /* the same file twice in one process */
    assert_false(finds(other, TEXT, 2, hash_a));
    write_entry(other, TEXT, 2, hash_b);
    assert_true(finds(c, TEXT, 2, hash_a));
    assert_true(finds(other, TEXT, 2, hash_b));
    assert_ok(cache_close(other));
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, &kind, 6, &c)); /* the dataset has grown */
    assert_false(finds(c, TEXT, 2, hash_a));
    write_entry(c, TEXT, 5, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, &kind, 6, &c));
    assert_true(finds(c, TEXT, 5, hash_a));
    assert_false(finds(c, TEXT, 2, hash_a));
    assert_int_not_equal(cache_write(c, TEXT, 6, hash_a, x), STATUS_OK);
    assert_int_not_equal(cache_write(c, TEXT, -1, hash_a, x), STATUS_OK);
    assert_ok(cache_close(c));
    strcpy(another.key, "../x");
    assert_int_not_equal(cache_open(path, &another, 6, &c), STATUS_OK);
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
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
    write_entry(c, TEXT, 1, hash_b);
    assert_ok(cache_close(c));
    change_a_float_of(1);
    assert_ok(cache_open(path, &kind, 3, &c));
    assert_true(finds(c, TEXT, 0, hash_a));
    assert_false(finds(c, TEXT, 1, hash_b));
    write_entry(c, TEXT, 1, hash_b);
    assert_true(finds(c, TEXT, 1, hash_b));
    assert_ok(cache_close(c));
}

static bool looks(DatasetCache *c, int array, int i, const uint8_t hash[32])
{
    float scratch[N];
    bool found;
    assert_ok(cache_has(c, array, i, hash, scratch, &found));
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
            if (cache_open(path, &kind, 3, &c) != STATUS_OK)
                _exit(1);
            write_entry(c, TEXT, 0, hash_a);
            write_entry(c, TEXT, 1, hash_b);
            _exit(killed || cache_close(c) == STATUS_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        change_a_float_of(1);
        assert_ok(cache_open(path, &kind, 3, &c));
        assert_true(looks(c, TEXT, 0, hash_a));
        assert_false(looks(c, TEXT, 0, hash_b));
        assert_false(looks(c, TEXT, 2, hash_a));
        assert_int_equal(looks(c, TEXT, 1, hash_b), !killed);
        assert_false(finds(c, TEXT, 1, hash_b));
        write_entry(c, TEXT, 1, hash_b);
        assert_ok(cache_close(c)); /* closed now */
        assert_ok(cache_open(path, &kind, 3, &c));
        assert_true(looks(c, TEXT, 1, hash_b));
        assert_true(finds(c, TEXT, 1, hash_b));
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
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
    assert_ok(cache_close(c));
    assert_ok(file_read(path, 1 << 24, &data, &size));
    for (size_t n = 0; n < size; n += 97) {
        write_file(folder, "run.cache.h5", data, n);
        assert_ok(cache_open(path, &kind, 3, &c));
        assert_false(finds(c, TEXT, 0, hash_a));
        write_entry(c, TEXT, 0, hash_a);
        assert_true(finds(c, TEXT, 0, hash_a));
        assert_ok(cache_close(c));
    }
    write_text(folder, "run.cache.h5", "no HDF5");
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
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
    assert_ok(cache_open(path, &kind, 5, &c));
    write_entry(c, TEXT, 2, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_open(path, &kind, 5, &c));
    assert_true(finds(c, TEXT, 2, hash_a));
    overwrite_start("junk");
    fill(x, 3);
    assert_int_equal(cache_write(c, TEXT, 3, hash_b, x), STATUS_FAILED);
    assert_non_null(strstr(status_message(), path));
    cache_close(c);
    overwrite_start("\x89HDF");
    assert_ok(cache_open(path, &kind, 5, &c));
    assert_true(finds(c, TEXT, 2, hash_a));
    assert_ok(cache_close(c));
}

static void a_killed_run_loses_nothing_it_had_written(void **state)
{
    (void)state;
    DatasetCache *c;
    const pid_t child = fork();
    if (child == 0) {
        if (cache_open(path, &kind, 9, &c) != STATUS_OK)
            _exit(1);
        for (int i = 0; i < 3; i++)
            write_entry(c, TEXT, i, hash_a);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(cache_open(path, &kind, 9, &c));
    for (int i = 0; i < 3; i++)
        assert_true(finds(c, TEXT, i, hash_a));
    assert_false(finds(c, TEXT, 3, hash_a));
    write_entry(c, TEXT, 3, hash_a);
    assert_ok(cache_close(c));
}

static void two_runs_do_not_write_one_file(void **state)
{
    (void)state;
    DatasetCache *c;
    float x[N] = {0};
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
    assert_ok(cache_close(c));
    const int other = open(path, O_RDWR); /* another process's lock looks the same */
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_ok(cache_open(path, &kind, 3, &c));
    assert_true(finds(c, TEXT, 0, hash_a)); /* reading is free */
    assert_int_equal(cache_write(c, TEXT, 1, hash_a, x), STATUS_REFUSED);
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
    assert_ok(cache_open(path, &kind, 2, &c));
    write_entry(c, TEXT, 1, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_copy_into(dataset, path));
    assert_ok(unlink(path));
    assert_ok(file_read(dataset, 1 << 24, &before, &n));
    assert_ok(dataset_open(dataset, &d));
    assert_ok(cache_open_for(d, NULL, &kind, dataset_count(d), &c)); /* reading only */
    assert_true(finds(c, TEXT, 1, hash_a));
    assert_int_not_equal(cache_write(c, TEXT, 0, hash_a, (float[N]){0}), STATUS_OK);
    assert_ok(cache_close(c));
    assert_ok(cache_open_for(d, path, &kind, dataset_count(d), &c));
    assert_true(finds(c, TEXT, 1, hash_a));
    write_entry(c, TEXT, 0, hash_b);
    assert_true(finds(c, TEXT, 0, hash_b));
    assert_ok(cache_close(c));
    dataset_close(d);
    assert_ok(file_read(dataset, 1 << 24, &after, &m));
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    assert_ok(cache_open(dataset, &kind, 2, &c)); /* a dataset is never written to as a cache */
    assert_true(finds(c, TEXT, 1, hash_a));
    assert_int_not_equal(cache_write(c, TEXT, 0, hash_a, (float[N]){0}), STATUS_OK);
    assert_ok(cache_close(c));
    mem_free(before);
    mem_free(after);
    mem_free(dataset);
}

static void take_name(const char *key, const CacheArray *a, size_t count, void *arg)
{
    char *text = arg;
    sprintf(text + strlen(text), "%s/%s %zu", key, a->name, count);
    for (int i = 0; i < a->rank; i++)
        sprintf(text + strlen(text), "x%d", a->dims[i]);
    strcat(text, ";");
}

static void caches_are_listed(void **state)
{
    (void)state;
    char text[256] = "";
    DatasetCache *c;
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
    write_entry(c, STD, 0, hash_a);
    assert_ok(cache_close(c));
    assert_ok(cache_list(path, take_name, text));
    assert_string_equal(text, KEY "/latent_std 3x4x5x5;" KEY "/text 3x4x25;");
}

/* An array as an older program, or a foreign one, left it; its hashes and checks are as they should be. */
static void lay_array_out_as(int rank, const hsize_t *dims)
{
    float x[3 * N];
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t set = H5Dopen2(file, "/cache/" KEY "/latent_mean", H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set);
    H5Ldelete(file, "/cache/" KEY "/latent_mean", H5P_DEFAULT);
    const hid_t space = H5Screate_simple(rank, dims, NULL);
    set = H5Dcreate2(file, "/cache/" KEY "/latent_mean", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT,
                     H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
}

/* The same floats in another order, or flat as earlier versions had them, are made anew. */
static void only_the_promised_shape_is_read(void **state)
{
    (void)state;
    static const hsize_t flat[] = {3, N}, turned[] = {3, 5, 5, 4}, split[] = {3, 4, 25};
    static const struct {
        int rank;
        const hsize_t *dims;
    } cases[] = {{2, flat}, {4, turned}, {3, split}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        DatasetCache *c;
        assert_ok(cache_open(path, &kind, 3, &c));
        write_entry(c, MEAN, 1, hash_a);
        assert_ok(cache_close(c));
        lay_array_out_as(cases[k].rank, cases[k].dims);
        assert_ok(cache_open(path, &kind, 3, &c));
        assert_false(finds(c, MEAN, 1, hash_a));
        write_entry(c, MEAN, 2, hash_b);
        assert_true(finds(c, MEAN, 2, hash_b));
        assert_false(finds(c, MEAN, 1, hash_a));
        assert_ok(cache_close(c));
        assert_ok(unlink(path));
    }
}

/* Makes entry i of fill(…, 10 i + group), and notes that it did. */
static char made[64];
static Status encode(int i, int group, float *const values[], void *arg)
{
    sprintf(made + strlen(made), "%d%c ", i, group ? 'b' : 'a');
    if (arg && *(int *)arg == i)
        return status_fail("no picture");
    fill(values[0], 10 * i + group);
    fill(values[1], 10 * i + group + 1);
    return STATUS_OK;
}

static bool stop_after_two(const char *what, int done, int total, void *arg)
{
    assert_string_equal(what, "pairs");
    assert_int_equal(total, 3);
    return done < 2 || arg;
}

static void what_is_missing_is_made_in_order(void **state)
{
    (void)state;
    CacheKind pairs = {.what = "pairs", .key = KEY, .of = CACHE_OF_CAPTIONS, .count = 4, .together = 2};
    static const char *const names[] = {"a", "b", "a_flipped", "b_flipped"};
    float a[N], b[N], expected[N];
    float *const values[] = {a, b};
    char *dataset = path_join(folder, "cat.h5");
    DatasetCache *c;
    Dataset *d;
    bool found;
    for (int i = 0; i < 4; i++)
        pairs.arrays[i] = (CacheArray){names[i], 2, {10, 10}};
    for (int i = 0; i < 3; i++) {
        const char name[] = {(char)('a' + i), '.', 'p', 'n', 'g', 0},
                   text[] = {(char)('a' + i), '.', 't', 'x', 't', 0};
        write_png(folder, name, 16, 16, i);
        write_text(folder, text, name);
    }
    assert_ok(dataset_build(&(DatasetBuild){.folder = folder, .out = dataset}, NULL));
    assert_ok(dataset_open(dataset, &d));
    assert_ok(cache_open_for(d, path, &pairs, dataset_count(d), &c));
    CacheFill f = {.groups = 1, .encode = encode, .progress = stop_after_two};
    assert_int_equal(cache_fill(c, d, &f), STATUS_INTERRUPTED);
    assert_string_equal(made, "0a 1a ");
    f.groups = 2;
    f.progress_arg = d;
    int bad = 2;
    f.arg = &bad;
    assert_int_equal(cache_fill(c, d, &f), STATUS_FAILED);
    assert_message("cat.h5: caption of c.png: no picture");
    assert_string_equal(made, "0a 1a 0b 1b 2a ");
    f.arg = NULL;
    assert_ok(cache_fill(c, d, &f));
    assert_string_equal(made, "0a 1a 0b 1b 2a 2a 2b ");
    assert_ok(cache_fill(c, d, &f));
    assert_string_equal(made, "0a 1a 0b 1b 2a 2a 2b ");
    assert_ok(cache_get(c, d, 1, 1, 1, values, &found));
    assert_true(found);
    fill(expected, 11);
    assert_memory_equal(a, expected, sizeof a);
    fill(expected, 12);
    assert_memory_equal(b, expected, sizeof b);
    assert_ok(cache_close(c));
    dataset_close(d);
    mem_free(dataset);
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
    assert_ok(cache_open(path, &kind, 3, &c));
    write_entry(c, TEXT, 0, hash_a);
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
        TEST(only_the_promised_shape_is_read),
        TEST(what_is_missing_is_made_in_order),
        TEST(the_walk_tells_what_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
