/* Caches of what a model makes of a dataset's pictures and captions (cache.h).
 *
 * In the file: /cache/KEY/NAME (count,C,H,W) or (count,T,D) f32, and beside it NAME_hash and NAME_check
 * (count,32) u8: the hash of the picture or caption that the entry was made from, and SHA-256 over that hash
 * and the floats. An entry is there if its hash is the one asked for and its check is right. So a file that a
 * killed run left behind can be gone on with: all space is taken and HDF5's own structures are flushed when a
 * name is first written, and after that entries only fill bytes in; one that was half written has no right
 * check and is made again. Where no run was killed (cache_file.h, "closed") a look at the hashes tells what
 * is there, and the floats (some GB of texts) are checked when they are read for a step.
 *
 * A cache has up to two stores: the dataset file itself, read only (written by `data build --cache`), and a
 * cache file. */
#include "cache.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"
#include "cache_file.h"
#include "cache_walk.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 32
#define PATH_SIZE 160 /* of a name inside the file */

/* Stores: one key in one file -------------------------------------------------------------------------- */

/* What is known of an array in a store: hashes and checks of all entries, in memory. */
typedef struct Series {
    bool known, there; /* it has been looked for; it was found, in its shape */
    uint8_t *hash, *check;
    bool *verified; /* the check has been computed and was right */
} Series;

typedef struct Store {
    CacheFile *file;
    Series series[CACHE_MAX_ARRAYS];
} Store;

struct DatasetCache {
    CacheKind kind; /* the names are borrowed */
    size_t count;
    Store own, built_in; /* file NULL: there is none */
};

size_t cache_floats(const CacheArray *a)
{
    size_t n = 1;
    for (int i = 0; i < a->rank; i++)
        n *= (size_t)a->dims[i];
    return n;
}

static void inside(const DatasetCache *c, int array, const char *suffix, char out[PATH_SIZE])
{
    snprintf(out, PATH_SIZE, "/cache/%s/%s%s", c->kind.key, c->kind.arrays[array].name, suffix);
}

static void series_clear(Series *s)
{
    mem_free(s->hash);
    mem_free(s->check);
    mem_free(s->verified);
    *s = (Series){0};
}

static CacheRows rows_of(const DatasetCache *c, int array)
{
    const CacheArray *a = &c->kind.arrays[array];
    CacheRows r = {.rank = 1 + a->rank, .dims = {c->count}, .width = cache_floats(a)};
    for (int i = 0; i < a->rank; i++)
        r.dims[1 + i] = (hsize_t)a->dims[i];
    return r;
}

/* An array of another shape is not there. */
static bool is_there(const DatasetCache *c, const Store *store, int array)
{
    const CacheRows wanted = rows_of(c, array);
    CacheRows found;
    char path[PATH_SIZE];
    inside(c, array, "", path);
    if (store->file->file < 0 || !h5_exists(store->file->file, path))
        return false;
    const hid_t set = H5Dopen2(store->file->file, path, H5P_DEFAULT);
    if (set < 0)
        return false;
    const hid_t type = H5Dget_type(set);
    bool ok = cache_rows(set, &found) && found.rank == wanted.rank && H5Tget_class(type) == H5T_FLOAT;
    for (int i = 0; ok && i < wanted.rank; i++)
        ok = found.dims[i] == wanted.dims[i];
    H5Tclose(type);
    H5Dclose(set);
    return ok;
}

static Status read_hashes(const DatasetCache *c, const Store *store, int array, const char *suffix,
                          uint8_t **out)
{
    char path[PATH_SIZE];
    inside(c, array, suffix, path);
    hsize_t dims[2] = {c->count, SHA256_SIZE};
    return h5_read_array(store->file->file, store->file->path, path, H5T_NATIVE_UINT8, 2, dims, SIZE_MAX,
                         (void *)out);
}

/* What the store has of an array. Damage is the same as nothing. */
static Status series_find(const DatasetCache *c, Store *store, int array, Series **out)
{
    Series *s = *out = &store->series[array];
    if (s->known)
        return STATUS_OK;
    if (!(s->verified = mem_calloc(c->count, sizeof *s->verified)))
        return STATUS_FAILED;
    s->known = true;
    s->there = is_there(c, store, array);
    if (s->there && (read_hashes(c, store, array, "_hash", &s->hash) != STATUS_OK ||
                     read_hashes(c, store, array, "_check", &s->check) != STATUS_OK)) {
        log_info("%s; the entries are made anew", status_message());
        s->there = false;
    }
    return STATUS_OK;
}

/* Entry i of an array, in or out. */
static Status transfer(const DatasetCache *c, const Store *store, int array, const char *suffix,
                       const CacheRows *rows, hid_t mem, int i, void *in, const void *out)
{
    char path[PATH_SIZE];
    inside(c, array, suffix, path);
    const hid_t set = H5Dopen2(store->file->file, path, H5P_DEFAULT);
    if (set < 0)
        return in ? h5_fail(store->file->path, path) : cache_file_failed(store->file);
    Status s = STATUS_OK;
    if (!cache_move_rows(set, rows, mem, (hsize_t)i, 1, in, out))
        s = in ? h5_fail(store->file->path, path) : cache_file_failed(store->file);
    if (H5Dclose(set) < 0 && s == STATUS_OK && !in)
        s = cache_file_failed(store->file);
    return s;
}

