/* HDF5 behind one lock, with errors as Status (h5.h). */
#include "h5.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "h5_check.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STRINGS_LIMIT ((size_t)1 << 30)
#define ATTRIBUTE_LIMIT ((size_t)1 << 16)
#define MAX_LINKS 10000 /* of a group, kept in its header */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool inside;

/* What a host program has set for HDF5's own printing of errors: there are two kinds of functions. */
static struct {
    unsigned is_v2;
    H5E_auto1_t v1;
    H5E_auto2_t v2;
    void *arg;
} printing;

/* HDF5 1.10 calls exit(-1), without a word, where it has no memory for a handle. */
static void ended(void)
{
    static const char message[] =
        "atelier: error: the HDF5 library ended the process, out of memory; what was saved is whole\n";
    if (inside && write(STDERR_FILENO, message, strlen(message)) >= 0)
        _exit(STATUS_FAILED);
}

/* At exit the library would write out what is still open; it crashes there on a file that it could not write
 * before (h5_close), and everything else has been closed. */
void h5_own_process(void)
{
    atexit(ended);
    H5dont_atexit();
}

/* HDF5 prints no errors meanwhile: they are ours to tell. Set every time, as thread-safe builds of the
 * library keep it per thread. */
void h5_begin(void)
{
    pthread_mutex_lock(&lock);
    inside = true;
    H5Eauto_is_v2(H5E_DEFAULT, &printing.is_v2);
    if (printing.is_v2)
        H5Eget_auto2(H5E_DEFAULT, &printing.v2, &printing.arg);
    else
        H5Eget_auto1(&printing.v1, &printing.arg);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

Status h5_end(Status s)
{
    if (printing.is_v2)
        H5Eset_auto2(H5E_DEFAULT, printing.v2, printing.arg);
    else
        H5Eset_auto1(printing.v1, printing.arg);
    inside = false;
    pthread_mutex_unlock(&lock);
    return s;
}

/* The first entry met walking upward is the deepest, where it went wrong. Of a system call's failure, "file
 * write failed: time = …, error message = 'No space left on device', buf = …", the system's words are enough.
 */
static herr_t take_first(unsigned n, const H5E_error2_t *error, void *arg)
{
    static const char mark[] = "error message = '";
    char *text = arg;
    if (n != 0 || !error->desc)
        return 0;
    const char *words = strstr(error->desc, mark);
    words = words ? words + strlen(mark) : error->desc;
    snprintf(text, 256, "%.*s", words == error->desc ? 255 : (int)strcspn(words, "'"), words);
    return 0;
}

Status h5_fail(const char *path, const char *what)
{
    char text[256] = "HDF5 gives no reason";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, text);
    return status_fail("%s: %s: %s", path, what, text);
}

/* Files ------------------------------------------------------------------------------------------------ */

static hid_t access_list(void)
{
    const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(list, H5F_CLOSE_STRONG);
    H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_LATEST); /* what is added has check sums */
    H5Pset_file_locking(list, false, true);
    return list;
}

/* The signature stands at the start of the file, or after a user block of 512, 1024, … bytes, which nobody
 * uses. */
