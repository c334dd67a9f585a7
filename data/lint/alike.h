/* Pictures that look the same though their files differ: another size, another quality, a little cut off. */
#ifndef ATL_ALIKE_H
#define ATL_ALIKE_H

#include "data/pictures/picture.h"

#define ALIKE_SIZE ((Size){9, 8}) /* of the small picture that a look is made of */

/* 64 bits: whether each pixel of the small picture is darker than the next in its row (Krawetz 2013,
 * "dHash"); 0: it is too even to say anything. */
uint64_t alike_look(const Picture *small);

typedef struct AlikePicture {
    uint64_t look;
    int number;
} AlikePicture;
/* Calls each for every pair of which at most 3 bits differ. Sorts items. n log n, but for pictures that are
 * all alike. */
void alike_pairs(AlikePicture *items, int count, void (*each)(int a, int b, void *arg), void *arg);

#endif
