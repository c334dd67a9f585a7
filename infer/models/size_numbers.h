/* What SDXL is told of a picture's size (Podell et al. 2023, section 2.2): what it had before it was made
 * smaller, from where it was cut, and for what size. */
#ifndef ATL_SIZE_NUMBERS_H
#define ATL_SIZE_NUMBERS_H

#include "data/pictures/size.h"

#define SIZE_NUMBERS 6
#define SIZE_MOST 65536 /* a side, or what is cut off of it */

typedef struct SizeNumbers {
    Size original;
    int top, left;
    Size target;
} SizeNumbers;

/* As the UNet takes them: heights before widths. */
static inline void size_numbers_write(const SizeNumbers *n, float out[SIZE_NUMBERS])
{
    const int all[SIZE_NUMBERS] = {n->original.height, n->original.width, n->top, n->left,
                                   n->target.height,   n->target.width};
    for (int i = 0; i < SIZE_NUMBERS; i++)
        out[i] = (float)all[i];
}

#endif