static Status check_signature(const char *path)
{
    char head[8] = {0};
    TRY(file_check_source(path, "HDF5 file"));
    FILE *in = fopen(path, "rbe");
    if (!in)
        return status_refuse("%s: cannot be opened: %m", path);
    const size_t n = fread(head, 1, sizeof head, in);
    fclose(in);
    if (n == sizeof head && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        return STATUS_OK;
    if (memcmp(head, "PK\3\4", 4) == 0)
        return status_fail("%s: is a zip archive, not an HDF5 file; unpack it and name the folder", path);
    static const char *const pictures[] = {"\xff\xd8\xff", "\x89PNG", "RIFF", "GIF8"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        if (memcmp(head, pictures[i], strlen(pictures[i])) == 0)
            return status_fail("%s: is a picture, not a dataset; name the folder that it lies in", path);
    return status_fail("%s: is not an HDF5 file", path);
}

bool h5_is_file(const char *path)
{
    return check_signature(path) == STATUS_OK;
}

Status h5_open(const char *path, unsigned flags, hid_t *out)
{
    TRY(check_signature(path));
    TRY(h5_check(path));
    const hid_t list = access_list();
    *out = H5Fopen(path, flags, list);
    const Status s =
        *out >= 0 ? STATUS_OK : h5_fail(path, "is a broken HDF5 file"); /* before the stack is cleared */
    H5Pclose(list);
    return s;
}

Status h5_create(const char *path, bool resumable, hid_t *out)
{
    const hid_t list = access_list(), create = H5Pcreate(H5P_FILE_CREATE);
    const H5F_libver_t version = resumable ? H5F_LIBVER_V18 : H5F_LIBVER_V110;
    H5Pset_libver_bounds(list, version, H5F_LIBVER_V110);
    H5Pset_obj_track_times(create, false); /* of the root group */
    *out = H5Fcreate(path, H5F_ACC_TRUNC, create, list);
    const Status s = *out >= 0 ? STATUS_OK : h5_fail(path, "cannot be made");
    H5Pclose(create);
    H5Pclose(list);
    return s;
}

Status h5_close(const char *path, hid_t file)
{
    if (H5Fflush(file, H5F_SCOPE_LOCAL) < 0 || H5Fclose(file) < 0)
        return h5_fail(path, "cannot be written");
    return STATUS_OK;
}

Status h5_open_bytes(hid_t file, const char *path, const char *name, hid_t *data, uint64_t *size)
{
    if (!h5_exists(file, name))
        return status_fail("%s: %s is missing", path, name);
    *data = H5Dopen2(file, name, H5P_DEFAULT);
    if (*data < 0)
        return h5_fail(path, name);
    const hid_t space = H5Dget_space(*data), type = H5Dget_type(*data);
    hsize_t count = 0;
    const bool fits = H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 1 &&
                      H5Sget_simple_extent_ndims(space) == 1 &&
                      H5Sget_simple_extent_dims(space, &count, NULL) == 1;
    H5Sclose(space);
    H5Tclose(type);
    *size = count;
    return fits ? STATUS_OK : status_fail("%s: %s is not one row of bytes", path, name);
}

Status h5_make_group(hid_t file, const char *path, const char *name)
{
    if (h5_exists(file, name))
        return STATUS_OK;
    const hid_t list = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(list, false);
    H5Pset_link_phase_change(list, MAX_LINKS, MAX_LINKS); /* h5_check does not read the dense form */
    const hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, list, H5P_DEFAULT);
    const Status s = group >= 0 && H5Gclose(group) >= 0 ? STATUS_OK : h5_fail(path, "cannot be written");
    H5Pclose(list);
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

/* Arrays ----------------------------------------------------------------------------------------------- */

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

Status h5_open_rows(hid_t file, const char *path, const char *name, hsize_t count, hsize_t width, hid_t *set)
{
    hsize_t dims[2] = {count, width};
    TRY(open_set(file, path, name, set));
    return check_shape(*set, path, name, H5T_INTEGER, 2, dims);
}

Status h5_read_rows(hid_t set, const char *path, hsize_t i, hsize_t rows, hsize_t width, uint8_t *out)
{
    const hsize_t start[2] = {i, 0}, count[2] = {rows, width};
    const hid_t from = H5Dget_space(set), to = H5Screate_simple(2, count, NULL);
    H5Sselect_hyperslab(from, H5S_SELECT_SET, start, NULL, count, NULL);
    const bool ok = H5Dread(set, H5T_NATIVE_UINT8, to, from, H5P_DEFAULT, out) >= 0;
    const Status s = ok ? STATUS_OK : h5_fail(path, "cannot be read");
    H5Sclose(from);
    H5Sclose(to);
    return s;
}

/* Strings of `size` bytes, padded with zeros; H5T_VARIABLE: of variable length. */
static hid_t string_type(size_t size, H5T_cset_t letters)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    H5Tset_strpad(type, size == H5T_VARIABLE ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
    H5Tset_cset(type, letters);
    return type;
}

/* Copies strings into one block: the pointers, then the texts. raw[i], or fixed + i * size where raw is NULL.
 */
static Status pack_strings(char *const *raw, const char *fixed, size_t size, size_t count, char ***out)
{
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++)
        bytes += 1 + (fixed ? strnlen(fixed + i * size, size) : raw[i] ? strlen(raw[i]) : 0);
    char **block = mem_alloc(bytes);
    if (!block)
        return STATUS_FAILED;
    char *at = (char *)(block + count);
    for (size_t i = 0; i < count; i++) {
        const char *text = fixed ? fixed + i * size : raw[i] ? raw[i] : "";
        const size_t n = fixed ? strnlen(text, size) : strlen(text);
        memcpy(at, text, n);
        at[n] = 0;
        block[i] = at;
        at += n + 1;
    }
    *out = block;
    return STATUS_OK;
}

static Status read_variable(hid_t set, const char *path, const char *name, hid_t type, size_t count,
                            char ***out)
{
    char **raw = mem_calloc(count, sizeof *raw);
    if (!raw)
        return STATUS_FAILED;
    const hid_t space = H5Dget_space(set);
    const bool ok = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) >= 0;
    const Status s = ok ? pack_strings(raw, NULL, 0, count, out) : h5_fail(path, name);
    if (ok)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
    H5Sclose(space);
    mem_free(raw);
    return s;
}

