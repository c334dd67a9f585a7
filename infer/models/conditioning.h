/* What a model is told besides the picture and the timestep: the states of a text, a vector of the whole of
 * it, and numbers that come from elsewhere.
 *
 *     SD1.x, SD2.x   states (B,77,768 or 1024)
 *     SDXL           states of two encoders side by side (B,77,2048), pooled (B,1280), six numbers of size
 * and crop SD3, FLUX      T5's states (B,T,4096), pooled (B,768 or 2048), a guidance number
 *
 * How many encoders a model has is known in conditioning.c alone. On the host it is floats: a batch's lie
 * part after part, (B,T,D), (B,P), (B,N), and what a text alone gives is (T,D), (P). */
#ifndef ATL_CONDITIONING_H
#define ATL_CONDITIONING_H

#include "kernels/base/status.h"
#include "kernels/ctx.h"

typedef struct Model Model;

typedef struct ConditioningShape {
    int ids;           /* tokens that a text becomes, of all encoders together */
    int tokens, width; /* T and D */
    int pooled;        /* P; 0: there is none */
    int extra;         /* N: numbers that no text says; 0: none */
} ConditioningShape;

/* In a step, in the context's dtype. */
typedef struct Conditioning {
    Tensor *states; /* (B,T,D) */
    Tensor *pooled; /* (B,P), or NULL */
    Tensor *extra;  /* f32 (B,N), or NULL */
} Conditioning;

/* What m takes. Its text encoder, or the shapes of one, must be there. */
ConditioningShape conditioning_shape(const Model *m);
/* Floats of one text: states and pooled. */
int64_t conditioning_text_size(const ConditioningShape *s);
/* Floats of a batch. */
int64_t conditioning_size(const ConditioningShape *s, int batch);
/* Where the states (0), the pooled vector (1) and the extra numbers (2) of sample `place` begin among a
 * batch's floats, and how many they are. */
#define CONDITIONING_PARTS 3
int64_t conditioning_part(const ConditioningShape *s, int batch, int place, int part, int64_t *count);
/* Puts what a text gave in as sample number `place` of a batch. */
void conditioning_place(const ConditioningShape *s, int batch, int place, const float *text, float *all);

/* A text's tokens for each encoder, one after the other: s.ids numbers. */
Status conditioning_ids(const Model *m, const char *text, int32_t *ids);

/* In a step: ------------------------------------------------------------------------------------------- */

/* From tokens (B, ids), through the encoders: on the tape, where they are trained. The extra numbers are the
 * caller's to add. */
Conditioning conditioning_encode(Ctx *c, const Model *m, int clip_skip, int batch, const int32_t *ids);
/* The same of one text, with others in place of some tokens' vectors. */
typedef struct TokenVectors {
    const float *keep, *other; /* (T,D): 1 where a token's own stays, else 0; the others' numbers, else 0 */
} TokenVectors;
Conditioning conditioning_encode_with(Ctx *c, const Model *m, int clip_skip, const int32_t *ids,
                                      const TokenVectors *v);
/* Reads out what conditioning_encode made of one text. */
void conditioning_read(Ctx *c, const Conditioning *k, float *text);
/* From a batch's floats. */
Conditioning conditioning_input(Ctx *c, const ConditioningShape *s, int batch, const float *all);

#endif
