/* A picture without what its mask covers, the surroundings' colours there instead. */
#ifndef ATL_FILL_H
#define ATL_FILL_H

#include "data/pictures/picture.h"

/* mask: of the same size, grey; what is white in it is filled. *out: picture_free. */
Status fill_masked(const Picture *p, const Picture *mask, Picture *out);

#endif
