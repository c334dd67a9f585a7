/* The card that the stand-in claims to be. */
#ifndef TESTS_CUDA_CARD_H
#define TESTS_CUDA_CARD_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Card {
    int arch;                              /* compute capability, times ten */
    size_t shared_processor, shared_block; /* bytes */
    int threads, blocks;                   /* of a processor */
} Card;
const Card *card(void);
size_t card_memory(void); /* bytes */
/* Whether the calling thread's current card is the one that the process works on, which the first to ask
 * decides. CUDA would go on with another card there; here the call fails. */
bool card_is_current(void);

#endif
