/* What a thread copies of a walk over windows (conv.h) for the tiles of tile.h: 16-byte chunks of the
 * source's pixels and of the weight's form. Nothing is laid out in memory: a thread remembers for each of its
 * rows where the pixel's window begins and which rows and columns of the window lie inside of the source, and
 * adds the same delta for the tap and channel of the step. A step is 32 channels of one tap; where channels
 * are no multiple of 8 it gathers them, 8 at a time, the last filled up with zeros, with one tap a chunk
 * instead of one a step. */
#ifndef ATL_CUDA_WINDOW_H
#define ATL_CUDA_WINDOW_H

#include "conv.h"
#include "tile.h"

/* What a thread copies: the windows of its rows of A and its rows of B, all in units of a chunk or, where it
 * gathers A, of an element. */
template <typename T, typename S, bool GATHER> struct WindowSource {
    const T *source, *form;
    int window[S::A_ROWS];      /* where its first pixel lies in the source */
    unsigned inside[S::A_ROWS]; /* bit u: row u of the window is; bit 16 + v: column v */
    int weights[S::B_ROWS];     /* where the row begins in the form, in chunks; −1: there is none */
    int C, W, padded, columns;  /* of the source; columns of the window */
    int taps, tap, u, v, c;     /* the next step: c of this thread's chunk */
    bool fours;       /* gathering: a pixel's channels are whole runs of 4, at multiples of 8 bytes */
    int delta, depth; /* from the window's beginning to the tap and channel, and so in the form */
};

/* A tap's place from its number and c. */
template <typename T, typename S> __device__ static inline void begin_tap(WindowSource<T, S, false> &s)
{
    s.delta = ((s.u * s.W + s.v) * s.C + s.c) / CHUNK;
    s.depth = (s.tap * s.padded + s.c) / CHUNK;
}

template <typename T, typename S, bool GATHER>
__device__ static inline void begin_windows(WindowSource<T, S, GATHER> &s, const ConvWalk &w,
                                            const ConvClass &k, int64_t row, int64_t column, int step)
{
    const int unit = GATHER ? 1 : CHUNK, lane = threadIdx.x / TILE_CHUNKS;
    const int64_t rows = w.pictures * k.rows.count * k.columns.count;
    s.source = (const T *)w.source;
    s.C = (int)w.C, s.W = (int)w.W, s.padded = (int)w.padded;
    s.columns = k.columns.taps, s.taps = k.rows.taps * k.columns.taps;
    s.form = (const T *)w.form + w.N * k.first_tap * w.padded;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const int64_t at = row + lane + i * S::LANES;
        s.inside[i] = 0, s.window[i] = 0;
        if (at >= rows)
            continue;
        const Pixel p = pixel_of(k, (int)at);
        const int y = p.r * w.step + k.rows.start, x = p.s * w.step + k.columns.start;
        s.window[i] = (int)(((p.picture * w.H + y) * w.W + x) * w.C / unit);
        for (int u = 0; u < k.rows.taps; u++)
            s.inside[i] |= (unsigned)(y + u >= 0 && y + u < w.H) << u;
        for (int v = 0; v < k.columns.taps; v++)
            s.inside[i] |= (unsigned)(x + v >= 0 && x + v < w.W) << (16 + v);
    }
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++) {
        const int64_t at = column + lane + i * S::LANES;
        const bool there = lane + i * S::LANES < S::N && at < w.N;
        s.weights[i] = there ? (int)(at * s.taps * w.padded / CHUNK) : -1;
    }
    if constexpr (GATHER) { /* steps by chunks, whatever tap they are of */
        s.depth = step * TILE_CHUNKS + threadIdx.x % TILE_CHUNKS;
        s.fours = s.C % 4 == 0 && (uintptr_t)s.source % 8 == 0;
    } else {
        const int steps = (s.padded + TILE_DEPTH - 1) / TILE_DEPTH; /* of a tap */
        s.tap = step / steps, s.c = step % steps * TILE_DEPTH + threadIdx.x % TILE_CHUNKS * CHUNK;
        s.u = s.tap / s.columns, s.v = s.tap % s.columns;
        begin_tap(s);
    }
}

