/* Caches of what a model makes of a dataset's pictures and captions (dataset.h).
 *
 * In the file: /cache/KEY/NAME (count,n) f32, and beside it NAME_hash and NAME_check (count,32) u8: the hash
 * of the picture or caption that the entry was made from, and SHA-256 over that hash and the floats. An entry
 * is there if its hash is the one asked for and its check is right. So a file that a killed run left behind
 * can be gone on with: all space is taken and HDF5's own structures are flushed when a name is first written,
 * and after that entries only fill bytes in; one that was half written has no right check and is made again.
 * The attribute "closed" says that no run was: then a look at the hashes tells what is there, and the floats
 * (some GB of texts) are checked when they are read for a step.
 *
 * A cache has up to two stores: the dataset file itself, read only (written by `data build --cache`), and a
 * cache file. Open files are shared within the process, because HDF5 opens a file only once; other processes
 * are kept from writing by flock. */
#include "data/dataset/dataset.h"

#include "data/dataset/h5.h"
#include "data/dataset/layout.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MAX_SERIES 8
#define NAME_SIZE 32
#define PATH_SIZE 160 /* of a name inside the file */

/* Files ------------------------------------------------------------------------------------------------ */

/* One open file of this process. All fields are used with HDF5's lock held. */
typedef struct CacheFile CacheFile;
struct CacheFile {
    char *path;
    hid_t file;  /* -1: not there yet */
    int lock_fd; /* holds the flock; -1: none */
    bool writable;
    bool failed; /* something could not be written: never touched again (h5_close) */
    bool closed; /* its last writer came to an end */
    int users;
    CacheFile *next;
};

static CacheFile *open_files;

static Status file_shut(CacheFile *f)
{
    Status s = STATUS_OK;
    if (f->writable && !f->failed) {
        s = h5_write_attribute_int(f->file, f->path, "closed", 1);
        if (s == STATUS_OK) /* else it is left alone (h5_close) */
            s = h5_close(f->path, f->file);
    } else if (f->file >= 0 && !f->failed)
        H5Fclose(f->file);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    f->file = f->lock_fd = -1;
    f->writable = f->failed = false;
    return s;
}

/* A dataset was written whole. */
static Status file_was_closed(CacheFile *f)
{
    int closed = 0;
    bool found;
    TRY(h5_read_attribute_int(f->file, f->path, "closed", &closed, &found));
    f->closed = (found && closed == 1) || h5_exists(f->file, "/images");
    return STATUS_OK;
}

static Status file_use(const char *path, CacheFile **out)
{
    for (CacheFile *f = open_files; f; f = f->next)
        if (strcmp(f->path, path) == 0) {
            f->users++;
            *out = f;
            return STATUS_OK;
        }
    CacheFile *f = mem_calloc(1, sizeof *f);
    if (!f || !(f->path = mem_strdup(path))) {
        mem_free(f);
        return STATUS_FAILED;
    }
    f->file = f->lock_fd = -1;
    f->users = 1;
    f->next = open_files;
    *out = open_files = f;
    Status s = file_exists(path) ? h5_open(path, H5F_ACC_RDONLY, &f->file) : STATUS_OK;
    if (s == STATUS_OK && f->file >= 0 && !h5_exists(f->file, "/images") && !cache_is_sound(f->file)) {
        s = status_fail("%s: was left half made", path);
        H5Fclose(f->file);
    }
    if (s != STATUS_OK) {
        f->file = -1;
        if (file_size(path) > 0)
            log_info("%s; it is made anew", status_message());
    }
    return f->file < 0 ? STATUS_OK : file_was_closed(f);
}

static Status file_release(CacheFile *f)
{
    if (!f || --f->users)
        return STATUS_OK;
    const Status s = file_shut(f);
    CacheFile **at = &open_files;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    mem_free(f->path);
    mem_free(f);
    return s;
}

/* The file may be read by others meanwhile, not written. */
static Status file_lock(CacheFile *f)
{
    TRY(dir_make_parent(f->path));
    f->lock_fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->lock_fd < 0)
        return status_fail("%s: cannot be written: %m", f->path);
    if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return STATUS_OK; /* a file system without flock: nothing to be done */
    return status_refuse("%s: another run is writing this cache; wait for it or use another output folder",
                         f->path);
}

static Status write_failed(CacheFile *f)
{
    f->failed = true;
    return h5_fail(f->path, "cannot be written");
}

