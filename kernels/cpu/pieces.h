/* Loops over many elements, cut into pieces of a fixed size and shared out among the threads.
 *
 * The pieces depend on the shape alone, never on the number of threads; small loops stay on the caller's
 * thread, because waking the others costs more than they save. The loop body is a function of its own on
 * purpose: what stands inside an OpenMP region is outlined before inlining, and its constants (storage types)
 * would be lost. */
#ifndef ATL_CPU_PIECES_H
#define ATL_CPU_PIECES_H

#include <stdint.h>

#define PIECE_ELEMENTS 8192

typedef void (*PieceFn)(const void *args, int64_t first, int64_t last);

/* Calls fn for pieces [first, last) of 0 … n-1, where each item stands for `width` elements of work. */
static inline void for_pieces(int64_t n, int64_t width, PieceFn fn, const void *args)
{
    const int64_t piece = width >= PIECE_ELEMENTS ? 1 : PIECE_ELEMENTS / width;
    const int64_t count = (n + piece - 1) / piece;
    if (n * width <= 2 * PIECE_ELEMENTS) {
        if (n > 0)
            fn(args, 0, n);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        fn(args, i * piece, (i + 1) * piece < n ? (i + 1) * piece : n);
}

#endif
