/* Textual inversion (Gal et al. 2022): words whose vectors were trained, of any number each, in files of
 * their own.
 *
 *     A1111       .pt: string_to_param, a dict of one tensor (n,768); .safetensors: emb_params
 *     diffusers   .bin, .safetensors: one tensor (768) or (n,768) under the word itself, "<cat-toy>"
 *
 * In a prompt an embedding is called by its file's name without the ending, and by the word in the file;
 * ComfyUI calls it embedding:NAME. */
#ifndef ATL_EMBEDDINGS_H
#define ATL_EMBEDDINGS_H

#include "kernels/base/status.h"

#include <stdint.h>

#define EMBEDDING_MOST 75 /* vectors: what a text encoder takes at once */

typedef struct Embedding {
    char *name;  /* the file's, without its ending */
    char *token; /* how the file itself calls it, where that is another; or NULL */
    int vectors, width;
    float *values; /* (vectors,width) */
} Embedding;
typedef struct EmbeddingSet {
    Embedding *items;
    int count, capacity;
    int width; /* of the model's own vectors; what has others is refused where a prompt names it. 0: any */
} EmbeddingSet;

/* What is no embedding is refused, also one of another kind of model that has several encoders. */
Status embedding_read(const char *path, Embedding *out);
void embedding_free(Embedding *e);
/* Adds a file; all of a folder and the folders in it, where files that are none are passed over with a
 * warning. */
Status embeddings_add(EmbeddingSet *s, const char *path);
Status embeddings_add_folder(EmbeddingSet *s, const char *folder);
/* Refuses an embedding whose vectors are not `width` numbers long, and says whose they are. */
Status embedding_check(const Embedding *e, int width);
void embeddings_free(EmbeddingSet *s);

#endif
