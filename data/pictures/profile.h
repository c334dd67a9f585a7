/* Colour profiles (ICC) that stand in pictures, and their colours as sRGB. */
#ifndef ATL_PROFILE_H
#define ATL_PROFILE_H

#include "picture.h"

typedef struct ColourTurn ColourTurn;

/* What turns the colours of an encoded picture into sRGB. *out NULL: nothing has to, as there is no profile,
 * or one of sRGB, or one that nothing here can apply (of CMYK, or broken). Decoders run it row by row, in any
 * thread. */
Status colour_turn_open(const uint8_t *bytes, size_t size, ColourTurn **out);
void colour_turn_row(const ColourTurn *t, uint8_t *rgb, int width); /* t NULL: nothing */
void colour_turn_free(ColourTurn *t);                               /* NULL allowed */

#endif
