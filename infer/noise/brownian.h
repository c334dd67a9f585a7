/* A Brownian motion W over [start, end] that depends on its seed alone, not on where it is asked for and in
 * which order: the noise of k-diffusion's SDE samplers, as torchsde's BrownianTree draws it (halved again and
 * again, points rounded to 1e-6, each node's noise of a seed of its own).
 *
 * It keeps no tree: an increment is found by going down from the whole again. */
#ifndef ATL_BROWNIAN_H
#define ATL_BROWNIAN_H

#include "noise.h"

typedef struct Brownian Brownian;
/* n motions at once, start < end. The generator of each node's noise is of that kind. */
Status brownian_new(double start, double end, uint64_t seed, NoiseKind kind, size_t n, Brownian **out);
void brownian_free(Brownian *b);
/* out (n) = W(to) - W(from), from ≤ to, both brought into [start, end]. */
void brownian_increment(Brownian *b, double from, double to, float *out);

#endif
