/* Contact sheets: each picture of a set with what of it is trained on, its name and its caption. */
#ifndef ATL_SHEET_H
#define ATL_SHEET_H

#include "data/pictures/frame.h"
#include "data/pictures/picture.h"

typedef struct Sheet Sheet;

/* path: a .png; pages after the first are called NAME-2.png and so on. Refused where something else lies
 * there. framer: what pictures are trained as; borrowed. */
Status sheet_open(const char *path, const Framer *framer, Sheet **out);
/* The next picture. picture: upright, small; NULL: it cannot be read. whole: its own size. */
Status sheet_add(Sheet *s, const char *name, const char *caption, const Picture *picture, Size whole);
/* Writes what is left. *pages: how many there are. Frees s in any case; NULL allowed. */
Status sheet_close(Sheet *s, int *pages);
/* The size that a picture has on it. */
Size sheet_size(Size picture);

#endif
