/* HDF5 behind one lock, with errors as Status (h5.h). */
#include "h5.h"

#include "../kernels/file.h"
#include "../kernels/mem.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* H5Pset_file_locking came with 1.10.7 and 1.12.1; before it there is an environment variable. */
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
#define HAVE_FILE_LOCKING 1
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void h5_begin(void)
{
    pthread_mutex_lock(&lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* kept per thread in thread-safe builds of the library */
}

Status h5_end(Status s)
{
    pthread_mutex_unlock(&lock);
    return s;
}

/* The first entry met walking upward is the deepest, where it went wrong. */
static herr_t take_first(unsigned n, const H5E_error2_t *error, void *arg)
{
    char *text = arg;
    if (n == 0 && error->desc)
        snprintf(text, 256, "%s", error->desc);
    return 0;
}

Status h5_fail(const char *path, const char *what)
{
    char text[256] = "HDF5 gives no reason";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, text);
    return status_fail("%s: %s: %s", path, what, text);
}

/* Files -------------------------------------------------------------------------------------------------- */

static hid_t access_list(void)
{
    const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(list, H5F_CLOSE_STRONG);
#ifdef HAVE_FILE_LOCKING
    H5Pset_file_locking(list, false, true);
#else
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
#endif
    return list;
}

/* The signature stands at the start of the file, or after a user block of 512, 1024, … bytes, which nobody
 * uses. */
static Status check_signature(const char *path)
{
    if (!file_exists(path))
        return status_refuse("%s: there is no such file", path);
    if (file_is_dir(path))
        return status_refuse("%s: is a folder, an HDF5 file is needed", path);
    FILE *in = fopen(path, "rbe");
    if (!in)
        return status_refuse("%s: cannot be opened: %m", path);
    char head[8] = {0};
    const size_t n = fread(head, 1, sizeof head, in);
    fclose(in);
    if (n != sizeof head || memcmp(head, "\x89HDF\r\n\x1a\n", 8) != 0)
        return status_fail("%s: is not an HDF5 file", path);
    return STATUS_OK;
}

Status h5_open(const char *path, unsigned flags, hid_t *out)
{
    TRY(check_signature(path));
    const hid_t list = access_list();
    *out = H5Fopen(path, flags, list);
    const Status s =
        *out >= 0 ? STATUS_OK : h5_fail(path, "is a broken HDF5 file"); /* before the stack is cleared */
    H5Pclose(list);
    return s;
}

Status h5_create(const char *path, hid_t *out)
{
    const hid_t list = access_list();
    *out = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, list);
    const Status s = *out >= 0 ? STATUS_OK : h5_fail(path, "cannot be made");
    H5Pclose(list);
    return s;
}

Status h5_close(const char *path, hid_t file)
{
    const bool flushed = H5Fflush(file, H5F_SCOPE_LOCAL) >= 0;
    const Status s = flushed ? STATUS_OK : h5_fail(path, "cannot be written");
    if (H5Fclose(file) < 0 && s == STATUS_OK)
        return h5_fail(path, "cannot be written");
    return s;
}

hid_t h5_create_list(void)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(list, false);
    return list;
}

bool h5_exists(hid_t file, const char *name)
{
    char prefix[256];
    const size_t n = strlen(name);
    for (size_t i = 1; i <= n && i < sizeof prefix; i++) {
        if (name[i] != '/' && name[i] != 0)
            continue;
        memcpy(prefix, name, i);
        prefix[i] = 0;
        if (H5Lexists(file, prefix, H5P_DEFAULT) <= 0)
            return false;
    }
    return n < sizeof prefix;
}

/* Arrays ------------------------------------------------------------------------------------------------- */

