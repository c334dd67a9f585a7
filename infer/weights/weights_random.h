/* Filling a new weight with random numbers, many at a time: SD1.5's UNet has 860 million. The numbers are
 * those of the key's Philox stream (kernels/base/random.h), whatever the number of threads. */
#ifndef ATL_WEIGHTS_RANDOM_H
#define ATL_WEIGHTS_RANDOM_H

#include "kernels/base/random.h"
#include "kernels/tensor.h"

void random_fill_constant(Tensor *t, float value);
void random_fill_uniform(Tensor *t, RandomKey key, float bound); /* U(-bound, bound) */
void random_fill_normal(Tensor *t, RandomKey key, float std);    /* N(0, std²) */

#endif
