/* Two passes: a picture, and the same enlarged and drawn over. */
#ifndef ATL_HIRES_H
#define ATL_HIRES_H

#include "pipeline.h"

/* How many passes r takes. */
int hires_passes(const SampleRequest *r);
/* The request of one of them, from 0, without the others; what the second begins from is to be filled in.
 * Refuses a second pass from a picture. */
Status hires_pass(const Model *m, const SampleRequest *r, int pass, SampleRequest *out);
/* Latents (channels,h,w) at another size, along lines between their middles, as PyTorch's bilinear
 * interpolate. */
void hires_enlarge(const float *in, Size from, int channels, Size to, float *out);

#endif
