#include "mem.h"

#include "status.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT 64

static atomic_size_t in_use;

static int (*refuse_hook)(size_t bytes, void *arg);
static void *refuse_arg;

void mem_set_hook(int (*refuse)(size_t bytes, void *arg), void *arg)
{
    refuse_hook = refuse;
    refuse_arg = arg;
}

static void *out_of_memory(size_t bytes)
{
    status_memory("out of memory (%zu bytes)", bytes);
    errno = ENOMEM;
    return NULL;
}

void *mem_alloc(size_t bytes)
{
    if (refuse_hook && refuse_hook(bytes, refuse_arg))
        return out_of_memory(bytes);
    void *p = NULL;
    if (posix_memalign(&p, ALIGNMENT, bytes ? bytes : 1))
        return out_of_memory(bytes);
    atomic_fetch_add_explicit(&in_use, malloc_usable_size(p), memory_order_relaxed);
    return p;
}

void *mem_calloc(size_t count, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total))
        return out_of_memory(SIZE_MAX);
    void *p = mem_alloc(total);
    if (p)
        memset(p, 0, total);
    return p;
}

void *mem_realloc(void *p, size_t bytes)
{
    if (!p)
        return mem_alloc(bytes);
    const size_t old = malloc_usable_size(p);
    if (bytes && bytes <= old && bytes >= old / 2)
        return p;
    void *q = mem_alloc(bytes);
    if (!q)
        return NULL;
    memcpy(q, p, old < bytes ? old : bytes);
    mem_free(p);
    return q;
}

void mem_free(void *p)
{
    atomic_fetch_sub_explicit(&in_use, malloc_usable_size(p), memory_order_relaxed); /* 0 of NULL */
    free(p);
}

size_t mem_in_use(void)
{
    return atomic_load_explicit(&in_use, memory_order_relaxed);
}

bool mem_grow(void *list, int count, int *capacity, size_t bytes)
{
    void *items;
    if (count < *capacity)
        return true;
    const int more = *capacity ? 2 * *capacity : 16;
    memcpy(&items, list, sizeof items); /* a pointer of any type */
    if (!(items = mem_realloc(items, (size_t)more * bytes)))
        return false;
    memcpy(list, &items, sizeof items);
    *capacity = more;
    return true;
}

char *mem_strdup(const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = mem_alloc(n);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

char *mem_vprintf(const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : mem_alloc((size_t)n + 1);
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

char *mem_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    return text;
}

void *mem_pages(size_t bytes)
{
    if (refuse_hook && refuse_hook(bytes, refuse_arg))
        return out_of_memory(bytes);
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return out_of_memory(bytes);
    atomic_fetch_add_explicit(&in_use, bytes, memory_order_relaxed);
    madvise(p, bytes, MADV_HUGEPAGE); /* a hint: fewer TLB misses in large feature maps */
    return p;
}

void mem_pages_free(void *p, size_t bytes)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&in_use, bytes, memory_order_relaxed);
    munmap(p, bytes ? bytes : 1);
}

void mem_pages_rest(const void *p, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)p;
    const uintptr_t first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
    if (last > first)
        madvise((void *)first, last - first, MADV_DONTNEED);
}

void mem_keep_large_apart(void)
{
#ifdef M_MMAP_THRESHOLD /* glibc */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

void mem_give_back(void)
{
#ifdef M_TRIM_THRESHOLD /* glibc: holes between blocks, too */
    malloc_trim(0);
#endif
}
