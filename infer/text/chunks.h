/* A prompt as the text encoder takes it: chunks of 75 tokens between BOS and EOS, whose states are joined. */
#ifndef ATL_CHUNKS_H
#define ATL_CHUNKS_H

#include "embeddings.h"
#include "emphasis.h"
#include "tokenizer.h"

#define COMMA_BACKTRACK 20 /* A1111: a full chunk is ended at a comma as near as this */

/* How prompts are read. */
typedef struct PromptReading {
    PromptSyntax syntax;
    bool chunks; /* as many as the prompt needs; else what does not go into one is cut off */
} PromptReading;

typedef struct PromptChunks {
    int count, length;     /* chunks, and tokens of each with BOS and EOS: the encoder's positions */
    int tokens;            /* of the prompt, before cutting */
    int32_t *ids;          /* (count,length) */
    float *weights;        /* (count,length) */
    const float **vectors; /* (count,length): of an embedding, in place of the token's own; or NULL */
    bool weighted;         /* a weight is not 1 */
} PromptChunks;

/* embeddings: NULL allowed; they have to stay. Refuses text that is no UTF-8, and embeddings longer than a
 * chunk. *out is prompt_chunks_free's. */
Status prompt_chunks(const Tokenizer *t, const EmbeddingSet *embeddings, PromptReading how, const char *text,
                     int length, PromptChunks *out);
/* Adds chunks of the empty prompt until there are `count`. */
Status prompt_chunks_pad(const Tokenizer *t, int count, PromptChunks *c);
void prompt_chunks_free(PromptChunks *c);

#endif
