/* What of a run's memory is the largest part, and which settings make it smaller. */
#ifndef ATL_LARGEST_H
#define ATL_LARGEST_H

#include "setup.h"

typedef struct Largest {
    char part[128];  /* "drawing previews of 512×512 pixels" */
    char lower[160]; /* "preview.width and preview.height"; "": nothing does */
    size_t bytes;
} Largest;

/* By s->memory. Settings that have done what they can are not named. */
void largest_part(const Setup *s, Largest *out);
/* What previews are drawn in: preview.width and height, or the model's own. */
Size largest_preview(const Setup *s);

#endif
