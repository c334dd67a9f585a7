/* Noise between that of two seeds. */
#ifndef ATL_VARIATION_H
#define ATL_VARIATION_H

#include "data/pictures/size.h"

/* noise (channels,h,w), `share` of the way to other, on an arc, so that it is as much noise as they are:
 * A1111's, which takes each column of each channel as a vector. */
void noise_between(float *noise, const float *other, float share, int channels, Size size);

#endif
