/* A plot as inline SVG over training steps, with its title and legend as a <figure>. Colours are the page's:
 * classes c0, c1 and on. */
#ifndef ATL_PLOT_H
#define ATL_PLOT_H

#include "kernels/base/buffer.h"
#include "curve.h"

#include <stdbool.h>

typedef enum SeriesStyle {
    SERIES_LINE,   /* means */
    SERIES_FAINT,  /* every value, thin; with it on a plot rare spikes do not make the plot taller */
    SERIES_POINTS, /* means, joined by a thin line */
} SeriesStyle;

typedef struct Series {
    const Curve *curve;
    const char *name; /* in the legend */
    int colour;       /* 0 to 3 */
    SeriesStyle style;
} Series;

typedef struct Plot {
    const char *title;
    const char *unit; /* of y; "": none */
    const Series *series;
    int count;
    bool from_zero; /* the axis begins at 0 */
} Plot;

/* The figure; nothing where no series has a value. */
void plot_add(Buffer *b, const Plot *plot);

#endif
