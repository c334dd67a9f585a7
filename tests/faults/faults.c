/* A library to preload (LD_PRELOAD) that makes the n-th writing system call below a folder go wrong.
 *
 * Counted are calls that open for writing, write, sync, cut, rename, make or remove something below
 * $FAULT_BELOW; or, if that is "work", parallel regions, which most operations of a model are, so that
 * signals come while something is computed; or, if it is "talk", what is sent over sockets. The $FAULT_AT-th
 * does what $FAULT_KIND says:
 *
 *     enospc  fails with ENOSPC, as does every one after it that takes room: the disk is full
 *     eio     fails with EIO, once
 *     short   a write takes half of what it is given; other calls are not counted
 *     kill    SIGKILL before the call
 *     half    SIGKILL after a write took half of what it is given; other calls are not counted
 *     int, term, hup
 *             SIGINT, SIGTERM, SIGHUP before the call
 *     exit    SIGINT twice before the call
 *     stop    SIGSTOP before the call: the process stands still until it is sent SIGCONT
 *
 * When that happens, a line "KIND CALL PATH" is appended to $FAULT_LOG. So a script counts n up until nothing
 * is written there any more, and has been at every place.
 *
 * fclose, fflush and the like call libc's own write, which cannot be seen from here: what is looked at has to
 * write with write(2) or pwrite(2), as Atelier and HDF5 do. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* The next definition of a function, libc's. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

typedef enum Kind {
    NONE,
    ENOSPC_ALWAYS,
    EIO_ONCE,
    SHORT,
    KILL,
    HALF,
    INT,
    EXIT,
    TERM,
    HUP,
    STOP,
    KINDS
} Kind;
static const struct {
    const char *name;
    int signal, times; /* sent to itself */
} kinds[KINDS] = {{"", 0, 0},           {"enospc", 0, 0},   {"eio", 0, 0},       {"short", 0, 0},
                  {"kill", SIGKILL, 1}, {"half", 0, 0},     {"int", SIGINT, 1},  {"exit", SIGINT, 2},
                  {"term", SIGTERM, 1}, {"hup", SIGHUP, 1}, {"stop", SIGSTOP, 1}};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Kind kind;
static char below[PATH_MAX];
static long at, seen;
static bool full;

static void __attribute__((constructor)) read_environment(void)
{
    const char *what = getenv("FAULT_KIND"), *where = getenv("FAULT_BELOW"), *when = getenv("FAULT_AT");
    for (int i = ENOSPC_ALWAYS; what && where && when && i < KINDS; i++)
        if (strcmp(what, kinds[i].name) == 0)
            kind = (Kind)i;
    at = when ? atol(when) : 0;
    snprintf(below, sizeof below, "%s", where ? where : "");
}

