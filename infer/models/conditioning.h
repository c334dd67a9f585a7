/* What a model is told besides the picture and the timestep: the states of a text, a vector of the whole of
 * it, and numbers that come from elsewhere.
 *
 *     SD1.x, SD2.x   states (B,77,768 or 1024)
 *     SDXL           states of two encoders side by side (B,77,2048), pooled (B,1280), six numbers of size
 *                    and crop
 *     SD3, FLUX      T5's states (B,T,4096), pooled (B,768 or 2048), a guidance number
 *
 * How many encoders a model has is known in conditioning.c alone. On the host it is floats: a batch's lie
 * part after part, (B,T,D), (B,P), (B,N), (B,G), and what a text alone gives is (T,D), (P). */
#ifndef ATL_CONDITIONING_H
#define ATL_CONDITIONING_H

#include "kernels/base/status.h"
#include "kernels/ctx.h"

typedef struct Model Model;

#define ENCODERS_MAX 2

typedef struct ConditioningShape {
    int ids;                  /* tokens that a text becomes, of all encoders together */
    int tokens, width;        /* T and D */
    int widths[ENCODERS_MAX]; /* of each encoder's states, which make up D; 0: there is no second */
    int pooled;               /* P; 0: there is none */
    int extra;                /* N: numbers of size, which no text says; 0: none */
    int guidance;             /* G: 1 where the guidance scale is told, else 0 */
} ConditioningShape;

/* In a step, in the context's dtype. */
typedef struct Conditioning {
    Tensor *states;   /* (B,T,D) */
    Tensor *pooled;   /* (B,P), or NULL */
    Tensor *extra;    /* f32 (B,N), or NULL */
    Tensor *guidance; /* f32 (B,1), or NULL */
} Conditioning;

/* What m takes. Its text encoders, or their shapes, must be there. guidance is 0: it is told where pictures
 * are drawn, not in training. */
ConditioningShape conditioning_shape(const Model *m);
/* Floats of one text: states and pooled. */
int64_t conditioning_text_size(const ConditioningShape *s);
/* Floats of a batch. */
int64_t conditioning_size(const ConditioningShape *s, int batch);
/* Where a part of sample `place` begins among a batch's floats, and how many numbers it has there. */
enum {
    CONDITIONING_STATES,
    CONDITIONING_POOLED,
    CONDITIONING_EXTRA,
    CONDITIONING_GUIDANCE,
    CONDITIONING_PARTS
};
int64_t conditioning_part(const ConditioningShape *s, int batch, int place, int part, int64_t *count);
/* Puts what a text gave in as sample number `place` of a batch. */
void conditioning_place(const ConditioningShape *s, int batch, int place, const float *text, float *all);

/* A text's tokens for each encoder, one after the other: s.ids numbers. */
Status conditioning_ids(const Model *m, const char *text, int32_t *ids);

/* Marks what of m's encoders a text does not go through, so that it is not trained. */
void conditioning_mark_idle(Model *m);

/* In a step: ------------------------------------------------------------------------------------------- */

/* From tokens (B, ids), through the encoders: on the tape, where they are trained. Numbers that no text says
 * are the caller's to add. */
Conditioning conditioning_encode(Ctx *c, const Model *m, int clip_skip, int batch, const int32_t *ids);
/* The same of one text, with others in place of some tokens' vectors. */
typedef struct TokenVectors {
    /* (T,D) of each encoder, one after the other: 1 where a token's own stays, else 0; the others' numbers,
     * else 0 */
    const float *keep, *other;
} TokenVectors;
Conditioning conditioning_encode_with(Ctx *c, const Model *m, int clip_skip, const int32_t *ids,
                                      const TokenVectors *v);
/* The same as pointers, one for each of a text's tokens, NULL where its own vector stays: made of them are
 * keep and other, of as many numbers as a text has states. */
void conditioning_vectors(const ConditioningShape *s, const float *const *vectors, float *keep, float *other);
/* Width of the vector of token number i of a text. */
int conditioning_vector_width(const ConditioningShape *s, int i);
/* Reads out what conditioning_encode made of one text. */
void conditioning_read(Ctx *c, const Conditioning *k, float *text);
/* From a batch's floats. */
Conditioning conditioning_input(Ctx *c, const ConditioningShape *s, int batch, const float *all);

#endif
