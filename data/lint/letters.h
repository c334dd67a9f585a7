/* Small letters for pictures: ASCII, 5 x 7 pixels each. */
#ifndef ATL_LETTERS_H
#define ATL_LETTERS_H

#include "data/pictures/picture.h"

#define LETTER_WIDTH 6 /* with the gap */
#define LETTER_HEIGHT 7

/* The first n characters of text (UTF-8; what is not ASCII as a box) in black from (x,y) on; what lies
 * outside of the picture is left out. */
void letters_draw(Picture *p, int x, int y, const char *text, int n);
/* How many bytes of text the first n characters are. */
int letters_bytes(const char *text, int n);

#endif
