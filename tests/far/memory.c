/* Memory of the device `far`: one file in memory, mapped twice. The host is given addresses of the first
 * mapping, which it may not touch; calls are given the same places of the second. Blocks are pages of their
 * own with a page between them, and no address is given out twice. */
#include "queue.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION ((size_t)1 << 38)
#define PAGE ((size_t)4096)
#define BLOCKS 65536

typedef struct Block {
    size_t begin, bytes; /* bytes 0: given back */
} Block;

static char *outside, *inside; /* the host's mapping and the calls' */
static int file = -1;
static Block blocks[BLOCKS];
static int block_count;
static size_t end, taken;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void map(void)
{
    file = memfd_create("far", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)REGION) != 0)
        abort();
    const int flags = MAP_SHARED | MAP_NORESERVE;
    outside = mmap(NULL, REGION, PROT_NONE, flags, file, 0);
    inside = mmap(NULL, REGION, PROT_READ | PROT_WRITE, flags, file, 0);
    if (outside == MAP_FAILED || inside == MAP_FAILED)
        abort();
}

/* Drops the blocks that were given back. */
static void tidy(void)
{
    int kept = 0;
    for (int i = 0; i < block_count; i++)
        if (blocks[i].bytes)
            blocks[kept++] = blocks[i];
    block_count = kept;
}

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

void *far_memory_new(size_t bytes)
{
    pthread_once(&once, map);
    if (block_count == BLOCKS)
        tidy();
    if (block_count == BLOCKS || end + pages(bytes) + 2 * PAGE > REGION) {
        status_fail("the device of the tests has no memory left");
        return NULL;
    }
    const size_t begin = end + PAGE;
    blocks[block_count++] = (Block){begin, bytes ? bytes : 1};
    end = begin + pages(bytes ? bytes : 1);
    taken += bytes;
    memset(inside + begin, FAR_POISON, bytes);
    return outside + begin;
}

static Block *find(const void *p)
{
    const size_t at = (size_t)((const char *)p - outside);
    int low = 0, high = block_count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (blocks[middle].begin + blocks[middle].bytes <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < block_count && blocks[low].begin <= at ? &blocks[low] : NULL;
}

void far_memory_free(void *p, size_t bytes)
{
    Block *b = p ? find(p) : NULL;
    if (!b)
        return;
    taken -= bytes;
    fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)b->begin, (off_t)pages(b->bytes));
    b->bytes = 0;
}

bool far_owns(const void *p)
{
    const char *c = p;
    return outside && c >= outside && c < outside + REGION && find(p);
}

void *far_inside(const void *p)
{
    const char *c = p;
    const bool ours = outside && c >= outside && c < outside + REGION;
    return ours ? inside + (c - outside) : (void *)p; /* pinned memory is where it is */
}

size_t far_memory(void)
{
    return taken;
}
