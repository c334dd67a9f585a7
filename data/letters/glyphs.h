/* What characters look like in dots. */
#ifndef ATL_GLYPHS_H
#define ATL_GLYPHS_H

#include <stdbool.h>
#include <stdint.h>

#define GLYPH_WIDTH 5
#define GLYPH_HEIGHT 7

/* Seven rows of five, "..#.. .#.#. …", and up to two more below the line; NULL: it has none of its own.
 * Letters with accents are made of both. */
const char *glyph_of(uint32_t code);
/* What is drawn where nothing can be said. */
const char *glyph_box(void);
/* Capitals and letters as high: a mark above stands three rows higher than over the others. */
bool glyph_is_tall(const char *rows);

/* A mark that is drawn to the letter before it (a combining character). */
typedef struct Accent {
    uint32_t code;
    int top;          /* its first row, from the top of a capital; over a tall letter two less */
    const char *rows; /* as many as there are */
} Accent;
/* NULL: none that is known. */
const Accent *accent_of(uint32_t code);

#endif
