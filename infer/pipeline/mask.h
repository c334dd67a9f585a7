/* Masks: grey pictures, three equal bytes a pixel, white where something is to be done. */
#ifndef ATL_MASK_H
#define ATL_MASK_H

#include "data/pictures/picture.h"
#include "infer/compat/compat.h"

/* Brightness of p as Pillow's "L" has it, at the size. */
Status mask_of(const Picture *p, Size size, Picture *out);
/* Softens the edges by a Gaussian of σ pixels, cut off at 2.5 σ; over the picture's edge it is mirrored. */
Status mask_blur(Picture *mask, int sigma);
/* The smallest window that holds all that is not black; false: there is none. */
bool mask_bounds(const Picture *mask, int *x, int *y, Size *size);
/* out (h,w), h = H/factor, 0 to 1. */
void mask_reduce(const Picture *mask, int factor, MaskReduction how, float *out);

#endif
