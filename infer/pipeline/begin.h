/* What a picture is begun from where that is more than noise: another picture, and where to paint. */
#ifndef ATL_BEGIN_H
#define ATL_BEGIN_H

#include "data/pictures/picture.h"

/* How a picture of another shape becomes one of the size that is worked at: pulled to it; scaled until it
 * covers it, the middle taken; scaled until it fits into it, its edges repeated around it. */
typedef enum PictureFit { FIT_STRETCH, FIT_CROP, FIT_PAD } PictureFit;
#define FIT_CHOICES "stretch|crop|pad" /* in that order */

/* What stands at the beginning where the mask is white: the picture; the colours around it; noise in the
 * latents; zeros there. A1111's masked content. */
typedef enum MaskContent { CONTENT_ORIGINAL, CONTENT_FILL, CONTENT_NOISE, CONTENT_NOTHING } MaskContent;
#define CONTENT_CHOICES "original|fill|noise|nothing" /* in that order */

typedef enum Paste { PASTE_AUTO, PASTE_ON, PASTE_OFF } Paste;
#define PASTE_CHOICES "auto|on|off" /* in that order */

typedef struct SampleBegin {
    const Picture *picture; /* NULL: from noise alone */
    const float *latents; /* in its place: of the size that is worked at, as the UNet has them. NULL: none */
    const Picture
        *mask;       /* white: painted anew. NULL: everything. Of another size than picture: pulled to it */
    double strength; /* share of the steps that are done, to 1; 0: 0.8, with a mask 1 */
    PictureFit fit;
    MaskContent content;
    int blur;    /* σ in pixels of the picture by which the mask's edge is softened */
    int padding; /* only the mask's surroundings so many pixels around it are worked at; NO_PADDING:
                    everything */
    bool soft;   /* grey in the mask mixes at every step; otherwise each place is painted anew or not */
    Paste paste; /* the picture's own pixels are put back where the mask is black; auto: with padding, or as
                    the program that is followed does it */
} SampleBegin;
#define NO_PADDING (-1)

double begin_strength(const SampleBegin *b); /* what 0 stands for */

#endif
