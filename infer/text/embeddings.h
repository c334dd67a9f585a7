/* Textual inversion (Gal et al. 2022): words whose vectors were trained, of any number each, in files of
 * their own.
 *
 *     A1111       .pt: string_to_param, a dict of one tensor (n,768); .safetensors: emb_params
 *     diffusers   .bin, .safetensors: one tensor (768) or (n,768) under the word itself, "<cat-toy>"
 *     SDXL        .safetensors: clip_l (n,768) and clip_g (n,1280), one for each text encoder
 *
 * In a prompt an embedding is called by its file's name without the ending, and by the word in the file;
 * ComfyUI calls it embedding:NAME. */
#ifndef ATL_EMBEDDINGS_H
#define ATL_EMBEDDINGS_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define EMBEDDING_MOST 75 /* vectors: what a text encoder takes at once */

typedef struct Embedding {
    char *name;  /* the file's, without its ending */
    char *token; /* how the file itself calls it, where that is another; or NULL */
    int vectors, width;
    float *values;   /* (vectors,width) */
    int width_2;     /* for SDXL's second text encoder; 0: it was made for models with one */
    float *values_2; /* (vectors,width_2), or NULL */
} Embedding;
typedef struct EmbeddingSet {
    Embedding *items;
    int count, capacity;
    /* Of the model's own vectors, the second encoder's 0 where it has none; what has others is refused where
     * a prompt names it. width 0: any. */
    int width, width_2;
    bool second; /* prompts take the vectors for the second text encoder */
} EmbeddingSet;

/* What is no embedding is refused. */
Status embedding_read(const char *path, Embedding *out);
void embedding_free(Embedding *e);
/* Adds a file; all of a folder and the folders in it, where files that are none are passed over with a
 * warning. */
Status embeddings_add(EmbeddingSet *s, const char *path);
Status embeddings_add_folder(EmbeddingSet *s, const char *folder);
/* Refuses an embedding whose vectors are not `width` numbers long, and for a second text encoder width_2, and
 * says whose they are. */
Status embedding_check(const Embedding *e, int width, int width_2);
void embeddings_free(EmbeddingSet *s);

#endif
