/* Dynamic thresholding (Saharia et al. 2022). */
#ifndef ATL_THRESHOLD_H
#define ATL_THRESHOLD_H

#include <stddef.h>

/* Clamps x (n) to ± s and divides it by s: the quantile `ratio` of |x|, brought into [1, most].
 * scratch (n). */
void threshold_to_quantile(float *x, size_t n, float ratio, float most, float *scratch);

#endif