static bool is_below(const char *path)
{
    const size_t n = strlen(below);
    return kind != NONE && strncmp(path, below, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static void say(const char *call, const char *path)
{
    char line[PATH_MAX + 64];
    const char *log = getenv("FAULT_LOG");
    const int fd = log ? REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    const int n = snprintf(line, sizeof line, "%s %s %s\n", kinds[kind].name, call, path);
    if (fd >= 0 && REAL(write)(fd, line, (size_t)n) == n)
        REAL(close)(fd);
}

/* The call is one that counts; 0: it does itself, an errno, or −1: half of it (a write). */
static int counted(const char *call, const char *path)
{
    pthread_mutex_lock(&lock);
    const bool now = ++seen == at;
    const bool again = full && kind == ENOSPC_ALWAYS;
    full |= now;
    pthread_mutex_unlock(&lock);
    if (now)
        say(call, path);
    if (again || (now && kind == ENOSPC_ALWAYS))
        return ENOSPC;
    if (!now)
        return 0;
    for (int i = 0; i < kinds[kind].times; i++)
        raise(kinds[kind].signal);
    return kind == EIO_ONCE ? EIO : kind == SHORT || kind == HALF ? -1 : 0;
}

static int fault(const char *call, const char *path, bool takes_room)
{
    const bool is_write = strstr(call, "write") != NULL;
    if (!is_below(path) || ((kind == SHORT || kind == HALF) && !is_write) ||
        ((kind == ENOSPC_ALWAYS || kind == EIO_ONCE) && !takes_room))
        return 0;
    return counted(call, path);
}

/* After half a write. */
static void half_done(void)
{
    if (kind != HALF)
        return;
    raise(SIGKILL);
}

static int fault_fd(const char *call, int fd)
{
    char link[64], path[PATH_MAX];
    if (kind == NONE)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return fault(call, path, true);
}

#define FAIL_IF(e, result)                                                                                   \
    do {                                                                                                     \
        const int error_ = (e);                                                                              \
        if (error_ > 0) {                                                                                    \
            errno = error_;                                                                                  \
            return result;                                                                                   \
        }                                                                                                    \
    } while (0)

/* Opening ---------------------------------------------------------------------------------------------- */

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

#define OPEN(name)                                                                                           \
    int name(const char *path, int flags, ...)                                                               \
    {                                                                                                        \
        va_list args;                                                                                        \
        va_start(args, flags);                                                                               \
        const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;                        \
        va_end(args);                                                                                        \
        if (writes(flags))                                                                                   \
            FAIL_IF(fault("open", path, true), -1);                                                          \
        return REAL(name)(path, flags, mode);                                                                \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                                                          \
    FILE *name(const char *path, const char *mode)                                                           \
    {                                                                                                        \
        if (mode[0] != 'r' || strchr(mode, '+'))                                                             \
            FAIL_IF(fault("fopen", path, true), NULL);                                                       \
        return REAL(name)(path, mode);                                                                       \
    }
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode)
{
    struct stat st;
    if (stat(path, &st) != 0)
        FAIL_IF(fault("mkdir", path, true), -1);
    return REAL(mkdir)(path, mode);
}

/* Writing ---------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *data, size_t bytes)
{
    const int e = bytes > 1 ? fault_fd("write", fd) : 0;
    FAIL_IF(e, -1);
    if (e == 0)
        return REAL(write)(fd, data, bytes);
    const ssize_t n = REAL(write)(fd, data, bytes / 2);
    half_done();
    return n;
}

#define PWRITE(name, offset_type)                                                                            \
    ssize_t name(int fd, const void *data, size_t bytes, offset_type offset)                                 \
    {                                                                                                        \
        const int e = bytes > 1 ? fault_fd("pwrite", fd) : 0;                                                \
        FAIL_IF(e, -1);                                                                                      \
        if (e == 0)                                                                                          \
            return REAL(name)(fd, data, bytes, offset);                                                      \
        const ssize_t n = REAL(name)(fd, data, bytes / 2, offset);                                           \
        half_done();                                                                                         \
        return n;                                                                                            \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int fsync(int fd)
{
    FAIL_IF(fault_fd("fsync", fd), -1);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    FAIL_IF(fault_fd("fdatasync", fd), -1);
    return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t size)
{
    FAIL_IF(fault_fd("ftruncate", fd), -1);
    return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    FAIL_IF(fault_fd("ftruncate", fd), -1);
    return REAL(ftruncate64)(fd, size);
}

/* Names ------------------------------------------------------------------------------------------------ */

int rename(const char *from, const char *to)
{
    FAIL_IF(fault("rename", to, true), -1);
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    FAIL_IF(fault("unlink", path, false), -1);
    return REAL(unlink)(path);
}

int rmdir(const char *path)
{
    FAIL_IF(fault("rmdir", path, false), -1);
    return REAL(rmdir)(path);
}

int remove(const char *path)
{
    FAIL_IF(fault("remove", path, false), -1);
    return REAL(remove)(path);
}

/* Work ------------------------------------------------------------------------------------------------- */

void GOMP_parallel(void (*region)(void *), void *data, unsigned threads, unsigned flags);

void GOMP_parallel(void (*region)(void *), void *data, unsigned threads, unsigned flags)
{
    if (kind != NONE && strcmp(below, "work") == 0)
        counted("work", "parallel");
    REAL(GOMP_parallel)(region, data, threads, flags);
}

/* Talk ------------------------------------------------------------------------------------------------- */

ssize_t send(int fd, const void *data, size_t bytes, int flags)
{
    if (kind != NONE && strcmp(below, "talk") == 0)
        counted("talk", "send");
    return REAL(send)(fd, data, bytes, flags);
}
