/* What the kernels of an update share: scratch memory, and which chunk of which tensor a block has. */
#ifndef ATL_CUDA_OPTIMIZER_H
#define ATL_CUDA_OPTIMIZER_H

#include "kernels/cuda/base/packs.h"

#include "kernels/state8.h"

#define CHUNK 8192
#define THREADS 256
#define ONE_BLOCK 1024 /* threads of a kernel of one block */

/* What differs from step to step. */
typedef struct Settings {
    double unscale, clip;
    double other_squares; /* of gradients elsewhere that belong to the norm */
    float decay[UPDATE_GROUPS], step_size[UPDATE_GROUPS];
    float new_m, keep_v, new_v, root, eps;
    float average_decay, average_new;
    float unused;
    float m_map[STATE8_CODES], v_map[STATE8_CODES]; /* of states in 8 bits */
} Settings;

/* What `decide` says to those after it. */
typedef struct Verdict {
    float grad_scale;
    int go;
} Verdict;

/* Scratch memory, and what is updated. */
typedef struct Work {
    Settings *settings;
    Verdict *verdict;
    Segment *segments;
    int64_t *chunk, *sample; /* the first of each tensor; and of none after the last */
    int64_t *room;           /* where its part of an 8-bit state begins */
    double *sums;            /* of tensors */
    double *parts;           /* of chunks: squares, then what they moved by */
    double *changes;         /* of chunks, where there is `from` */
    StepNumbers *numbers;
    float *w;
    void *m, *v;
    const float *g, *from;
    int64_t count, stride;
    int more, number; /* Update's */
} Work;

static int64_t chunks_of(const Update *u)
{
    int64_t chunks = 0;
    for (int i = 0; i < u->count; i++)
        chunks += (u->segments[i].count + CHUNK - 1) / CHUNK;
    return chunks;
}

/* The next piece of scratch memory. */
static void *take(char **at, size_t bytes)
{
    void *p = *at;
    *at += aligned_bytes(bytes);
    return p;
}

/* Lays the scratch memory out; at NULL to learn how much it is. */
static size_t lay_out(const Update *u, char *scratch, Work *s)
{
    const size_t chunks = (size_t)chunks_of(u), count = (size_t)u->count;
    char *at = scratch;
    s->settings = (Settings *)take(&at, sizeof(Settings));
    s->verdict = (Verdict *)take(&at, sizeof(Verdict));
    s->segments = (Segment *)take(&at, count * sizeof(Segment));
    s->chunk = (int64_t *)take(&at, (count + 1) * sizeof(int64_t));
    s->sample = (int64_t *)take(&at, (count + 1) * sizeof(int64_t));
    s->room = (int64_t *)take(&at, (count + 1) * sizeof(int64_t));
    s->sums = (double *)take(&at, count * sizeof(double));
    s->parts = (double *)take(&at, chunks * sizeof(double));
    s->changes = (double *)take(&at, chunks * sizeof(double));
    return (size_t)(at - scratch);
}

/* Chunks ---------------------------------------------------------------------------------------------- */

/* The block's chunk: of which tensor, and which of its numbers. found: in shared memory */
typedef struct Chunk {
    int64_t tensor, first, last;
} Chunk;

__device__ static inline Chunk chunk_of(const Work &s, int64_t *found)
{
    const int64_t number = blockIdx.x;
    for (int64_t i = threadIdx.x; i < s.count; i += THREADS)
        if (s.chunk[i] <= number && number < s.chunk[i + 1])
            *found = i;
    __syncthreads();
    Chunk c;
    c.tensor = *found;
    const int64_t count = s.segments[c.tensor].count;
    c.first = (number - s.chunk[c.tensor]) * CHUNK;
    c.last = c.first + CHUNK < count ? c.first + CHUNK : count;
    return c;
}

/* Whether numbers of blocks can be read by fours from number `first` on. */
__device__ static inline bool by_fours(const Segment &t)
{
    return t.first % 4 == 0;
}

#endif
