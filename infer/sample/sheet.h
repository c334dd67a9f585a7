/* All pictures of a command on one sheet: columns, rows and blocks are its axes, with what varies written
 * beside them and what does not at the top. */
#ifndef ATL_SAMPLE_SHEET_H
#define ATL_SAMPLE_SHEET_H

#include "shots.h"

/* How large the sheet becomes with cells of this size; refused where a picture cannot be so large. */
Status sheet_check(const Shots *s, Size cell);
/* pictures: by Shot.place; those without pixels stay white. */
Status sheet_compose(const Shots *s, const Picture *pictures, Picture *out);

#endif
