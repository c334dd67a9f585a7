/* What a picture's model is told at each step: the states of its prompt and of its negative prompt, which may
 * be of any length, with words that count more or less and words that change on the way. */
#ifndef ATL_TOLD_H
#define ATL_TOLD_H

#include "pipeline.h"
#include "prompts.h"

typedef struct Told Told;

/* Reads the prompts of a picture of so many pixels that is made in so many steps; nothing is computed.
 * Without guidance (1 or less) there is the prompt alone. What is wrong with a prompt is refused. r has to
 * stay. */
Status told_read(Prompts *p, const SampleRequest *r, Size size, int steps, Told **out);
void told_free(Told *t); /* NULL allowed */
/* A prompt of more chunks than the other makes both longer: each is repeated up to a common length, which
 * attention does not see. */
ConditioningShape told_shape(const Told *t);
/* 2 with guidance: the negative prompt and the prompt; 1 without, or where the model is told its guidance
 * scale as a number (latent consistency models). */
int told_batch(const Told *t);
/* Computes all that will be told. */
Status told_encode(Told *t);
/* Writes what is told at step i (from 0) into a batch's floats, where it is not what was told last. */
void told_at(Told *t, int i, float *text);

#endif