static void compute_check(const uint8_t hash[SHA256_SIZE], const float *values, size_t n,
                          uint8_t out[SHA256_SIZE])
{
    Sha256 s;
    sha256_init(&s);
    sha256_update(&s, hash, SHA256_SIZE);
    sha256_update(&s, values, n * sizeof *values);
    sha256_final(&s, out);
}

/* Whoever wrote an entry has to have looked; one that is none would spoil a training step, or all of them. */
static Status check_numbers(const DatasetCache *c, const Store *store, int array, int i, const float *values,
                            size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(values[k]))
            return status_fail("%s: the cache /cache/%s/%s holds %s in entry %d; %s", store->file->path,
                               c->kind.key, c->kind.arrays[array].name, isnan(values[k]) ? "nan" : "inf", i,
                               store == &c->built_in
                                   ? "build the dataset anew (atelier data build … --cache)"
                                   : "delete the file, then it is made anew (a run: --resume auto)");
    return STATUS_OK;
}

/* look: is the entry there? Its floats are then read only if they have to be checked. */
static Status store_read(DatasetCache *c, Store *store, int array, int i, const uint8_t hash[32], bool look,
                         float *out, bool *found)
{
    const CacheRows rows = rows_of(c, array);
    const size_t at = SHA256_SIZE * (size_t)i;
    Series *s;
    if (!store->file)
        return STATUS_OK;
    TRY(series_find(c, store, array, &s));
    if (!s->there || memcmp(s->hash + at, hash, SHA256_SIZE) != 0)
        return STATUS_OK;
    if (look && (s->verified[i] || store->file->closed)) {
        *found = true;
        return STATUS_OK;
    }
    if (transfer(c, store, array, "", &rows, H5T_NATIVE_FLOAT, i, out, NULL) != STATUS_OK) {
        log_info("%s; the entry is made anew", status_message());
        return STATUS_OK;
    }
    if (!s->verified[i]) {
        uint8_t check[SHA256_SIZE];
        compute_check(hash, out, rows.width, check);
        s->verified[i] = memcmp(check, s->check + at, SHA256_SIZE) == 0;
    }
    *found = s->verified[i];
    return *found ? check_numbers(c, store, array, i, out, rows.width) : STATUS_OK;
}

/* Writing ---------------------------------------------------------------------------------------------- */

static CacheRows hash_rows(const DatasetCache *c)
{
    return (CacheRows){.rank = 2, .dims = {c->count, SHA256_SIZE}, .width = SHA256_SIZE};
}

