/* The cache file: what is added is found by every process, nothing else is, and damage is found out. */
#include "pictures.h"

#include "data/cache/cache.h"
#include "kernels/base/log.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define N 24 /* floats of an entry */

static char folder[64], *path;
static const CacheLabel LABEL = {CACHE_LATENTS, {2, 3, 2, 2}};

static int set_up(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    temporary_folder(folder);
    path = path_join(folder, "cat.cache");
    return path ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(path);
    return dir_remove(folder) != STATUS_OK;
}

static void key_of(int i, CacheKey key)
{
    sha256(&i, sizeof i, key);
}

static void fill(int i, float *values)
{
    for (int k = 0; k < N; k++)
        values[k] = (float)(i * 100 + k);
}

static Cache *open_cache(void)
{
    Cache *c;
    assert_ok(cache_open(path, NULL, &c));
    return c;
}

static Status add(Cache *c, int i)
{
    CacheKey key;
    float values[N];
    key_of(i, key);
    fill(i, values);
    return cache_add(c, key, &LABEL, values, N);
}

static bool finds(Cache *c, int i)
{
    CacheKey key;
    float values[N], expected[N];
    bool found;
    key_of(i, key);
    fill(i, expected);
    assert_ok(cache_read(c, key, values, N, &found));
    if (found)
        assert_memory_equal(values, expected, sizeof values);
    return found;
}

static void what_is_added_is_found(void **state)
{
    (void)state;
    Cache *c = open_cache();
    assert_false(finds(c, 1));
    assert_false(file_exists(path)); /* looking makes nothing */
    assert_string_equal(cache_path(c), path);
    assert_ok(add(c, 1));
    assert_ok(add(c, 2));
    assert_true(finds(c, 1) && finds(c, 2) && !finds(c, 3));
    CacheKey key;
    key_of(1, key);
    assert_true(cache_has(c, key, N) && !cache_has(c, key, N + 1));
    cache_close(c);
    c = open_cache();
    assert_true(finds(c, 1) && finds(c, 2) && !finds(c, 3));
    const size_t size = file_size(path);
    assert_ok(add(c, 1)); /* a second time: nothing is written */
    assert_int_equal(file_size(path), size);
    cache_close(c);
}

/* Of the size no more is kept in memory than that of what this program writes. */
static void a_record_beyond_all_sizes_is_not_taken(void **state)
{
    (void)state;
    enum { SLOT = 64 + 64, BYTES = SLOT + 72, CHECKED = 112 }; /* docs/cache-file.md */
    const uint64_t sizes[] = {((uint64_t)1 << 31) + N * sizeof(float), N * sizeof(float)};
    CacheKey key;
    Cache *c = open_cache();
    key_of(1, key);
    assert_int_equal(cache_add(c, key, &LABEL, NULL, (size_t)1 << 29), STATUS_FAILED);
    assert_non_null(strstr(status_message(), "2 GB is the most"));
    assert_ok(add(c, 1));
    cache_close(c);
    for (int i = 0; i < 2; i++) { /* 2 GB more than it was, with the right check sum; what it was */
        uint8_t slot[CHECKED], check[SHA256_SIZE];
        const int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, slot, sizeof slot, SLOT), sizeof slot);
        memcpy(slot + BYTES - SLOT, &sizes[i], sizeof sizes[i]);
        sha256(slot, sizeof slot, check);
        assert_int_equal(pwrite(fd, slot, sizeof slot, SLOT), sizeof slot);
        assert_int_equal(pwrite(fd, check, 16, SLOT + CHECKED), 16);
        close(fd);
        c = open_cache();
        assert_int_equal(cache_has(c, key, N), i == 1);
        assert_int_equal(finds(c, 1), i == 1);
        cache_close(c);
    }
}

/* More than a block of the index holds. */
static void many_are_found(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    Cache *c = open_cache();
    for (int i = 0; i < MANY; i++)
        assert_ok(add(c, i));
    cache_close(c);
    c = open_cache();
    for (int i = 0; i < MANY; i++)
        assert_true(finds(c, i));
    assert_false(finds(c, MANY));
    cache_close(c);
}

/* The disk is full just when a block of the index has been begun: what is added once there is room again is
 * found.
 */
static void a_full_disk_between_block_and_values(void **state)
{
    (void)state;
    enum { SLOTS = 512, BLOCK = 64 + SLOTS * 128 };
    struct rlimit before, limit;
    Cache *c = open_cache();
    for (int i = 0; i < SLOTS; i++)
        assert_ok(add(c, i));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)(file_size(path) + 63) / 64 * 64 + BLOCK + 4;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(add(c, SLOTS), STATUS_FAILED);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    for (int i = SLOTS; i < SLOTS + 2; i++)
        assert_ok(add(c, i));
    cache_close(c);
    c = open_cache();
    for (int i = 0; i < SLOTS + 2; i++)
        assert_true(finds(c, i));
    cache_close(c);
}

