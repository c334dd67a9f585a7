/* Small letters for pictures: ASCII, 5 x 7 dots each. */
#ifndef ATL_LETTERS_H
#define ATL_LETTERS_H

#include "picture.h"

#define LETTER_WIDTH 6 /* with the gap */
#define LETTER_HEIGHT 7

/* The first n characters of text (UTF-8; letters without their accents, others as a box) in black from (x,y)
 * on, a dot being scale x scale pixels; what lies outside of the picture is left out. */
void letters_draw(Picture *p, int x, int y, int scale, const char *text, int n);
/* How many bytes of text the first n characters are. */
int letters_bytes(const char *text, int n);

#endif
