/* The invisible watermark of the original release: the package invisible-watermark's method "dwtDct". */
#ifndef ATL_WATERMARK_H
#define ATL_WATERMARK_H

#include "data/pictures/picture.h"

#define WATERMARK_TEXT "StableDiffusionV1"        /* what Stable Diffusion 1's own script writes */
#define WATERMARK_XL "\xB3\xEC\x90\x7B\xB1\x9E"   /* diffusers' of SDXL, 48 bits */
#define WATERMARK_LEAST_AREA ((int64_t)256 * 256) /* pixels, as the package has it */
#define WATERMARK_LONGEST 64                      /* bytes of a text */

/* Refuses a picture too small for a text, each of whose bits has to come four times, and texts that are empty
 * or too long. */
Status watermark_check(Size size, const char *text);
/* Writes the bytes into the picture: every pixel changes a little. */
Status watermark_write(Picture *p, const char *bytes, size_t count);

/* What a picture holds: one bit of each place, in the order in which a text's bits go round. */
typedef struct WatermarkBits {
    uint8_t *bits;
    int64_t count;
} WatermarkBits;
Status watermark_read(const Picture *p, WatermarkBits *out);
void watermark_bits_free(WatermarkBits *b);

typedef struct WatermarkMatch {
    int right;    /* bits of the text that most of their places hold */
    double share; /* of all places hold their bit */
    bool found;   /* chance would not make it so, nor a picture of one colour */
} WatermarkMatch;
WatermarkMatch watermark_match(const WatermarkBits *b, const char *bytes, size_t count);
/* A printable text of up to WATERMARK_LONGEST bytes that nobody has named; out has one more. False: none. */
bool watermark_guess(const WatermarkBits *b, char *out);

#endif
