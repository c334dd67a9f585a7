/* The picture that is begun from, cut and scaled to the size that is worked at, with its mask; and what was
 * made of it put back. Pixels only: no model is needed. */
#ifndef ATL_CANVAS_H
#define ATL_CANVAS_H

#include "begin.h"

typedef struct Canvas {
    const SampleBegin *from;
    Picture work;      /* at the size that is worked at */
    Picture filled;    /* the same with the surroundings' colours under the mask; rgb NULL: not asked for */
    Picture work_mask; /* of that size, grey; rgb NULL: no mask */
    Picture mask;      /* of the whole picture, grey, softened */
    int x, y;          /* with padding: what of the whole picture the work is. May reach over its edges */
    Size cut;
} Canvas;

/* Refuses a mask without anything to paint. *out is canvas_free's in any case. */
Status canvas_new(const SampleBegin *from, Size size, Canvas *out);
void canvas_free(Canvas *k);
/* made, of the size worked at, is replaced by what it makes of the picture: where the mask is black the bytes
 * are the picture's own (those that it has at the size worked at, where it was scaled). */
Status canvas_paste(const Canvas *k, Picture *made);

#endif
