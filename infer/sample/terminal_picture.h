/* Pictures in a terminal, in the way that it knows: Kitty's protocol, iTerm2's, Sixel, or half blocks of
 * colour. */
#ifndef ATL_SAMPLE_TERMINAL_PICTURE_H
#define ATL_SAMPLE_TERMINAL_PICTURE_H

#include "data/pictures/picture.h"

#include <stdio.h>

typedef enum TerminalWay {
    TERMINAL_NONE,
    TERMINAL_KITTY,
    TERMINAL_ITERM,
    TERMINAL_SIXEL,
    TERMINAL_BLOCKS
} TerminalWay;

/* From the environment (TERM, TERM_PROGRAM and what terminals set besides); TERMINAL_NONE: fd is none. */
TerminalWay terminal_way(int fd);
/* How many rows of `columns` by `rows` cells at most the picture takes; it is fitted into those. */
int terminal_rows(Size picture, int columns, int rows);
/* Draws from the cursor's line on, and leaves the cursor at the beginning of the line below: `rows` rows, as
 * terminal_rows says. The text is made in memory and written in one go. */
Status terminal_draw(FILE *to, TerminalWay way, const Picture *picture, int rows);

#endif
