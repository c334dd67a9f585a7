/* A byte-level BPE vocabulary as encoding needs it: the ids of the 256 bytes, the merges as pairs of ids, and
 * the special tokens. The texts of the other tokens are not kept: nothing asks for them.
 *
 * CLIP's own vocabulary is built in as its 48,894 merges, two 16-bit ids each (clip_merges.bin,
 * little-endian, made by scripts/reference/tokenizer.py from OpenAI's bpe_simple_vocab_16e6.txt, MIT
 * licence): merge i makes token 512 + i. Ids 0 to 255 are the bytes in the order of their stand-in
 * characters, 256 to 511 the same with "</w>". */
#ifndef ATL_VOCABULARY_H
#define ATL_VOCABULARY_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* (left,right) -> what they become and how early the merge was learned; open addressing. */
typedef struct Merge {
    int32_t left, right; /* left -1: free */
    int32_t merged, rank;
} Merge;
typedef struct MergeTable {
    Merge *slots;
    uint32_t capacity; /* a power of two, at least twice the merges */
} MergeTable;

typedef struct SpecialToken {
    char *text;
    size_t length;
    int32_t id;
    bool normalized; /* looked for after normalising, so in any case of letters; else before, exactly */
} SpecialToken;

typedef struct Vocabulary {
    MergeTable merges;
    int32_t byte_id[2]
                   [256]; /* [0] inside a word, [1] at its end ("</w>"); unk where the vocabulary lacks it */
    SpecialToken *special;
    int special_count;
    int size;
    int32_t bos, eos, pad, unk;
} Vocabulary;

Status vocabulary_builtin(Vocabulary *out);
/* tokenizer.json, or vocab.json and merges.txt; special tokens as tokenizer_config.json and
 * special_tokens_map.json have them, CLIP's where they say nothing. */
Status vocabulary_open(const char *folder, Vocabulary *out);
/* The same from texts: the file of that name in such a folder, or NULL. */
Status vocabulary_open_texts(const char *(*text)(void *arg, const char *name), void *arg, Vocabulary *out);
void vocabulary_free(Vocabulary *v);
/* Makes text (which is token id) special and matched exactly, once; a later call for the same text wins. */
Status vocabulary_add_special(Vocabulary *v, const char *text, int32_t id, bool normalized);
const Merge *vocabulary_merge(const Vocabulary *v, int32_t left, int32_t right); /* NULL: they do not merge */

#endif
