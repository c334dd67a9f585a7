/* Textual inversion (Gal et al. 2022): words whose vectors were trained, of any number each, in files of
 * their own. */
#ifndef ATL_EMBEDDINGS_H
#define ATL_EMBEDDINGS_H

#include "kernels/base/status.h"

#include <stdint.h>

typedef struct Embedding {
    char *name;  /* the file's, without its ending */
    char *token; /* how the file itself calls it, "<cat-toy>", where that is another; or NULL */
    int vectors, width;
    float *values; /* (vectors,width) */
} Embedding;
typedef struct EmbeddingSet {
    Embedding *items;
    int count, capacity;
} EmbeddingSet;

#endif
