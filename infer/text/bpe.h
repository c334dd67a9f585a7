/* Byte pair encoding of one word (Sennrich et al. 2016). */
#ifndef ATL_BPE_H
#define ATL_BPE_H

#include "vocabulary.h"

typedef struct IdList {
    int32_t *items;
    int count, capacity;
} IdList;
Status idlist_add(IdList *l, int32_t id);

/* Appends the tokens of a word of `size` bytes (size > 0). */
Status bpe_encode(const Vocabulary *v, const uint8_t *word, size_t size, IdList *out);

#endif
