/* Every allocation of Atelier's own goes through here, so that a test can make each of them fail in turn.
 * A NULL from mem_alloc and its kin leaves "out of memory (N bytes)" as the thread's status message. */
#ifndef ATL_MEM_H
#define ATL_MEM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t bytes); /* 64-byte aligned, not cleared; 0 bytes gives a valid pointer */
void *mem_calloc(size_t count, size_t bytes); /* cleared; checks count * bytes for overflow */
void *mem_realloc(void *p, size_t bytes);     /* p from mem_alloc/mem_calloc/mem_realloc or NULL */
void mem_free(void *p);                       /* NULL is allowed */
/* Room for one more item of a list that has count: list is the address of the pointer to its items, of so
 * many bytes each, and *capacity the room so far. It grows to twice that. False: out of memory, and the list
 * is as it was. */
bool mem_grow(void *list, int count, int *capacity, size_t bytes);
char *mem_strdup(const char *text);
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2))); /* NULL: out of memory */
char *mem_vprintf(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

/* Pages straight from the kernel, for arenas and weights: cleared, page aligned, counted when touched. */
void *mem_pages(size_t bytes);
void mem_pages_free(void *p, size_t bytes);
/* Gives back the whole pages of a read-only file mapping among these bytes; they come again when touched. */
void mem_pages_rest(const void *p, size_t bytes);

/* For the whole process, once, before anything large is taken: blocks of a megabyte or more are the kernel's
 * pages and go back to it when they are freed. glibc by itself raises that limit with what is freed, up to 32
 * MB, and then weights lie in a heap with holes between them. */
void mem_keep_large_apart(void);

/* Gives the system back what is free on the heap. To be called where many blocks have been freed for good. */
void mem_give_back(void);

/* Asked before each allocation; returning nonzero makes it fail. NULL removes the hook. For tests. */
void mem_set_hook(int (*refuse)(size_t bytes, void *arg), void *arg);

/* Bytes that were given out by the functions above and not freed yet. */
size_t mem_in_use(void);

#endif
