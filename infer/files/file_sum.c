/* Each sum goes on as s = (s ^ word) · odd: both halves of it can be undone, so that two different words
 * never lead to one sum. */
#include "file_sum.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LANES 4
#define BLOCK (LANES * sizeof(uint64_t))
#define CHUNK ((size_t)1 << 20) /* a multiple of BLOCK */
#define ODD 0x9e3779b97f4a7c15u /* 2^64 over the golden ratio */

typedef struct Sum {
    uint64_t lanes[LANES], bytes;
} Sum;

static void add_blocks(Sum *s, const char *bytes, size_t count)
{
    uint64_t words[LANES];
    for (size_t at = 0; at < count; at += BLOCK) {
        memcpy(words, bytes + at, BLOCK);
        for (int i = 0; i < LANES; i++) {
            s->lanes[i] = (s->lanes[i] ^ words[i]) * ODD;
            s->lanes[i] ^= s->lanes[i] >> 32;
        }
    }
    s->bytes += count;
}

/* Only the last piece is no whole number of blocks; it is filled up with zeros, and the length tells them. */
static void add(Sum *s, const char *bytes, size_t count)
{
    char rest[BLOCK] = {0};
    const size_t whole = count / BLOCK * BLOCK;
    add_blocks(s, bytes, whole);
    if (count == whole)
        return;
    memcpy(rest, bytes + whole, count - whole);
    add_blocks(s, rest, BLOCK);
    s->bytes += count - whole - BLOCK;
}

static void finish(const Sum *s, char hex[SUM_HEX_SIZE])
{
    uint64_t all = s->bytes;
    for (int i = 0; i < LANES; i++) {
        all = (all ^ s->lanes[i]) * ODD;
        all ^= all >> 32;
    }
    snprintf(hex, SUM_HEX_SIZE, "%016" PRIx64, all);
}

void text_sum(const char *text, size_t size, char hex[SUM_HEX_SIZE])
{
    Sum s = {0};
    add(&s, text, size);
    finish(&s, hex);
}

/* As much as there is, up to a chunk: less only at the file's end. −1: errno. */
static ssize_t read_chunk(int fd, char *chunk)
{
    size_t used = 0;
    while (used < CHUNK) {
        const ssize_t n = read(fd, chunk + used, CHUNK - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

Status file_sum(const char *path, char hex[SUM_HEX_SIZE])
{
    Sum s = {0};
    ssize_t n = 0;
    char *chunk = mem_alloc(CHUNK);
    if (!chunk)
        return STATUS_FAILED;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read_chunk(fd, chunk)) > 0)
        add(&s, chunk, (size_t)n);
    const Status status = fd < 0 || n < 0 ? file_failed(path, "cannot be read") : STATUS_OK;
    if (fd >= 0)
        close(fd);
    mem_free(chunk);
    finish(&s, hex);
    return status;
}