static Status check_shape(hid_t set, const char *path, const char *name, H5T_class_t wanted, int rank,
                          hsize_t *dims)
{
    hsize_t found[H5S_MAX_RANK];
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    const int n = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    const H5T_class_t class = type >= 0 ? H5Tget_class(type) : H5T_NO_CLASS;
    if (n == rank)
        H5Sget_simple_extent_dims(space, found, NULL);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (class != wanted)
        return status_fail("%s: %s does not hold %s", path, name,
                           wanted == H5T_STRING  ? "strings"
                           : wanted == H5T_FLOAT ? "floating-point numbers"
                                                 : "whole numbers");
    if (n != rank)
        return status_fail("%s: %s has %d dimensions instead of %d", path, name, n, rank);
    for (int i = 0; i < rank; i++) {
        if (dims[i] && dims[i] != found[i])
            return status_fail("%s: %s has %llu entries instead of %llu", path, name,
                               (unsigned long long)found[i], (unsigned long long)dims[i]);
        dims[i] = found[i];
    }
    return STATUS_OK;
}

static Status open_set(hid_t file, const char *path, const char *name, hid_t *set)
{
    if (!h5_exists(file, name))
        return status_fail("%s: %s is missing", path, name);
    *set = H5Dopen2(file, name, H5P_DEFAULT);
    return *set >= 0 ? STATUS_OK : h5_fail(path, "is a broken HDF5 file");
}

static Status read_opened(hid_t set, const char *path, const char *name, hid_t mem, int rank, hsize_t *dims,
                          size_t limit_bytes, void **out)
{
    TRY(check_shape(set, path, name, H5Tget_class(mem), rank, dims));
    size_t bytes = H5Tget_size(mem);
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, (size_t)dims[i], &bytes) || bytes > limit_bytes)
            return status_fail("%s: %s is implausibly large", path, name);
    if (!(*out = mem_alloc(bytes)))
        return STATUS_FAILED;
    if (bytes == 0 || H5Dread(set, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) >= 0)
        return STATUS_OK;
    mem_free(*out);
    *out = NULL;
    return h5_fail(path, name);
}

Status h5_read_array(hid_t file, const char *path, const char *name, hid_t mem, int rank, hsize_t *dims,
                     size_t limit_bytes, void **out)
{
    hid_t set = -1;
    *out = NULL;
    TRY(open_set(file, path, name, &set));
    const Status s = read_opened(set, path, name, mem, rank, dims, limit_bytes, out);
    H5Dclose(set);
    return s;
}

static hid_t string_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static Status pack_strings(char *const *raw, size_t count, char ***out)
{
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++)
        bytes += (raw[i] ? strlen(raw[i]) : 0) + 1;
    char **block = mem_alloc(bytes);
    if (!block)
        return STATUS_FAILED;
    char *at = (char *)(block + count);
    for (size_t i = 0; i < count; i++) {
        const size_t n = (raw[i] ? strlen(raw[i]) : 0) + 1;
        memcpy(at, raw[i] ? raw[i] : "", n);
        block[i] = at;
        at += n;
    }
    *out = block;
    return STATUS_OK;
}

static Status read_strings(hid_t set, const char *path, const char *name, size_t count, char ***out)
{
    hsize_t dims[1] = {count};
    TRY(check_shape(set, path, name, H5T_STRING, 1, dims));
    const hid_t stored = H5Dget_type(set), space = H5Dget_space(set);
    const bool variable = H5Tis_variable_str(stored) > 0;
    /* the character set must be the stored one: HDF5 does not convert */
    const hid_t type = string_type();
    H5Tset_cset(type, H5Tget_cset(stored));
    char **raw = variable ? mem_calloc(count ? count : 1, sizeof *raw) : NULL;
    Status s = STATUS_OK;
    if (!variable)
        s = status_fail("%s: %s does not hold strings of variable length", path, name);
    else if (!raw)
        s = STATUS_FAILED;
    else if (count && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) < 0)
        s = h5_fail(path, name);
    else {
        s = pack_strings(raw, count, out);
        if (count)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
    }
    mem_free(raw);
    H5Tclose(type);
    H5Tclose(stored);
    H5Sclose(space);
    return s;
}

