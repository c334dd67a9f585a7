/* What the files of data/ need from HDF5. The library is built without threads in most distributions, so
 * every call stands between h5_begin() and h5_end(), which hold one lock for the whole process; the functions
 * here that take a hid_t are called with it held. Files are opened without HDF5's own locks (they fail on
 * network file systems and get in the way of readers), and all at once closes with their file, so a handle
 * forgotten on an error path is no leak. */
#ifndef ATL_H5_H
#define ATL_H5_H

#include "kernels/base/status.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No clearing up by HDF5 at exit, and a word where it ends the process; the program's start calls it, before
 * any other function of HDF5 (train/atelier.c). */
void h5_own_process(void);
void h5_begin(void);
/* Returns s, so that a function can end with `return h5_end(s)`. */
Status h5_end(Status s);

/* True if the file begins as HDF5 files do. */
bool h5_is_file(const char *path);
/* flags: H5F_ACC_RDONLY or H5F_ACC_RDWR. A missing file, one that is not HDF5 and a broken one are told
 * apart. */
Status h5_open(const char *path, unsigned flags, hid_t *out);
/* Truncates. The file's format is one of HDF5's newer ones, in which all its structures carry check sums: the
 * library has crashed on damaged structures without. resumable: the format of 1.8, which can be opened again
 * after the process was killed in between; it has no check sums for the index of chunks. */
Status h5_create(const char *path, bool resumable, hid_t *out);
/* Flushes and closes; what could not be written is an error. Such a file stays open until the process ends:
 * the library keeps what it could not write, and crashes on being made to let go of it. */
Status h5_close(const char *path, hid_t file);

/* "PATH: WHAT: HDF5's own words" from the library's error stack. */
Status h5_fail(const char *path, const char *what);

/* True if every part of the path /a/b/c is there. */
bool h5_exists(hid_t file, const char *name);

/* Opens the file's row of bytes of this name. path is the file's, for messages. */
Status h5_open_bytes(hid_t file, const char *path, const char *name, hid_t *data, uint64_t *size);

/* Makes the group if it is not there; the one that it lies in is. */
Status h5_make_group(hid_t file, const char *path, const char *name);

/* Reads a whole array of integers (of any width; mem is the type wanted) or floats; its class and shape must
 * be as said: dims[i] 0 is filled in, others are checked. *out: mem_free. */
Status h5_read_array(hid_t file, const char *path, const char *name, hid_t mem, int rank, hsize_t *dims,
                     size_t limit_bytes, void **out);
/* An array (count,width) of integers that stays open, to be read some rows at a time: of a million pictures
 * not all is kept. */
Status h5_open_rows(hid_t file, const char *path, const char *name, hsize_t count, hsize_t width, hid_t *set);
/* rows × width bytes from row i on. */
Status h5_read_rows(hid_t set, const char *path, hsize_t i, hsize_t rows, hsize_t width, uint8_t *out);
/* count strings as one block: out[i] points behind the pointers. mem_free(*out). Strings of fixed length
 * (which is how they are written here: HDF5's heap for those of variable length has crashed on damaged files)
 * or of variable length (which h5py writes). */
Status h5_read_strings(hid_t file, const char *path, const char *name, size_t count, char ***out);
Status h5_write_array(hid_t file, const char *path, const char *name, hid_t file_type, hid_t mem, int rank,
                      const hsize_t *dims, const void *data);
Status h5_write_strings(hid_t file, const char *path, const char *name, size_t count,
                        const char *const *strings);

/* Attributes of the root group. A missing number leaves *value and sets *found false. */
Status h5_write_attribute_int(hid_t file, const char *path, const char *name, int value);
Status h5_write_attribute_text(hid_t file, const char *path, const char *name, const char *value);
Status h5_read_attribute_int(hid_t file, const char *path, const char *name, int *value, bool *found);
/* Missing or not a text: NULL. *value: mem_free. */
Status h5_read_attribute_text(hid_t file, const char *path, const char *name, char **value);

/* A property list for creating datasets: no times in the file, so that equal datasets are equal files. */
hid_t h5_create_list(void);

#endif
