/* Watching what kernels read and write (watch.c), where they have been compiled with -fsanitize=thread: gcc
 * then calls a function before each access, hooks.c. */
#ifndef TESTS_CUDA_WATCH_H
#define TESTS_CUDA_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Some kernel has been compiled so. The others below are to be called only then. */
extern bool watch_on;

typedef enum WatchKind {
    WATCH_READ,
    WATCH_WRITE,
    WATCH_ATOMIC,
    WATCH_LANDS /* written by a copy that was begun earlier */
} WatchKind;
/* The running thread does it, by an instruction after which is `place`. aligned: to its size, or it is a
 * mistake. */
void watch_access(const void *p, size_t bytes, WatchKind kind, bool aligned, const void *place);

/* What orders accesses: a new launch, a new block, a barrier, __syncwarp. */
void watch_launch(void);
void watch_block(int threads);
void watch_barrier(void);
void watch_syncwarp(int warp, unsigned mask);
/* Memory that has been given back. */
void watch_forget(const char *p, size_t bytes);

/* sites.c: places in the code, by number from 1. */
unsigned site_of(const void *place);
unsigned site_of_function(const void *function);
/* Looks their lines up all at once, which takes no longer than one of them. */
void sites_ask(const unsigned *sites, int n);
/* "FILE:LINE (FUNCTION)" of a site, and of whatever that is inlined in; what can be found of it. */
void site_name(char *text, size_t size, unsigned site);
/* A function with the arguments of its template, "kernel<float, 4>"; text stays as it is where that is not
 * known. */
void site_function(char *text, size_t size, const void *function);
/* p lies in the program or one of its libraries: a table, a variable. */
bool site_in_program(const void *p);

#endif
