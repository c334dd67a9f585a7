/* Files that caches lie in, shared within the process. HDF5's lock is held by whoever calls. */
#ifndef ATL_CACHE_FILE_H
#define ATL_CACHE_FILE_H

#include "data/dataset/h5.h"

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

/* Opens it, or shares it where it is open. One that is missing or broken has no `file`. */
Status cache_file_use(const char *path, CacheFile **out);
Status cache_file_release(CacheFile *f); /* NULL allowed */
/* Opened again for writing; made if it was missing or broken when it was looked at. */
Status cache_file_make_writable(CacheFile *f);
/* What was written is on its way to the disk; then it is open for reading alone. */
Status cache_file_settle(CacheFile *f);
/* Notes and tells that it cannot be written. */
Status cache_file_failed(CacheFile *f);

#endif