/* An array of zeros with all its space taken now. Zero hashes belong to no picture. */
static Status create_array(const DatasetCache *c, const Store *store, int array, const char *suffix,
                           hid_t type, const CacheRows *rows)
{
    char path[PATH_SIZE];
    inside(c, array, suffix, path);
    const hid_t file = store->file->file;
    if (h5_exists(file, path))
        H5Ldelete(file, path, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(rows->rank, rows->dims, NULL), list = h5_create_list();
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    const hid_t set = H5Dcreate2(file, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    Status s = set >= 0 ? STATUS_OK : cache_file_failed(store->file);
    if (set >= 0 && H5Dclose(set) < 0)
        s = cache_file_failed(store->file);
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

static Status series_create(DatasetCache *c, Store *store, int array, Series *s)
{
    const CacheRows rows = rows_of(c, array), hashes = hash_rows(c);
    char group[PATH_SIZE];
    series_clear(s);
    snprintf(group, sizeof group, "/cache/%s", c->kind.key);
    TRY(h5_make_group(store->file->file, store->file->path, "/cache"));
    TRY(h5_make_group(store->file->file, store->file->path, group));
    TRY(create_array(c, store, array, "", H5T_IEEE_F32LE, &rows));
    TRY(create_array(c, store, array, "_hash", H5T_STD_U8LE, &hashes));
    TRY(create_array(c, store, array, "_check", H5T_STD_U8LE, &hashes));
    if (H5Fflush(store->file->file, H5F_SCOPE_LOCAL) < 0)
        return cache_file_failed(store->file);
    s->hash = mem_calloc(c->count, SHA256_SIZE);
    s->check = mem_calloc(c->count, SHA256_SIZE);
    s->verified = mem_calloc(c->count, sizeof *s->verified);
    if (!s->hash || !s->check || !s->verified)
        return STATUS_FAILED;
    s->known = s->there = true;
    return STATUS_OK;
}

static Status store_write(DatasetCache *c, Store *store, int array, int i, const uint8_t hash[32],
                          const float *in)
{
    const CacheRows rows = rows_of(c, array), hashes = hash_rows(c);
    Series *s;
    TRY(cache_file_make_writable(store->file));
    TRY(series_find(c, store, array, &s));
    if (!s->there)
        TRY(series_create(c, store, array, s));
    uint8_t check[SHA256_SIZE];
    compute_check(hash, in, rows.width, check);
    TRY(transfer(c, store, array, "", &rows, H5T_NATIVE_FLOAT, i, NULL, in));
    TRY(transfer(c, store, array, "_hash", &hashes, H5T_NATIVE_UINT8, i, NULL, hash));
    TRY(transfer(c, store, array, "_check", &hashes, H5T_NATIVE_UINT8, i, NULL, check));
    const size_t at = SHA256_SIZE * (size_t)i;
    memcpy(s->hash + at, hash, SHA256_SIZE);
    memcpy(s->check + at, check, SHA256_SIZE);
    s->verified[i] = true;
    return STATUS_OK;
}

/* The public side -------------------------------------------------------------------------------------- */

static Status check_kind(const CacheKind *k)
{
    const size_t n = strlen(k->key);
    if (n == 0 || n >= CACHE_KEY_SIZE || strspn(k->key, "0123456789abcdef") != n)
        return status_fail("a cache's key is 1 to %d lower-case hexadecimal digits, not \"%s\"",
                           CACHE_KEY_SIZE - 1, k->key);
    bool fits =
        k->count >= 1 && k->count <= CACHE_MAX_ARRAYS && k->together >= 1 && k->count % k->together == 0;
    for (int i = 0; fits && i < k->count; i++) {
        const CacheArray *a = &k->arrays[i];
        fits =
            strlen(a->name) < NAME_SIZE && a->rank >= 1 && a->rank <= CACHE_MAX_RANK && cache_floats(a) > 0;
    }
    return fits ? STATUS_OK : status_fail("the cache %s has arrays of an impossible shape or number", k->key);
}

static Status open_stores(DatasetCache *c, const char *path, const char *dataset)
{
    if (path)
        TRY(cache_file_use(path, &c->own.file));
    if (dataset && (!path || strcmp(path, dataset) != 0))
        TRY(cache_file_use(dataset, &c->built_in.file));
    return STATUS_OK;
}

static Status open_cache(const char *path, const char *dataset, const CacheKind *kind, int count,
                         DatasetCache **out)
{
    *out = NULL;
    TRY(check_kind(kind));
    if (count < 1)
        return status_fail("%s: a cache for no pictures", path ? path : dataset);
    DatasetCache *c = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    c->kind = *kind;
    c->count = (size_t)count;
    h5_begin();
    const Status s = h5_end(open_stores(c, path, dataset));
    if (s != STATUS_OK) {
        cache_close(c);
        return s;
    }
    *out = c;
    return STATUS_OK;
}

Status cache_open(const char *path, const CacheKind *kind, int count, DatasetCache **out)
{
    return open_cache(path, NULL, kind, count, out);
}

Status cache_open_for(const Dataset *d, const char *path, const CacheKind *kind, int count,
                      DatasetCache **out)
{
    return open_cache(path, dataset_path(d), kind, count, out);
}

int cache_count(const DatasetCache *c)
{
    return (int)c->count;
}

const CacheKind *cache_kind(const DatasetCache *c)
{
    return &c->kind;
}

static Status check_entry(const DatasetCache *c, int array, int i)
{
    if (array >= 0 && array < c->kind.count && i >= 0 && (size_t)i < c->count)
        return STATUS_OK;
    return status_fail("a cache of %d arrays of %zu entries has no entry %d of array %d", c->kind.count,
                       c->count, i, array);
}

static Status read_entry(DatasetCache *c, int array, int i, const uint8_t hash[32], bool look, float *out,
                         bool *found)
{
    *found = false;
    TRY(check_entry(c, array, i));
    h5_begin();
    Status s = store_read(c, &c->built_in, array, i, hash, look, out, found);
    if (s == STATUS_OK && !*found)
        s = store_read(c, &c->own, array, i, hash, look, out, found);
    return h5_end(s);
}

Status cache_read(DatasetCache *c, int array, int i, const uint8_t hash[32], float *out, bool *found)
{
    return read_entry(c, array, i, hash, false, out, found);
}

Status cache_has(DatasetCache *c, int array, int i, const uint8_t hash[32], float *scratch, bool *found)
{
    return read_entry(c, array, i, hash, true, scratch, found);
}

Status cache_write(DatasetCache *c, int array, int i, const uint8_t hash[32], const float *in)
{
    TRY(check_entry(c, array, i));
    if (!c->own.file)
        return status_fail("this cache is read only");
    h5_begin();
    return h5_end(store_write(c, &c->own, array, i, hash, in));
}

Status cache_settle(DatasetCache *c)
{
    if (!c->own.file)
        return STATUS_OK;
    h5_begin();
    return h5_end(cache_file_settle(c->own.file));
}

Status cache_close(DatasetCache *c)
{
    if (!c)
        return STATUS_OK;
    h5_begin();
    const Status s = cache_file_release(c->own.file);
    cache_file_release(c->built_in.file);
    h5_end(s);
    for (int i = 0; i < CACHE_MAX_ARRAYS; i++) {
        series_clear(&c->own.series[i]);
        series_clear(&c->built_in.series[i]);
    }
    mem_free(c);
    return s;
}
