/* The card that the stand-in claims to be. */
#ifndef TESTS_CUDA_CARD_H
#define TESTS_CUDA_CARD_H

#include <stddef.h>

typedef struct Card {
    int arch;                              /* compute capability, times ten */
    size_t shared_processor, shared_block; /* bytes */
    int threads, blocks;                   /* of a processor */
} Card;
const Card *card(void);
size_t card_memory(void); /* bytes */

#endif
