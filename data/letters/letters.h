/* Small letters for pictures, 5 x 7 dots each: Latin with its accents, Greek, Cyrillic and common signs. What
 * else there is in Unicode stands as its code, "U+1F431". */
#ifndef ATL_LETTERS_H
#define ATL_LETTERS_H

#include "data/pictures/picture.h"

#define LETTER_WIDTH 6 /* with the gap */
#define LETTER_HEIGHT 7
#define LETTER_LINE 12 /* from line to line: three dots above for accents, two below */

/* Columns that a text takes: one for a letter with all its accents, eight for "U+1F431" with the gap. */
int letters_columns(const char *text);
/* How many bytes of text go into so many columns: whole characters, and at least one where there is any. */
int letters_bytes(const char *text, int columns);
/* The first so many columns of text (UTF-8) in black from (x,y), the top left of a capital, on, a dot being
 * scale x scale pixels; what lies outside of the picture is left out. */
void letters_draw(Picture *p, int x, int y, int scale, const char *text, int columns);

/* A text in lines of so many columns, broken at blanks where there are any. How many they are, `most` at
 * most. */
int letters_lines(const char *text, int columns, int most);
/* Draws them, LETTER_LINE dots from one to the next; "…" at the end of the last where there is more text. */
void letters_draw_lines(Picture *p, int x, int y, int scale, const char *text, int columns, int most);

#endif