/* Opened again for writing; made if it was missing or broken when it was looked at. */
static Status file_make_writable(CacheFile *f)
{
    if (f->failed)
        return status_fail("%s: could not be written before", f->path);
    if (f->writable)
        return STATUS_OK;
    const bool sound = f->file >= 0;
    if (sound && h5_exists(f->file, "/images"))
        return status_fail("%s: is a dataset; caches of it are written to a file of their own", f->path);
    file_shut(f);
    TRY(file_lock(f));
    if (sound && h5_open(f->path, H5F_ACC_RDWR, &f->file) != STATUS_OK) {
        f->failed =
            true; /* it was read a moment ago: what is in it is not given up for an error of the disk */
        return status_in(STATUS_FAILED, "opening it again to write more");
    }
    if (!sound) {
        TRY(h5_create(f->path, true, &f->file));
        TRY(h5_write_attribute_int(f->file, f->path, "format_version", DATASET_FORMAT_VERSION));
        TRY(h5_write_attribute_text(f->file, f->path, "tool", "atelier " ATELIER_VERSION));
    }
    f->writable = true;
    f->closed = false;
    if (h5_write_attribute_int(f->file, f->path, "closed", 0) != STATUS_OK ||
        H5Fflush(f->file, H5F_SCOPE_LOCAL) < 0)
        return write_failed(f);
    return STATUS_OK;
}

/* Stores: one key in one file -------------------------------------------------------------------------- */

/* What is known of NAME in a store: hashes and checks of all entries, in memory. */
typedef struct Series {
    char name[NAME_SIZE];
    size_t n; /* floats of an entry; 0: not in the file */
    uint8_t *hash, *check;
    bool *verified; /* the check has been computed and was right */
} Series;

typedef struct Store {
    CacheFile *file;
    Series series[MAX_SERIES];
    int series_count;
} Store;

struct DatasetCache {
    char key[CACHE_KEY_SIZE];
    size_t count;
    Store own, built_in; /* file NULL: there is none */
};

static void inside(const DatasetCache *c, const char *name, const char *suffix, char out[PATH_SIZE])
{
    snprintf(out, PATH_SIZE, "/cache/%s/%s%s", c->key, name, suffix);
}

static void series_clear(Series *s)
{
    mem_free(s->hash);
    mem_free(s->check);
    mem_free(s->verified);
    s->hash = s->check = NULL;
    s->verified = NULL;
    s->n = 0;
}

/* Floats of an entry of NAME, 0 if it is not there in the shape that is wanted. */
static size_t stored_width(const DatasetCache *c, const Store *store, const char *name)
{
    char path[PATH_SIZE];
    inside(c, name, "", path);
    if (store->file->file < 0 || !h5_exists(store->file->file, path))
        return 0;
    const hid_t set = H5Dopen2(store->file->file, path, H5P_DEFAULT);
    if (set < 0)
        return 0;
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    hsize_t dims[2] = {0, 0};
    const bool fits = H5Sget_simple_extent_ndims(space) == 2 &&
                      H5Sget_simple_extent_dims(space, dims, NULL) == 2 && dims[0] == c->count &&
                      H5Tget_class(type) == H5T_FLOAT;
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(set);
    return fits ? (size_t)dims[1] : 0;
}

static Status read_hashes(const DatasetCache *c, const Store *store, const char *name, const char *suffix,
                          uint8_t **out)
{
    char path[PATH_SIZE];
    inside(c, name, suffix, path);
    hsize_t dims[2] = {c->count, SHA256_SIZE};
    return h5_read_array(store->file->file, store->file->path, path, H5T_NATIVE_UINT8, 2, dims, SIZE_MAX,
                         (void *)out);
}

/* What the store has under name; n 0 if nothing. Damage is the same as nothing. */
static Status series_find(DatasetCache *c, Store *store, const char *name, Series **out)
{
    for (int i = 0; i < store->series_count; i++)
        if (strcmp(store->series[i].name, name) == 0) {
            *out = &store->series[i];
            return STATUS_OK;
        }
    if (store->series_count == MAX_SERIES || strlen(name) >= NAME_SIZE)
        return status_fail("a cache holds at most %d names of %d letters", MAX_SERIES, NAME_SIZE - 1);
    Series *s = *out = &store->series[store->series_count];
    *s = (Series){0};
    strcpy(s->name, name);
    if (!(s->verified = mem_calloc(c->count, sizeof *s->verified)))
        return STATUS_FAILED;
    store->series_count++;
    s->n = stored_width(c, store, name);
    if (s->n && (read_hashes(c, store, name, "_hash", &s->hash) != STATUS_OK ||
                 read_hashes(c, store, name, "_check", &s->check) != STATUS_OK)) {
        log_info("%s; the entries are made anew", status_message());
        mem_free(s->hash);
        s->hash = NULL;
        s->n = 0;
    }
    return STATUS_OK;
}