static Status read_fixed(hid_t set, const char *path, const char *name, hid_t type, size_t count, char ***out)
{
    const size_t size = H5Tget_size(type);
    if (size == 0 || size > STRINGS_LIMIT / count)
        return status_fail("%s: %s is implausibly large", path, name);
    char *fixed = mem_alloc(size * count);
    if (!fixed)
        return STATUS_FAILED;
    const bool ok = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, fixed) >= 0;
    const Status s = ok ? pack_strings(NULL, fixed, size, count, out) : h5_fail(path, name);
    mem_free(fixed);
    return s;
}

static Status read_strings(hid_t set, const char *path, const char *name, size_t count, char ***out)
{
    hsize_t dims[1] = {count};
    TRY(check_shape(set, path, name, H5T_STRING, 1, dims));
    const hid_t stored = H5Dget_type(set);
    const bool variable = H5Tis_variable_str(stored) > 0;
    /* the set of letters must be the stored one: HDF5 does not convert */
    const hid_t type = string_type(variable ? H5T_VARIABLE : H5Tget_size(stored), H5Tget_cset(stored));
    const Status s = (variable ? read_variable : read_fixed)(set, path, name, type, count, out);
    H5Tclose(type);
    H5Tclose(stored);
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
    Status s = ok ? STATUS_OK : h5_fail(path, "cannot be written");
    if (set >= 0 && H5Dclose(set) < 0 && ok) /* small arrays are written only now */
        s = h5_fail(path, "cannot be written");
    H5Pclose(list);
    H5Sclose(space);
    return s;
}

Status h5_write_strings(hid_t file, const char *path, const char *name, size_t count,
                        const char *const *strings)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++)
        size = strlen(strings[i]) > size ? strlen(strings[i]) : size;
    char *fixed = mem_calloc(count, size);
    if (!fixed)
        return STATUS_FAILED;
    for (size_t i = 0; i < count; i++)
        memcpy(fixed + i * size, strings[i], strlen(strings[i]));
    const hid_t type = string_type(size, H5T_CSET_UTF8);
    const hsize_t dims[1] = {count};
    const Status s = h5_write_array(file, path, name, type, type, 1, dims, fixed);
    H5Tclose(type);
    mem_free(fixed);
    return s;
}

/* Attributes ------------------------------------------------------------------------------------------- */

/* One that is there is written over, and has this type. */
static Status write_attribute(hid_t file, const char *path, const char *name, hid_t type, hid_t mem,
                              const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t a = H5Aexists(file, name) > 0 ? H5Aopen(file, name, H5P_DEFAULT)
                                              : H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = a >= 0 && H5Awrite(a, mem, value) >= 0;
    Status s = ok ? STATUS_OK : h5_fail(path, "cannot be written");
    if (a >= 0 && H5Aclose(a) < 0 && ok)
        s = h5_fail(path, "cannot be written");
    H5Sclose(space);
    return s;
}

Status h5_write_attribute_int(hid_t file, const char *path, const char *name, int value)
{
    return write_attribute(file, path, name, H5T_STD_I32LE, H5T_NATIVE_INT, &value);
}

Status h5_write_attribute_text(hid_t file, const char *path, const char *name, const char *value)
{
    const size_t size = strlen(value) ? strlen(value) : 1;
    const hid_t type = string_type(size, H5T_CSET_UTF8);
    const Status s = write_attribute(file, path, name, type, type, value);
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

static Status read_attribute(hid_t a, const char *path, const char *name, hid_t type, bool variable,
                             char **value)
{
    const size_t size = variable ? sizeof(char *) : H5Tget_size(type);
    if (size > ATTRIBUTE_LIMIT)
        return status_fail("%s: %s is implausibly large", path, name);
    char *raw = mem_calloc(1, size + 1), **pointer = (char **)raw;
    if (!raw)
        return STATUS_FAILED;
    Status s = STATUS_OK;
    if (H5Aread(a, type, raw) < 0)
        s = h5_fail(path, name);
    else if (!(*value = mem_strdup(!variable ? raw : *pointer ? *pointer : "")))
        s = STATUS_FAILED;
    if (variable && *pointer) {
        const hid_t space = H5Aget_space(a);
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
        H5Sclose(space);
    }
    mem_free(raw);
    return s;
}

Status h5_read_attribute_text(hid_t file, const char *path, const char *name, char **value)
{
    *value = NULL;
    const hid_t a = open_attribute(file, name, H5T_STRING);
    if (a < 0)
        return STATUS_OK;
    const hid_t stored = H5Aget_type(a);
    const bool variable = H5Tis_variable_str(stored) > 0;
    const hid_t type = string_type(variable ? H5T_VARIABLE : H5Tget_size(stored), H5Tget_cset(stored));
    const Status s = read_attribute(a, path, name, type, variable, value);
    H5Tclose(type);
    H5Tclose(stored);
    H5Aclose(a);
    return s;
}