template <typename T, typename S>
__device__ static inline void fetch_step(WindowSource<T, S, true> &s, Held<S, true> &held, T *)
{
    const int chunks = s.padded / CHUNK, tap = s.depth / chunks, c = s.depth % chunks * CHUNK;
    const int u = tap / s.columns, v = tap % s.columns;
    const int delta = (u * s.W + v) * s.C + c;
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++) {
        const bool valid = tap < s.taps && (s.inside[i] >> u & s.inside[i] >> (16 + v) & 1);
        const T *from = s.source + (s.window[i] + delta);
        const int count = valid ? s.C - c : 0;
        held.a[i] = s.fours ? gather_fours(from, count) : gather_chunk(from, count);
    }
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        fetch_chunk<true>(&held.b[i], NULL, s.form + (int64_t)(s.weights[i] + s.depth) * CHUNK,
                          tap < s.taps && s.weights[i] >= 0);
    s.depth += TILE_CHUNKS;
}

/* A step of the source alone. */
template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_source(const WindowSource<T, S, false> &s, Held<S, STAGED> &held,
                                           T *stage)
{
    const unsigned need = 1u << s.u | 1u << (16 + s.v);
#pragma unroll
    for (int i = 0; i < S::A_ROWS; i++)
        fetch_chunk<STAGED>(&held.a[i], stage + place_of<S, S::M>(i),
                            s.source + (int64_t)(s.window[i] + s.delta) * CHUNK,
                            s.c < s.C && (s.inside[i] & need) == need);
}

/* On to the next step; whether it is the first one of a tap. */
template <typename T, typename S> __device__ static inline bool next_step(WindowSource<T, S, false> &s)
{
    s.c += TILE_DEPTH, s.delta += TILE_CHUNKS, s.depth += TILE_CHUNKS;
    if (s.c - (int)threadIdx.x % TILE_CHUNKS * CHUNK < s.C)
        return false;
    s.c = threadIdx.x % TILE_CHUNKS * CHUNK;
    s.tap++, s.v++;
    if (s.v == s.columns)
        s.v = 0, s.u++;
    begin_tap(s);
    return true;
}

template <typename T, typename S, bool STAGED>
__device__ static inline void fetch_step(WindowSource<T, S, false> &s, Held<S, STAGED> &held, T *stage)
{
    fetch_source(s, held, stage);
#pragma unroll
    for (int i = 0; i < S::B_ROWS; i++)
        if (place_of<S, S::N>(i) >= 0)
            fetch_chunk<STAGED>(&held.b[i], stage + S::M * TILE_DEPTH + place_of<S, S::N>(i),
                                s.form + (int64_t)(s.weights[i] + s.depth) * CHUNK,
                                s.c < s.C && s.weights[i] >= 0);
    next_step(s);
}

template <bool GATHER> __host__ __device__ static inline int steps_of(int64_t taps, int64_t padded)
{
    const int64_t steps = GATHER ? (taps * (padded / CHUNK) + TILE_CHUNKS - 1) / TILE_CHUNKS
                                 : taps * ((padded + TILE_DEPTH - 1) / TILE_DEPTH);
    return (int)steps;
}

/* The best of this tile, if it is better than the best so far: with the parts' way through memory. */
template <typename S>
static inline void try_tile(const ConvWalk *w, int tile, int64_t steps, Tiling *best, double *least)
{
    const double blocks = (double)blocks_for(most_class_rows(w), S::M) * blocks_for(w->N, S::N) * w->classes;
    const double outputs = (double)(w->pictures * w->out_H * w->out_W * w->N);
    for (int splits = 1; splits <= 16 && splits * 4 <= steps + 3; splits++) {
        const double parts = splits > 1 ? 3000 + cache_clocks(outputs * (8.0 * splits + 4)) : 0;
        const double clocks = tile_clocks<S>(blocks * splits, (steps + splits - 1) / splits) + parts;
        if (*least == 0 || clocks < *least) {
            *least = clocks;
            *best = (Tiling){tile, splits};
        }
    }
}

#endif
