/* Files and folders: reading whole, listing, and the one way of writing.
 *
 * A file under a final name is always complete. AtomicFile writes path_aside(NAME, "part") beside the target,
 * flushes it to the disk, renames it over the target and then syncs the folder, so that a power cut leaves
 * either the old file or the new one. The temporary lies in the target's own folder because rename() does not
 * cross file systems. */
#include "file.h"

#include "aside.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Status file_failed(const char *path, const char *what)
{
    const int e = errno;
    if (e == ENOMEM)
        return status_memory("%s: %s: %s", path, what, strerror(e));
    if (e == EMFILE || e == ENFILE)
        return status_memory("%s: %s: too many files are open; ulimit -n raises the limit", path, what);
    if (e == ENOENT || e == EACCES || e == ENOTDIR || e == EISDIR || e == EROFS)
        return status_refuse("%s: %s: %s", path, what, strerror(e));
    return status_fail("%s: %s: %s", path, what, strerror(e));
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

size_t path_bytes(const char *path)
{
    struct stat st;
    char **names = NULL;
    int count = 0;
    size_t bytes = 0;
    if (lstat(path, &st) != 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return (size_t)st.st_size;
    if (dir_list(path, &names, &count) != STATUS_OK)
        return 0;
    for (int i = 0; i < count; i++) {
        char *below = path_join(path, names[i]);
        bytes += below ? path_bytes(below) : 0;
        mem_free(below);
    }
    dir_list_free(names, count);
    return bytes;
}

/* Reads until the end of the stream: sizes of pipes and /proc files are not known before. */
static Status read_stream(FILE *in, const char *path, size_t limit, char **data, size_t *size)
{
    size_t capacity = 1 << 14, used = 0;
    char *buffer = mem_alloc(capacity);
    if (!buffer)
        return STATUS_FAILED;
    for (;;) {
        used += fread(buffer + used, 1, capacity - 1 - used, in);
        if (used > limit) {
            mem_free(buffer);
            return status_refuse("%s: larger than %zu bytes, the most that is read here", path, limit);
        }
        if (used < capacity - 1)
            break;
        char *larger = mem_realloc(buffer, capacity *= 2);
        if (!larger) {
            mem_free(buffer);
            return STATUS_FAILED;
        }
        buffer = larger;
    }
    if (ferror(in)) {
        mem_free(buffer);
        return file_failed(path, "cannot be read");
    }
    buffer[used] = 0;
    *data = buffer;
    *size = used;
    return STATUS_OK;
}

Status stream_read(const char *path, size_t limit, char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    FILE *in = fopen(path, "rbe");
    if (!in)
        return file_failed(path, "cannot be opened");
    Status s;
    struct stat st;
    if (fstat(fileno(in), &st) == 0 && S_ISDIR(st.st_mode))
        s = status_refuse("%s: is a folder, a file is needed", path);
    else
        s = read_stream(in, path, limit, data, size);
    fclose(in);
    return s;
}

Status file_read(const char *path, size_t limit, char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    TRY(file_check_source(path, "file"));
    return stream_read(path, limit, data, size);
}

/* Folders ---------------------------------------------------------------------------------------------- */

/* A component, up to its '/' or end. */
static bool is_shell_word(const char *part, bool first)
{
    const char next = part[1];
    return (first && part[0] == '~') ||
           (part[0] == '$' &&
            (next == '{' || next == '_' || (next >= 'A' && next <= 'Z') || (next >= 'a' && next <= 'z')));
}

Status path_check_words(const char *path, const char *from)
{
    for (const char *part = path; *part;) {
        const char *end = part + strcspn(part, "/");
        if (is_shell_word(part, part == path)) {
            char *until = mem_printf("%.*s", (int)(end - path), path);
            char *whole = until ? path_join(from ? from : ".", until) : NULL;
            const bool known = whole != NULL, there = known && file_exists(whole);
            mem_free(until);
            mem_free(whole);
            if (!known)
                return STATUS_FAILED;
            if (!there)
                return status_refuse("%s: %.*s is a word that shells put something else for, and is not "
                                     "looked up here; write the path out%s",
                                     path, (int)(end - part), part,
                                     part[0] == '~' ? " (a folder of that name: ./~…)" : "");
        }
        part = end + strspn(end, "/");
    }
    return STATUS_OK;
}

size_t dir_there(const char *path)
{
    char *p = mem_strdup(path);
    size_t n = strlen(path);
    while (p && n > 0 && !file_exists(p)) {
        while (n > 0 && p[n - 1] != '/')
            n--;
        while (n > 1 && p[n - 1] == '/')
            n--;
        p[n == 1 && p[0] != '/' ? 0 : n] = 0;
    }
    mem_free(p);
    return n;
}

void dir_remove_empty(const char *path, size_t there)
{
    char *p = mem_strdup(path);
    for (size_t n = strlen(path); p && n > there && rmdir(p) == 0;) {
        while (n > 0 && p[n - 1] != '/')
            n--;
        while (n > 0 && p[n - 1] == '/')
            n--;
        p[n] = 0;
    }
    mem_free(p);
}

Status dir_make(const char *path)
{
    TRY(path_check_words(path, NULL));
    char *p = mem_strdup(path);
    if (!p)
        return STATUS_FAILED;
    Status s = STATUS_OK;
    const size_t n = strlen(p);
    for (size_t i = 1; i <= n && s == STATUS_OK; i++) {
        if (p[i] != '/' && p[i] != 0)
            continue;
        const char kept = p[i];
        p[i] = 0;
        if (mkdir(p, 0777) == 0 || (errno == EEXIST && file_is_dir(p)))
            s = STATUS_OK;
        else if (errno == EEXIST)
            s = status_refuse("%s: is a file where a folder is needed; choose another name", p);
        else
            s = file_failed(p, "folder cannot be made");
        p[i] = kept;
    }
    mem_free(p);
    return s;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Status dir_list(const char *path, char ***names, int *count)
{
    *names = NULL;
    *count = 0;
    DIR *d = opendir(path);
    if (!d)
        return file_failed(path, "folder cannot be read");
    char **list = NULL;
    int n = 0, capacity = 0;
    Status s = STATUS_OK;
    errno = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!mem_grow(&list, n, &capacity, sizeof *list) || !(list[n] = mem_strdup(e->d_name))) {
            s = STATUS_FAILED;
            break;
        }
        n++;
        errno = 0;
    }
    if (s == STATUS_OK && errno != 0)
        s = file_failed(path, "folder cannot be read");
    closedir(d);
    if (s != STATUS_OK) {
        dir_list_free(list, n);
        return s;
    }
    if (n > 0)
        qsort(list, (size_t)n, sizeof *list, by_bytes);
    *names = list;
    *count = n;
    return STATUS_OK;
}

void dir_list_free(char **names, int count)
{
    for (int i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}

/* Links are removed, never followed. */
Status dir_remove(const char *path)
{
    char **names = NULL;
    int count = 0;
    TRY(dir_list(path, &names, &count));
    Status s = STATUS_OK;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        char *child = path_join(path, names[i]);
        struct stat st;
        if (!child)
            s = STATUS_FAILED;
        else if (lstat(child, &st) == 0 && S_ISDIR(st.st_mode))
            s = dir_remove(child);
        else if (unlink(child) != 0)
            s = file_failed(child, "cannot be removed");
        mem_free(child);
    }
    dir_list_free(names, count);
    if (s == STATUS_OK && rmdir(path) != 0)
        s = file_failed(path, "cannot be removed");
    return s;
}

Status dir_sync(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_failed(path, "folder cannot be opened");
    /* Some file systems (network, FUSE) know no fsync of folders and answer EINVAL: nothing is lost by that.
     */
    const bool failed = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP;
    const Status s = failed ? file_failed(path, "folder cannot be synced") : STATUS_OK;
    close(fd);
    return s;
}

/* Paths ------------------------------------------------------------------------------------------------ */

char *path_join(const char *a, const char *b)
{
    const size_t n = strlen(a);
    if (b[0] == '/' || n == 0)
        return mem_strdup(b);
    return mem_printf("%s%s%s", a, a[n - 1] == '/' ? "" : "/", b);
}

char *path_in(const char *folder, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *name = mem_vprintf(format, args), *path = name ? path_join(folder, name) : NULL;
    va_end(args);
    mem_free(name);
    return path;
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *path_parent(const char *path)
{
    const char *base = path_base(path);
    if (base == path)
        return mem_strdup(".");
    const size_t n = (size_t)(base - path) - 1;
    return n == 0 ? mem_strdup("/") : mem_printf("%.*s", (int)n, path);
}

Status dir_make_parent(const char *path)
{
    char *parent = path_parent(path);
    const Status s = parent ? dir_make(parent) : STATUS_FAILED;
    mem_free(parent);
    return s;
}

/* Writing ---------------------------------------------------------------------------------------------- */

#define BUFFER_BYTES ((size_t)64 << 10)

struct AtomicFile {
    char *path, *part, *folder;
    int fd;
    uint8_t *buffer; /* (BUFFER_BYTES): small writes wait here */
    size_t used;
    int error; /* errno of a failed write: committing is refused */
};

/* A disk that is nearly full takes less than it is given, a signal may come between: go on where it stopped.
 */
int fd_write(int fd, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    while (bytes > 0) {
        const ssize_t n = write(fd, at, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

static void atomic_free(AtomicFile *f)
{
    mem_free(f->path);
    mem_free(f->part);
    mem_free(f->folder);
    mem_free(f->buffer);
    mem_free(f);
}

Status file_check_target(const char *path)
{
    struct stat st;
    if (path_base(path)[0] == 0)
        return status_refuse("%s: is no name for a file", path[0] ? path : "\"\"");
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return STATUS_OK;
    return status_refuse(S_ISDIR(st.st_mode) ? "%s: is a folder, a file name is needed"
                                             : "%s: is no ordinary file; choose another name",
                         path);
}

Status file_try(const char *path)
{
    AtomicFile *f;
    TRY(atomic_open(path, &f));
    atomic_abort(f);
    return STATUS_OK;
}

Status atomic_open(const char *path, AtomicFile **out)
{
    *out = NULL;
    TRY(file_check_target(path));
    AtomicFile *f = mem_calloc(1, sizeof *f);
    if (!f)
        return STATUS_FAILED;
    f->path = mem_strdup(path);
    f->part = path_aside(path, "part");
    f->folder = path_parent(path);
    f->buffer = mem_alloc(BUFFER_BYTES);
    Status s = f->path && f->part && f->folder && f->buffer ? dir_make(f->folder) : STATUS_FAILED;
    if (s == STATUS_OK) {
        aside_clean(path);
        s = aside_file(f->part, path, &f->fd);
    }
    if (s != STATUS_OK) {
        atomic_free(f);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

static Status write_out(AtomicFile *f, const void *data, size_t bytes)
{
    if (!f->error)
        f->error = fd_write(f->fd, data, bytes);
    errno = f->error;
    return f->error ? file_failed(f->path, "cannot be written") : STATUS_OK;
}

static Status flush(AtomicFile *f)
{
    const size_t bytes = f->used;
    f->used = 0;
    return write_out(f, f->buffer, bytes);
}

Status atomic_write(AtomicFile *f, const void *data, size_t bytes)
{
    if (f->used + bytes > BUFFER_BYTES)
        TRY(flush(f));
    if (bytes >= BUFFER_BYTES)
        return write_out(f, data, bytes);
    if (bytes > 0)
        memcpy(f->buffer + f->used, data, bytes);
    f->used += bytes;
    return STATUS_OK;
}

Status atomic_commit(AtomicFile *f)
{
    Status s = flush(f);
    if (s == STATUS_OK && fsync(f->fd) != 0)
        s = file_failed(f->path, "cannot be written");
    if (s == STATUS_OK && rename(f->part, f->path) != 0)
        s = file_failed(f->path, "cannot be put in its place");
    if (s == STATUS_OK)
        s = dir_sync(f->folder);
    else
        unlink(f->part);
    close(f->fd); /* synced: nothing is left to fail. Until here it is held. */
    atomic_free(f);
    return s;
}

void atomic_abort(AtomicFile *f)
{
    if (!f)
        return;
    unlink(f->part);
    close(f->fd);
    atomic_free(f);
}

Status file_write_atomic(const char *path, const void *data, size_t bytes)
{
    AtomicFile *f = NULL;
    TRY(atomic_open(path, &f));
    const Status s = atomic_write(f, data, bytes);
    if (s != STATUS_OK) {
        atomic_abort(f);
        return s;
    }
    return atomic_commit(f);
}
