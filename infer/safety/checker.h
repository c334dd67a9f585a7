/* CompVis's safety checker, as diffusers' StableDiffusionSafetyChecker: how near a picture is to 17 concepts
 * in CLIP's space, each with a threshold of its own, and to 3 more that make it stricter. */
#ifndef ATL_CHECKER_H
#define ATL_CHECKER_H

#include "data/pictures/picture.h"
#include "infer/models/model.h"

#define SAFETY_SPECIAL 3
#define SAFETY_CONCEPTS 17

typedef struct SafetyScores {
    int width;
    const float *embedding; /* (width): what CLIP makes of the picture; lives until the next call */
    float special_cosine[SAFETY_SPECIAL], concept_cosine[SAFETY_CONCEPTS];
    float special[SAFETY_SPECIAL], concept[SAFETY_CONCEPTS]; /* cosine - threshold, rounded to thousandths */
    int worst;                                               /* the concept with the highest score */
    bool flagged;                                            /* some concept's score is above 0 */
} SafetyScores;

typedef struct SafetyChecker SafetyChecker;
/* Whether m came with one: a folder safety_checker/ with a config.json. */
bool safety_checker_is_there(const Model *m);
/* Reads it, in c's storage type, onto c's device; c is borrowed. described: shapes alone, for a plan. Refused
 * where m has none. */
Status safety_checker_open(const Model *m, Ctx *c, bool described, SafetyChecker **out);
size_t safety_checker_bytes(const SafetyChecker *s);         /* of its weights */
Status safety_checker_plan(SafetyChecker *s, size_t *bytes); /* of the arena that a look takes */
void safety_checker_free(SafetyChecker *s);                  /* NULL allowed */
/* Nothing of a run's is changed: it may be called between training steps. */
Status safety_checker_look(SafetyChecker *s, const Picture *picture, SafetyScores *out);
/* What CLIP gets of the picture: the shorter side resized to its size, the middle cut out, f32 (n,n,3) with n
 * = *side. Caller: mem_free. */
Status safety_checker_pixels(const SafetyChecker *s, const Picture *picture, int *side, float **pixels);

#endif