Status h5_read_strings(hid_t file, const char *path, const char *name, size_t count, char ***out)
{
    hid_t set = -1;
    *out = NULL;
    TRY(open_set(file, path, name, &set));
    const Status s = read_strings(set, path, name, count, out);
    H5Dclose(set);
    return s;
}

Status h5_write_array(hid_t file, const char *path, const char *name, hid_t file_type, hid_t mem, int rank,
                      const hsize_t *dims, const void *data)
{
    const hid_t space = H5Screate_simple(rank, dims, NULL), list = h5_create_list();
    const hid_t set = H5Dcreate2(file, name, file_type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    const bool empty = H5Sget_simple_extent_npoints(space) == 0;
    const bool ok = set >= 0 && (empty || H5Dwrite(set, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    const Status s = ok ? STATUS_OK : h5_fail(path, "cannot be written");
    if (set >= 0)
        H5Dclose(set);
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

Status h5_write_strings(hid_t file, const char *path, const char *name, size_t count,
                        const char *const *strings)
{
    const hid_t type = string_type();
    const hsize_t dims[1] = {count};
    const Status s = h5_write_array(file, path, name, type, type, 1, dims, strings);
    H5Tclose(type);
    return s;
}

/* Attributes --------------------------------------------------------------------------------------------- */

static Status write_attribute(hid_t file, const char *path, const char *name, hid_t type, hid_t mem,
                              const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t a = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = a >= 0 && H5Awrite(a, mem, value) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(path, "cannot be written");
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return s;
}

Status h5_write_attribute_int(hid_t file, const char *path, const char *name, int value)
{
    return write_attribute(file, path, name, H5T_STD_I32LE, H5T_NATIVE_INT, &value);
}

Status h5_write_attribute_text(hid_t file, const char *path, const char *name, const char *value)
{
    const hid_t type = string_type();
    const Status s = write_attribute(file, path, name, type, type, &value);
    H5Tclose(type);
    return s;
}

/* An attribute of one element and this class, or -1. */
static hid_t open_attribute(hid_t file, const char *name, H5T_class_t class)
{
    if (H5Aexists(file, name) <= 0)
        return -1;
    const hid_t a = H5Aopen(file, name, H5P_DEFAULT);
    if (a < 0)
        return -1;
    const hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    const bool fits = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1;
    H5Tclose(type);
    H5Sclose(space);
    if (fits)
        return a;
    H5Aclose(a);
    return -1;
}

Status h5_read_attribute_int(hid_t file, const char *path, const char *name, int *value, bool *found)
{
    const hid_t a = open_attribute(file, name, H5T_INTEGER);
    *found = a >= 0;
    if (!*found)
        return STATUS_OK;
    const bool ok = H5Aread(a, H5T_NATIVE_INT, value) >= 0;
    H5Aclose(a);
    return ok ? STATUS_OK : h5_fail(path, name);
}

Status h5_read_attribute_text(hid_t file, const char *path, const char *name, char **value)
{
    *value = NULL;
    const hid_t a = open_attribute(file, name, H5T_STRING);
    if (a < 0)
        return STATUS_OK;
    const hid_t stored = H5Aget_type(a), space = H5Aget_space(a), type = string_type();
    H5Tset_cset(type, H5Tget_cset(stored));
    char *raw = NULL;
    Status s = STATUS_OK;
    if (H5Tis_variable_str(stored) > 0) {
        if (H5Aread(a, type, &raw) < 0)
            s = h5_fail(path, name);
        else if (!(*value = mem_strdup(raw ? raw : "")))
            s = STATUS_FAILED;
        if (raw)
            H5Dvlen_reclaim(type, space, H5P_DEFAULT, &raw);
    }
    H5Tclose(type);
    H5Tclose(stored);
    H5Sclose(space);
    H5Aclose(a);
    return s;
}
