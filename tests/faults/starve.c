/* A library to preload (LD_PRELOAD) that lets the n-th allocation made by one library fail: what runs out of
 * memory there has to be noticed here.
 *
 *     FAULT_KIND=starve FAULT_FROM=libjansson FAULT_AT=n FAULT_LOG=FILE
 *
 * Counted are calls of malloc and its kin from code in a shared object whose path contains $FAULT_FROM. When
 * the n-th has failed, a line "starve FUNCTION BYTES OBJECT+OFFSET" is written to $FAULT_LOG; OFFSET is for
 * addr2line. With $FAULT_ALWAYS set, every one after it fails too. With $FAULT_LEAST only those of that many
 * bytes or more count, with $FAULT_SINCE only those that come once that file has something in it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* glibc's own, which ask nobody. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static atomic_long seen;
static long at;
static bool always;
static size_t least;
static const char *from, *since;

static void __attribute__((constructor)) read_environment(void)
{
    const char *kind = getenv("FAULT_KIND"), *when = getenv("FAULT_AT"), *bytes = getenv("FAULT_LEAST");
    at = when && kind && strcmp(kind, "starve") == 0 ? atol(when) : 0;
    always = getenv("FAULT_ALWAYS") != NULL;
    least = bytes ? strtoul(bytes, NULL, 10) : 0;
    from = getenv("FAULT_FROM");
    since = getenv("FAULT_SINCE");
}

static void say(const char *function, size_t bytes, const char *object, uintptr_t offset)
{
    char line[1024];
    const char *log = getenv("FAULT_LOG");
    const int fd = log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    const int n =
        snprintf(line, sizeof line, "starve %s %zu %s+0x%zx\n", function, bytes, object, (size_t)offset);
    if (fd >= 0 && write(fd, line, (size_t)n) == n)
        close(fd);
}

static bool begun(void)
{
    struct stat st;
    if (since && (stat(since, &st) != 0 || st.st_size == 0))
        return false;
    since = NULL;
    return true;
}

static bool fails(const char *function, size_t bytes, void *caller)
{
    struct dl_find_object found;
    if (!at || !from || bytes < least || (!always && atomic_load(&seen) >= at) ||
        _dl_find_object(caller, &found) != 0 || !strstr(found.dlfo_link_map->l_name, from) || !begun())
        return false;
    const long n = atomic_fetch_add(&seen, 1) + 1;
    if (n == at)
        say(function, bytes, found.dlfo_link_map->l_name,
            (uintptr_t)caller - (uintptr_t)found.dlfo_link_map->l_addr);
    if (n < at || (n > at && !always))
        return false;
    errno = ENOMEM;
    return true;
}

#define FAILS(name, bytes) fails(name, bytes, __builtin_return_address(0))

void *malloc(size_t bytes)
{
    return FAILS("malloc", bytes) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return FAILS("calloc", count * bytes) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *p, size_t bytes)
{
    return bytes && FAILS("realloc", bytes) ? NULL : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return FAILS("aligned_alloc", bytes) ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *p = FAILS("posix_memalign", bytes) ? NULL : __libc_memalign(alignment, bytes);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

/* Else it would seem to be libc that asks. */
char *strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = FAILS("strdup", bytes) ? NULL : __libc_malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}
