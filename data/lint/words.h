/* Captions of one dataset, compared by their words. */
#ifndef ATL_WORDS_H
#define ATL_WORDS_H

#include "kernels/base/status.h"

#include <stdbool.h>

/* alone[i]: no word of caption i (NULL or empty: none) stands in any other. Words are letters and digits,
 * three bytes or longer, in any case. */
Status words_alone(const char *(*caption)(const void *set, int i), const void *set, int count, bool *alone);

#endif
