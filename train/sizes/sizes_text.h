/* The sizes of a run as lines of text. */
#ifndef ATL_SIZES_TEXT_H
#define ATL_SIZES_TEXT_H

#include "sizes.h"

/* Calls line for each size: how many pictures come to it, and how much of them is cut away. Of many sizes the
 * most frequent. Nothing where there is one size. */
void sizes_print(const RunSizes *s, void (*line)(const char *text, void *arg), void *arg);

#endif
