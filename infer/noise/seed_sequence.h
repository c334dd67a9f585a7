/* numpy.random.SeedSequence: many seeds made of one, which torchsde's Brownian trees take theirs from. */
#ifndef ATL_SEED_SEQUENCE_H
#define ATL_SEED_SEQUENCE_H

#include <stdint.h>

#define SEED_SEQUENCE_PLACES 2
/* The first count words that a sequence of this entropy with a pool of 24 gives, spawned at a place of so
 * many numbers (at most SEED_SEQUENCE_PLACES; 0: not spawned). */
void seed_sequence(uint64_t entropy, const uint64_t *place, int places, uint32_t *out, int count);

#endif