/* Several processes add to one file; who has it open sees what the others have added once it looks again. */
static void one_writes_and_many_read(void **state)
{
    (void)state;
    enum { PROCESSES = 3, EACH = 400 };
    Cache *c = open_cache();
    for (int p = 0; p < PROCESSES; p++)
        if (fork() == 0) {
            Cache *own;
            bool good = cache_open(path, NULL, &own) == STATUS_OK;
            for (int i = 0; i < EACH && good; i++)
                good = add(own, i * PROCESSES + p) == STATUS_OK && add(own, i) == STATUS_OK;
            _exit(!good);
        }
    for (int p = 0, status; p < PROCESSES; p++) {
        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_false(finds(c, 7));
    assert_ok(cache_refresh(c));
    for (int i = 0; i < PROCESSES * EACH; i++)
        assert_true(finds(c, i));
    cache_close(c);
}

static void count_label(const CacheLabel *label, int64_t count, void *arg)
{
    assert_memory_equal(label, &LABEL, sizeof LABEL);
    *(int64_t *)arg = count;
}

static void records_are_listed(void **state)
{
    (void)state;
    int64_t count = 0;
    Cache *c = open_cache();
    for (int i = 0; i < 5; i++)
        assert_ok(add(c, i));
    assert_ok(cache_list(c, count_label, &count));
    assert_int_equal(count, 5);
    cache_close(c);
}

static void set_byte(size_t at, uint8_t flip)
{
    char *bytes;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    assert_true(at < size);
    bytes[at] = (char)(bytes[at] ^ flip);
    write_file(folder, "cat.cache", (uint8_t *)bytes, size);
    mem_free(bytes);
}

/* Whatever byte is damaged: no wrong value is ever read, and what is lost can be added again. */
static void damage_is_found_out_and_made_again(void **state)
{
    (void)state;
    Cache *c = open_cache();
    for (int i = 0; i < 3; i++)
        assert_ok(add(c, i));
    cache_close(c);
    const size_t size = file_size(path), index = 64 + 64 + 3 * 128;
    for (size_t at = 16; at < size; at += at < index || at + 400 > size ? 1 : 997) {
        set_byte(at, 0x20);
        assert_ok(cache_open(path, NULL, &c));
        int there = 0;
        for (int i = 0; i < 3; i++)
            there += finds(c, i); /* compares the values */
        if (at >= 128 && at < index)
            assert_true(there <= 2 && there >= (int)(at - 128) / 128);
        for (int i = 0; i < 3; i++)
            assert_ok(add(c, i));
        for (int i = 0; i < 3; i++)
            assert_true(finds(c, i));
        cache_close(c);
        assert_ok(cache_open(path, NULL, &c));
        for (int i = 0; i < 3; i++)
            assert_true(finds(c, i));
        cache_close(c);
        assert_int_equal(remove(path), 0);
        c = open_cache();
        for (int i = 0; i < 3; i++)
            assert_ok(add(c, i));
        cache_close(c);
    }
}

/* A process that was killed leaves the file cut anywhere: what is whole is used, and more is added. */
static void a_file_that_ends_early_is_gone_on_with(void **state)
{
    (void)state;
    Cache *c = open_cache();
    for (int i = 0; i < 3; i++)
        assert_ok(add(c, i));
    cache_close(c);
    char *bytes;
    size_t size;
    assert_ok(file_read(path, 1 << 24, &bytes, &size));
    for (size_t cut = 0; cut < size; cut += cut < 64 || cut > size - 400 ? 1 : 1009) {
        write_file(folder, "cat.cache", (uint8_t *)bytes, cut);
        if (cut > 0 && cut < 64) { /* no header: somebody's */
            assert_int_equal(cache_open(path, NULL, &c), STATUS_REFUSED);
            continue;
        }
        c = open_cache();
        for (int i = 0; i < 3; i++) {
            finds(c, i);
            assert_ok(add(c, i));
        }
        for (int i = 0; i < 3; i++)
            assert_true(finds(c, i));
        cache_close(c);
    }
    mem_free(bytes);
}

static void other_files_are_left_alone(void **state)
{
    (void)state;
    Cache *c;
    write_text(folder, "cat.cache",
               "somebody's notes about the cat, and much of them, as long as a header is");
    assert_int_equal(cache_open(path, NULL, &c), STATUS_REFUSED);
    assert_message("is there, and is no cache of Atelier's");
    remove(path);
    c = open_cache();
    assert_ok(add(c, 1));
    cache_close(c);
    set_byte(8, 6);
    assert_int_equal(cache_open(path, NULL, &c), STATUS_REFUSED);
    assert_message("of another version of Atelier");
}

/* An entry that is whole and holds NaN is no damage that is passed over: it is named. */
static void nan_is_named(void **state)
{
    (void)state;
    CacheKey key;
    float values[N];
    bool found;
    Cache *c = open_cache();
    key_of(1, key);
    fill(1, values);
    values[3] = NAN;
    assert_ok(cache_add(c, key, &LABEL, values, N));
    assert_int_equal(cache_read(c, key, values, N, &found), STATUS_FAILED);
    assert_message("cat.cache: holds nan");
    cache_close(c);
}

/* Where the first place cannot be written, records go to the second, and both are read. */
static void a_second_place_is_taken(void **state)
{
    (void)state;
    Cache *c;
    char *other = path_join(folder, "other.cache"), *nowhere = path_join(folder, "none/cat.cache");
    assert_ok(cache_open(nowhere, other, &c));
    assert_string_equal(cache_path(c), other);
    assert_ok(add(c, 1));
    assert_true(finds(c, 1));
    cache_close(c);
    assert_ok(cache_open(nowhere, NULL, &c));
    assert_null(cache_path(c));
    assert_int_not_equal(add(c, 1), STATUS_OK);
    cache_close(c);
    mem_free(other);
    mem_free(nowhere);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_added_is_found),
        TEST(a_record_beyond_all_sizes_is_not_taken),
        TEST(many_are_found),
        TEST(a_full_disk_between_block_and_values),
        TEST(one_writes_and_many_read),
        TEST(records_are_listed),
        TEST(damage_is_found_out_and_made_again),
        TEST(a_file_that_ends_early_is_gone_on_with),
        TEST(other_files_are_left_alone),
        TEST(nan_is_named),
        TEST(a_second_place_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
