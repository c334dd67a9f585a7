#include "brownian.h"

#include "kernels/base/mem.h"
#include "seed_sequence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part of the motion; key and depth are what torchsde calls its node in the tree of halves. */
typedef struct Node {
    double start, end;
    uint64_t key;
    uint32_t depth;
} Node;

struct Brownian {
    Node whole;
    uint64_t seed;
    NoiseKind kind;
    size_t n;
    Noise generator;
    float *W, *right, *spare, *noise; /* (n) each: increments over the node at hand and over parts of it */
};

/* Python's round(x, 6) */
static double rounded(double x)
{
    char text[64];
    snprintf(text, sizeof text, "%.6f", x);
    return strtod(text, NULL);
}

Status brownian_new(double start, double end, uint64_t seed, NoiseKind kind, size_t n, Brownian **out)
{
    *out = NULL;
    Brownian *b = mem_calloc(1, sizeof *b);
    if (!b)
        return STATUS_FAILED;
    *b = (Brownian){.whole = {rounded(start), rounded(end), 0, 0}, .seed = seed, .kind = kind, .n = n};
    b->W = mem_alloc((n ? 4 * n : 1) * sizeof *b->W);
    if (!b->W) {
        brownian_free(b);
        return STATUS_FAILED;
    }
    b->right = b->W + n;
    b->spare = b->right + n;
    b->noise = b->spare + n;
    *out = b;
    return STATUS_OK;
}

void brownian_free(Brownian *b)
{
    if (!b)
        return;
    mem_free(b->W);
    mem_free(b);
}

static void draw_of(Brownian *b, uint32_t seed)
{
    noise_seed(&b->generator, b->kind, seed);
    noise_draw(&b->generator, b->noise, b->n);
}

static void begin(Brownian *b)
{
    uint32_t seed;
    seed_sequence(b->seed, NULL, 0, &seed, 1);
    draw_of(b, seed);
    const float scale = (float)sqrt(b->whole.end - b->whole.start);
    for (size_t k = 0; k < b->n; k++)
        b->W[k] = b->noise[k] * scale;
}

static double middle_of(Node v)
{
    return rounded(0.5 * (v.end + v.start));
}

static Node left_of(Node v, double middle)
{
    return (Node){v.start, middle, 2 * v.key, v.depth + 1};
}

static Node right_of(Node v, double middle)
{
    return (Node){middle, v.end, 2 * v.key + 1, v.depth + 1};
}

/* W over v -> over its halves, which meet at middle; NULL: that one is not needed, either may be W's place.
 * The left half is its share of the whole and the noise of a bridge between the ends. */
static void halve(Brownian *b, Node v, double middle, const float *W, float *left, float *right)
{
    const double before = middle - v.start, after = v.end - middle, share = 1 / (v.end - v.start);
    const uint64_t place[2] = {v.key, v.depth};
    uint32_t seed;
    seed_sequence(b->seed, place, 2, &seed, 1);
    draw_of(b, seed);
    const float deviation = (float)sqrt(before * after * share);
    for (size_t k = 0; k < b->n; k++) {
        const float whole = W[k];
        const float half = (float)before * whole * (float)share + deviation * b->noise[k];
        if (right)
            right[k] = whole - half;
        if (left)
            left[k] = half;
    }
}

static void add(const Brownian *b, const float *W, float *out)
{
    for (size_t k = 0; k < b->n; k++)
        out[k] += W[k];
}

/* Adds the increment from `from` to v's end; W is over v, and is used up. */
static void add_end(Brownian *b, Node v, double from, float *W, float *out)
{
    while (from > v.start && from < v.end) {
        const double middle = middle_of(v);
        if (from < middle) {
            halve(b, v, middle, W, W, b->spare);
            add(b, b->spare, out);
            v = left_of(v, middle);
        } else {
            halve(b, v, middle, W, NULL, W);
            v = right_of(v, middle);
        }
    }
    if (from <= v.start)
        add(b, W, out);
}

/* The same from v's start to `to`. */
static void add_start(Brownian *b, Node v, double to, float *W, float *out)
{
    while (to > v.start && to < v.end) {
        const double middle = middle_of(v);
        if (to > middle) {
            halve(b, v, middle, W, b->spare, W);
            add(b, b->spare, out);
            v = right_of(v, middle);
        } else {
            halve(b, v, middle, W, W, NULL);
            v = left_of(v, middle);
        }
    }
    if (to >= v.end)
        add(b, W, out);
}

void brownian_increment(Brownian *b, double from, double to, float *out)
{
    Node v = b->whole;
    from = rounded(fmin(fmax(from, v.start), v.end));
    to = rounded(fmin(fmax(to, v.start), v.end));
    memset(out, 0, b->n * sizeof *out);
    if (!(from < to))
        return;
    begin(b);
    while (from > v.start || to < v.end) {
        const double middle = middle_of(v);
        if (to <= middle) {
            halve(b, v, middle, b->W, b->W, NULL);
            v = left_of(v, middle);
        } else if (from >= middle) {
            halve(b, v, middle, b->W, NULL, b->W);
            v = right_of(v, middle);
        } else {
            halve(b, v, middle, b->W, b->W, b->right);
            add_end(b, left_of(v, middle), from, b->W, out);
            add_start(b, right_of(v, middle), to, b->right, out);
            return;
        }
    }
    add(b, b->W, out);
}