/* Entry i of a (count,n) array, in or out. */
static Status transfer(const DatasetCache *c, const Store *store, const char *name, const char *suffix,
                       hid_t mem, int i, size_t n, void *in, const void *out)
{
    char path[PATH_SIZE];
    inside(c, name, suffix, path);
    const hid_t set = H5Dopen2(store->file->file, path, H5P_DEFAULT);
    if (set < 0)
        return in ? h5_fail(store->file->path, path) : write_failed(store->file);
    const hsize_t start[2] = {(hsize_t)i, 0}, count[2] = {1, n};
    const hid_t space = H5Dget_space(set), row = H5Screate_simple(2, count, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    const herr_t result = in ? H5Dread(set, mem, row, space, H5P_DEFAULT, in)
                             : H5Dwrite(set, mem, row, space, H5P_DEFAULT, out);
    Status s = STATUS_OK;
    if (result < 0)
        s = in ? h5_fail(store->file->path, path) : write_failed(store->file);
    H5Sclose(space);
    H5Sclose(row);
    if (H5Dclose(set) < 0 && s == STATUS_OK && !in)
        s = write_failed(store->file);
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
static Status check_numbers(const DatasetCache *c, const Store *store, const char *name, int i,
                            const float *values, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!isfinite(values[k]))
            return status_fail("%s: the cache /cache/%s/%s holds %s in entry %d; %s", store->file->path,
                               c->key, name, isnan(values[k]) ? "nan" : "inf", i,
                               store == &c->built_in
                                   ? "build the dataset anew (atelier data build … --cache)"
                                   : "delete the file, then it is made anew (a run: --resume auto)");
    return STATUS_OK;
}

/* look: is the entry there? Its floats are then read only if they have to be checked. */
static Status store_read(DatasetCache *c, Store *store, const char *name, int i, const uint8_t hash[32],
                         bool look, float *out, size_t n, bool *found)
{
    Series *s;
    if (!store->file)
        return STATUS_OK;
    TRY(series_find(c, store, name, &s));
    const size_t at = SHA256_SIZE * (size_t)i;
    if (s->n != n || memcmp(s->hash + at, hash, SHA256_SIZE) != 0)
        return STATUS_OK;
    if (look && (s->verified[i] || store->file->closed)) {
        *found = true;
        return STATUS_OK;
    }
    if (transfer(c, store, name, "", H5T_NATIVE_FLOAT, i, n, out, NULL) != STATUS_OK) {
        log_info("%s; the entry is made anew", status_message());
        return STATUS_OK;
    }
    if (!s->verified[i]) {
        uint8_t check[SHA256_SIZE];
        compute_check(hash, out, n, check);
        s->verified[i] = memcmp(check, s->check + at, SHA256_SIZE) == 0;
    }
    *found = s->verified[i];
    return *found ? check_numbers(c, store, name, i, out, n) : STATUS_OK;
}

/* Writing ---------------------------------------------------------------------------------------------- */

/* An array of zeros with all its space taken now. Zero hashes belong to no picture. */
static Status create_array(const DatasetCache *c, const Store *store, const char *name, const char *suffix,
                           hid_t type, size_t n)
{
    char path[PATH_SIZE];
    inside(c, name, suffix, path);
    const hid_t file = store->file->file;
    if (h5_exists(file, path))
        H5Ldelete(file, path, H5P_DEFAULT);
    const hsize_t dims[2] = {c->count, n};
    const hid_t space = H5Screate_simple(2, dims, NULL), list = h5_create_list();
    H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY);
    const hid_t set = H5Dcreate2(file, path, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    Status s = set >= 0 ? STATUS_OK : write_failed(store->file);
    if (set >= 0 && H5Dclose(set) < 0)
        s = write_failed(store->file);
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

static Status series_create(DatasetCache *c, Store *store, Series *s, size_t n)
{
    char group[PATH_SIZE];
    const char *name = s->name;
    series_clear(s);
    snprintf(group, sizeof group, "/cache/%s", c->key);
    TRY(h5_make_group(store->file->file, store->file->path, "/cache"));
    TRY(h5_make_group(store->file->file, store->file->path, group));
    TRY(create_array(c, store, name, "", H5T_IEEE_F32LE, n));
    TRY(create_array(c, store, name, "_hash", H5T_STD_U8LE, SHA256_SIZE));
    TRY(create_array(c, store, name, "_check", H5T_STD_U8LE, SHA256_SIZE));
    if (H5Fflush(store->file->file, H5F_SCOPE_LOCAL) < 0)
        return write_failed(store->file);
    s->hash = mem_calloc(c->count, SHA256_SIZE);
    s->check = mem_calloc(c->count, SHA256_SIZE);
    s->verified = mem_calloc(c->count, sizeof *s->verified);
    if (!s->hash || !s->check || !s->verified)
        return STATUS_FAILED;
    s->n = n;
    return STATUS_OK;
}

static Status store_write(DatasetCache *c, Store *store, const char *name, int i, const uint8_t hash[32],
                          const float *in, size_t n)
{
    Series *s;
    TRY(file_make_writable(store->file));
    TRY(series_find(c, store, name, &s));
    if (s->n != n)
        TRY(series_create(c, store, s, n));
    uint8_t check[SHA256_SIZE];
    compute_check(hash, in, n, check);
    TRY(transfer(c, store, name, "", H5T_NATIVE_FLOAT, i, n, NULL, in));
    TRY(transfer(c, store, name, "_hash", H5T_NATIVE_UINT8, i, SHA256_SIZE, NULL, hash));
    TRY(transfer(c, store, name, "_check", H5T_NATIVE_UINT8, i, SHA256_SIZE, NULL, check));
    const size_t at = SHA256_SIZE * (size_t)i;
    memcpy(s->hash + at, hash, SHA256_SIZE);
    memcpy(s->check + at, check, SHA256_SIZE);
    s->verified[i] = true;
    return STATUS_OK;
}

/* The public side -------------------------------------------------------------------------------------- */

static Status check_key(const char *key)
{
    const size_t n = strlen(key);
    if (n == 0 || n >= CACHE_KEY_SIZE || strspn(key, "0123456789abcdef") != n)
        return status_fail("a cache's key is 1 to %d lower-case hexadecimal digits, not \"%s\"",
                           CACHE_KEY_SIZE - 1, key);
    return STATUS_OK;
}

static Status open_stores(DatasetCache *c, const char *path, const char *dataset)
{
    if (path)
        TRY(file_use(path, &c->own.file));
    if (dataset && (!path || strcmp(path, dataset) != 0))
        TRY(file_use(dataset, &c->built_in.file));
    return STATUS_OK;
}

static Status open_cache(const char *path, const char *dataset, const char *key, int count,
                         DatasetCache **out)
{
    *out = NULL;
    TRY(check_key(key));
    if (count < 1)
        return status_fail("%s: a cache for no pictures", path ? path : dataset);
    DatasetCache *c = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    strcpy(c->key, key);
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

Status cache_open(const char *path, const char *key, int count, DatasetCache **out)
{
    return open_cache(path, NULL, key, count, out);
}

Status cache_open_for(const Dataset *d, const char *path, const char *key, DatasetCache **out)
{
    return open_cache(path, dataset_path(d), key, dataset_count(d), out);
}

static Status read_entry(DatasetCache *c, const char *name, int i, const uint8_t hash[32], bool look,
                         float *out, size_t n, bool *found)
{
    *found = false;
    if (i < 0 || (size_t)i >= c->count)
        return status_fail("a cache of %zu entries has no entry %d", c->count, i);
    h5_begin();
    Status s = store_read(c, &c->built_in, name, i, hash, look, out, n, found);
    if (s == STATUS_OK && !*found)
        s = store_read(c, &c->own, name, i, hash, look, out, n, found);
    return h5_end(s);
}

Status cache_read(DatasetCache *c, const char *name, int i, const uint8_t hash[32], float *out, size_t n,
                  bool *found)
{
    return read_entry(c, name, i, hash, false, out, n, found);
}

Status cache_has(DatasetCache *c, const char *name, int i, const uint8_t hash[32], float *scratch, size_t n,
                 bool *found)
{
    return read_entry(c, name, i, hash, true, scratch, n, found);
}

Status cache_write(DatasetCache *c, const char *name, int i, const uint8_t hash[32], const float *in,
                   size_t n)
{
    if (i < 0 || (size_t)i >= c->count || n == 0)
        return status_fail("a cache of %zu entries has no entry %d of %zu floats", c->count, i, n);
    if (!c->own.file)
        return status_fail("this cache is read only");
    h5_begin();
    return h5_end(store_write(c, &c->own, name, i, hash, in, n));
}

Status cache_settle(DatasetCache *c)
{
    CacheFile *f = c->own.file;
    if (!f || !f->writable)
        return STATUS_OK;
    h5_begin();
    Status s = file_shut(f);
    if (s == STATUS_OK)
        s = h5_open(f->path, H5F_ACC_RDONLY, &f->file);
    return h5_end(s);
}

Status cache_close(DatasetCache *c)
{
    if (!c)
        return STATUS_OK;
    h5_begin();
    const Status s = file_release(c->own.file);
    file_release(c->built_in.file);
    h5_end(s);
    for (int i = 0; i < MAX_SERIES; i++) {
        series_clear(&c->own.series[i]);
        series_clear(&c->built_in.series[i]);
    }
    mem_free(c);
    return s;
}
