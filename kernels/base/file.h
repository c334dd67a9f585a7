/* Files: whole or not at all. Everything Atelier writes under a final name goes through AtomicFile: written
 * beside it as NAME.atelier-part-PID (aside.h), synced, then renamed over it; the folder is synced too. */
#ifndef ATL_FILE_H
#define ATL_FILE_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole file, with a 0 byte after it that *size does not count. Caller: mem_free. Larger than limit:
 * refused. */
Status file_read(const char *path, size_t limit, char **data, size_t *size);
/* The same of a pipe or a device too, which is waited for. */
Status stream_read(const char *path, size_t limit, char **data, size_t *size);
/* STATUS_REFUSED: "PATH: there is no such WHAT", with the part of the path that is missing and the name that
 * was perhaps meant. */
Status file_missing(const char *path, const char *what);
/* Refuses what cannot be read as a file: a missing one, a folder, a pipe or device (which would be waited
 * for). */
Status file_check_source(const char *path, const char *what);
bool file_exists(const char *path);
bool file_is_dir(const char *path);
int64_t file_size(const char *path); /* -1: missing */
size_t path_bytes(const char *path); /* of a file, or of all in a folder; what cannot be read: 0 */
Status dir_make(const char *path);   /* with its parents; existing is fine; path_check_words */
size_t dir_there(const char *path);  /* how many of its bytes name what is there: all, or a parent */
/* Removes it, and its parents but for the first `there` bytes, as far as they are empty. */
void dir_remove_empty(const char *path, size_t there);
Status dir_make_parent(const char *path); /* the folder that is to hold path, with its parents */
Status dir_remove(const char *path);      /* with everything in it */
/* Names in a folder without "." and "..", sorted by bytes. Caller: dir_list_free. */
Status dir_list(const char *path, char ***names, int *count);
void dir_list_free(char **names, int count);
Status dir_sync(const char *path);
/* "a/b" of "a" and "b"; b absolute: b. NULL: out of memory. Caller: mem_free. */
char *path_join(const char *a, const char *b);
/* "FOLDER/NAME" with a printf-like NAME, which is never absolute. Caller: mem_free. NULL: out of memory. */
char *path_in(const char *folder, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *path_base(const char *path); /* the last component, inside path */
/* Refuses a path with a word that shells put something else for, ~ or ~NAME at its beginning, $NAME anywhere,
 * unless something of that very name is there: here it would make a folder called "$HOME". from: the folder
 * that relative paths start at; NULL: the current one. */
Status path_check_words(const char *path, const char *from);
/* The folder that holds path: "." for a bare name. NULL: out of memory. Caller: mem_free. */
char *path_parent(const char *path);

/* "PATH: WHAT: errno's words". STATUS_REFUSED where the user named something that is not there or is not his,
 * else STATUS_FAILED. */
Status file_failed(const char *path, const char *what);

/* Refuses a path that no file can be put at: a folder, or a device, which a rename would replace. */
Status file_check_target(const char *path);
/* Proves that a file can be written at path, by beginning one: before the work that is to go into it. */
Status file_try(const char *path);

typedef struct AtomicFile AtomicFile;
/* Makes missing parent folders; removes what writers of the same file that were killed have left. */
Status atomic_open(const char *path, AtomicFile **out);
Status atomic_write(AtomicFile *f, const void *data, size_t bytes);
Status atomic_commit(AtomicFile *f); /* flush, fsync, rename; frees f; on failure the temporary is removed */
void atomic_abort(AtomicFile *f);    /* removes the temporary; frees f; NULL allowed */
Status file_write_atomic(const char *path, const void *data, size_t bytes);
/* All bytes to fd; 0, or the errno of what went wrong. */
int fd_write(int fd, const void *data, size_t bytes);

#endif
