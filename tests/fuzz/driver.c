/* Runs a fuzz target where there is no libFuzzer: over every file of a corpus, and over a fixed number of
 * mutations of each, the same ones every time.
 *
 *     fuzz_png CORPUS [MUTATIONS [SEED]]     fuzz_png FILE
 *
 * A crash names the file and the mutation; with MUTATION as a third number after the seed that one is run
 * alone, and written to ./fuzz-input, so that a debugger can have it. */
#include "fuzz.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SIZE ((size_t)1 << 20)

/* Random numbers: splitmix64 ---------------------------------------------------------------------------- */

static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static size_t below(uint64_t *state, size_t n)
{
    return n ? (size_t)(next(state) % n) : 0;
}

/* Mutations --------------------------------------------------------------------------------------------- */

typedef struct Input {
    uint8_t *bytes; /* room for MAX_SIZE */
    size_t size;
} Input;

static void remove_bytes(Input *in, size_t at, size_t n)
{
    memmove(in->bytes + at, in->bytes + at + n, in->size - at - n);
    in->size -= n;
}

static void insert_bytes(Input *in, size_t at, const uint8_t *from, size_t n)
{
    if (in->size + n > MAX_SIZE)
        return;
    memmove(in->bytes + at + n, in->bytes + at, in->size - at);
    memcpy(in->bytes + at, from, n);
    in->size += n;
}

/* Numbers that sizes and offsets go wrong at. */
static void put_number(Input *in, size_t at, uint64_t *random)
{
    static const uint64_t NUMBERS[] = {0,          1,          0x7F,       0x80,       0xFF,
                                       0x7FFF,     0xFFFF,     0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                                       0xFFFFFFFE, 0x10000000, UINT64_MAX, INT64_MAX,  UINT64_MAX - 7};
    const uint64_t n = NUMBERS[below(random, sizeof NUMBERS / sizeof *NUMBERS)];
    const size_t width = (size_t)1 << below(random, 4);
    const bool big_endian = next(random) & 1;
    for (size_t i = 0; i < width && at + i < in->size; i++)
        in->bytes[at + i] = (uint8_t)(n >> 8 * (big_endian ? width - 1 - i : i));
}

static void mutate_once(Input *in, const Input *other, uint64_t *random)
{
    const size_t at = below(random, in->size), n = 1 + below(random, 32);
    uint8_t piece[64];
    if (in->size == 0) {
        insert_bytes(in, 0, (const uint8_t *)"x", 1);
        return;
    }
    switch (below(random, 8)) {
    case 0:
        in->bytes[at] ^= (uint8_t)(1u << below(random, 8));
        break;
    case 1:
        in->bytes[at] = (uint8_t)next(random);
        break;
    case 2:
        put_number(in, at, random);
        break;
    case 3:
        remove_bytes(in, at, n < in->size - at ? n : in->size - at);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)next(random);
        insert_bytes(in, at, piece, n);
        break;
    case 5: /* a piece of itself stands twice, or elsewhere */
        memcpy(piece, in->bytes + at, n < in->size - at ? n : in->size - at);
        insert_bytes(in, below(random, in->size), piece, n < in->size - at ? n : in->size - at);
        break;
    case 6:
        in->size = at;
        break;
    default: { /* a piece of another file */
        const size_t from = below(random, other->size), left = other->size - from;
        insert_bytes(in, at, other->bytes + from, n < left ? n : left);
    }
    }
}

/* Running ----------------------------------------------------------------------------------------------- */

static char running[1024]; /* what to say when it crashes */

static void crashed(int number)
{
    const ssize_t ignored = write(STDERR_FILENO, running, strlen(running));
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

void __asan_on_error(void);
void __asan_on_error(void)
{
    const ssize_t ignored = write(STDERR_FILENO, running, strlen(running));
    (void)ignored;
}

static void run_input(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); /* of its own size: reading past the end is seen */
    if (!copy)
        fuzz_fail("out of memory");
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void read_input(const char *path, Input *out)
{
    char *data;
    if (file_read(path, MAX_SIZE, &data, &out->size) != STATUS_OK)
        fuzz_fail(status_message());
    out->bytes = malloc(MAX_SIZE);
    if (!out->bytes)
        fuzz_fail("out of memory");
    memcpy(out->bytes, data, out->size);
    mem_free(data);
}

static void run_mutation(const Input *corpus, int count, int i, uint64_t seed, long number, bool keep)
{
    static uint8_t room[MAX_SIZE];
    Input in = {.bytes = room, .size = corpus[i].size};
    uint64_t random = seed * 1000003u + (uint64_t)i * 65537u + (uint64_t)number;
    memcpy(room, corpus[i].bytes, in.size);
    for (size_t k = 1 + below(&random, 4); k; k--)
        mutate_once(&in, &corpus[below(&random, (size_t)count)], &random);
    if (keep && file_write_atomic("fuzz-input", in.bytes, in.size) != STATUS_OK)
        fuzz_fail(status_message());
    run_input(in.bytes, in.size);
}

static long run_corpus(const char *folder, long mutations, uint64_t seed, long only)
{
    char **names;
    int count;
    long runs = 0;
    if (dir_list(folder, &names, &count) != STATUS_OK)
        fuzz_fail(status_message());
    if (count == 0)
        fuzz_fail("the corpus is empty");
    Input *corpus = calloc((size_t)count, sizeof *corpus);
    for (int i = 0; i < count && corpus; i++) {
        char *path = path_join(folder, names[i]);
        read_input(path, &corpus[i]);
        mem_free(path);
    }
    for (int i = 0; i < count && corpus; i++) {
        for (long m = only < 0 ? -1 : only; m < (only < 0 ? mutations : only + 1); m++, runs++) {
            snprintf(running, sizeof running, "fuzz: in %s/%s, seed %llu, mutation %ld\n", folder, names[i],
                     (unsigned long long)seed, m);
            if (m < 0)
                run_input(corpus[i].bytes, corpus[i].size);
            else
                run_mutation(corpus, count, i, seed, m, only >= 0);
        }
    }
    for (int i = 0; i < count && corpus; i++)
        free(corpus[i].bytes);
    free(corpus);
    dir_list_free(names, count);
    return runs;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS|FILE [MUTATIONS [SEED [MUTATION]]]\n", argv[0]);
        return 2;
    }
    const int numbers[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE};
#ifndef __SANITIZE_ADDRESS__
    for (int i = 0; i < 4; i++)
        signal(numbers[i], crashed);
#else
    (void)numbers;
#endif
    if (!file_is_dir(argv[1])) {
        Input in;
        read_input(argv[1], &in);
        snprintf(running, sizeof running, "fuzz: in %s\n", argv[1]);
        run_input(in.bytes, in.size);
        free(in.bytes);
        return 0;
    }
    const long runs = run_corpus(argv[1], argc > 2 ? atol(argv[2]) : 0,
                                 argc > 3 ? strtoull(argv[3], NULL, 10) : 1, argc > 4 ? atol(argv[4]) : -1);
    printf("%ld inputs\n", runs);
    return 0;
}
