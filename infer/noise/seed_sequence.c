/* O'Neill's seed sequence as numpy has it: the words of the seed are hashed into a pool, each word of the
 * pool is mixed into every other, then whatever words did not fit; the state is the pool hashed once more. */
#include "seed_sequence.h"

#define POOL 24
#define INIT_A 0x43b0d7e5u
#define MULT_A 0x931e8875u
#define INIT_B 0x8b51f9ddu
#define MULT_B 0x58f38dedu
#define MIX_LEFT 0xca01f9ddu
#define MIX_RIGHT 0x4973f715u

static uint32_t hash(uint32_t value, uint32_t *constant, uint32_t factor)
{
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static uint32_t mix(uint32_t x, uint32_t y)
{
    const uint32_t mixed = MIX_LEFT * x - MIX_RIGHT * y;
    return mixed ^ mixed >> 16;
}

/* A number as words of 32 bits, the lowest first, at least one. */
static int words_of(uint64_t number, uint32_t *out)
{
    out[0] = (uint32_t)number;
    out[1] = (uint32_t)(number >> 32);
    return out[1] ? 2 : 1;
}

void seed_sequence(uint64_t entropy, const uint64_t *place, int places, uint32_t *out, int count)
{
    uint32_t words[POOL + 2 * SEED_SEQUENCE_PLACES] = {0}, pool[POOL], constant = INIT_A;
    int given = words_of(entropy, words);
    if (places > 0)
        given = POOL;
    for (int i = 0; i < places; i++)
        given += words_of(place[i], words + given);
    for (int i = 0; i < POOL; i++)
        pool[i] = hash(i < given ? words[i] : 0, &constant, MULT_A);
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to)
                pool[to] = mix(pool[to], hash(pool[from], &constant, MULT_A));
    for (int from = POOL; from < given; from++)
        for (int to = 0; to < POOL; to++)
            pool[to] = mix(pool[to], hash(words[from], &constant, MULT_A));
    constant = INIT_B;
    for (int i = 0; i < count; i++)
        out[i] = hash(pool[i % POOL], &constant, MULT_B);
}
