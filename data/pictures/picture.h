/* Pictures: decoding JPEG, PNG and WebP into 8-bit RGB, resizing, writing PNG, grids. */
#ifndef ATL_PICTURE_H
#define ATL_PICTURE_H

#include "kernels/base/status.h"
#include "size.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PICTURE_MAX_SIDE 65500
#define PICTURE_MAX_PIXELS (256u << 20)

/* Bytes that decoding may take where a format gives no rows before it has all of them (interlaced PNG, WebP,
 * progressive JPEG). */
#define PICTURE_MAX_WHOLE (512u << 20)
#define PICTURE_MIN_SIDE 8 /* of a picture in a dataset */

typedef struct Picture {
    Size size;
    uint8_t *rgb; /* (height,width,3); mem_free by picture_free */
} Picture;
Status picture_new(Size size, Picture *out);
void picture_free(Picture *p);

typedef enum PictureFormat { PICTURE_UNKNOWN = 0, PICTURE_JPEG, PICTURE_PNG, PICTURE_WEBP } PictureFormat;
PictureFormat picture_format(const uint8_t *bytes, size_t size); /* by magic bytes */
/* Size (after orientation), orientation 1…8 (EXIF's; where it says none, XMP's or a PNG text's), without
 * decoding. */
Status picture_info(const uint8_t *bytes, size_t count, Size *size, int *orientation);
/* What a picture's file has about it that is read in one of several ways: bits. */
typedef enum PictureOddity {
    PICTURE_IS_ANIMATED = 1, /* an animated PNG, of which the picture is taken that stands still */
    PICTURE_IS_TURNED = 2,   /* its orientation stands in a PNG's text or in XMP, not in EXIF */
    PICTURE_HAS_BAD_CHUNK =
        4, /* a PNG's chunk without pixels whose check sum is wrong, which is passed over */
    PICTURE_IS_BARE_CMYK = 8, /* a CMYK JPEG without Adobe's mark, taken to be as Adobe's are */
    PICTURE_HAS_PROFILE = 16  /* its colours are not sRGB's, and are turned into those */
} PictureOddity;
typedef struct PictureFacts {
    Size size; /* after orientation */
    int orientation;
    unsigned odd;
} PictureFacts;
/* The same and what is odd, and refuses what cannot be trained on: smaller than PICTURE_MIN_SIDE, or not
 * decodable to its end. */
Status picture_check(const uint8_t *bytes, size_t count, PictureFacts *out);
/* The same in one go with a small picture of it, squeezed to the size. *picture: picture_free. */
Status picture_check_small(const uint8_t *bytes, size_t count, PictureFacts *out, Size small,
                           Picture *picture);
/* Decodes: EXIF orientation applied, greyscale, CMYK, palettes, 16 bit; transparency over white. Truncated
 * data is an error that says so. */
Status picture_decode(const uint8_t *bytes, size_t size, Picture *out);
/* The alpha channel as a grey picture, upright; where there is none all of it is 255. */
Status picture_decode_alpha(const uint8_t *bytes, size_t size, Picture *out);
/* The same where only a picture that covers `covered` is needed (a later picture_resize): JPEGs far larger
 * are decoded at 1/2, 1/4 or 1/8 by their DCT, never below twice the size asked for. Depends on the sizes
 * alone. */
Status picture_decode_for(const uint8_t *bytes, size_t count, Size covered, Picture *out);
/* Lanczos-3 with support widened when shrinking (as Pillow's LANCZOS), in one pass each way. Plain code:
 * loader threads run it. */
Status picture_resize(const Picture *in, Size size, Picture *out);
/* A window of a picture resized to `whole`, without making the whole: of `size`, from (x,y); what lies
 * outside repeats the nearest edge. `whole` may be larger than a picture can be. */
typedef struct PictureWindow {
    Size whole;
    int x, y;
    Size size;
} PictureWindow;
Status picture_resize_window(const Picture *in, const PictureWindow *w, Picture *out);
/* The same by Pillow's BICUBIC, which CLIP's preprocessing takes. */
Status picture_resize_cubic(const Picture *in, const PictureWindow *w, Picture *out);
/* The same of an encoded picture that was decoded by picture_decode_for(…, covered), but a PNG's rows are
 * reduced as they come, so that memory holds no whole picture (interlaced and turned ones apart). */
Status picture_decode_window(const uint8_t *bytes, size_t count, Size covered, const PictureWindow *w,
                             Picture *out);
/* The smallest size of the same shape (rounded) as `in` that covers `covered`. */
Size picture_cover_size(Size in, Size covered);
/* A window of the picture; what lies outside repeats the nearest edge. */
Status picture_crop(const Picture *in, int x, int y, Size size, Picture *out);
void picture_flip(Picture *p);
/* (H,W,3) floats in [-1,1] of bytes: x/127.5 - 1. */
void picture_to_floats(const Picture *p, float *out);

/* What is written into a picture's file beside the picture: key (1 to 79 letters), value (UTF-8). In a PNG
 * these are tEXt (Latin-1) or iTXt (else) chunks, in JPEG and WebP they lie in EXIF, the first of them as the
 * user's comment. */
typedef struct PictureText {
    const char *key, *value;
} PictureText;
#define PICTURE_COMMENT "parameters" /* as this a user's comment that other programs wrote is read */
#define PICTURE_QUALITY 95           /* of JPEG and WebP */
PictureFormat picture_format_named(const char *path); /* by its ending */
/* quality 1 to 100 of JPEG and WebP, 0: PICTURE_QUALITY; a WebP of 100 is lossless. The same bytes every
 * time. *bytes: mem_free. */
Status picture_encode(const Picture *p, PictureFormat format, int quality, const PictureText *text, int count,
                      uint8_t **bytes, size_t *size);
/* The same into a file, whole or not at all. */
Status picture_write(const char *path, const Picture *p, PictureFormat format, int quality,
                     const PictureText *text, int count);
Status picture_write_png(const char *path, const Picture *p, const PictureText *text, int count);
Status picture_encode_png(const Picture *p, const PictureText *text, int count, uint8_t **bytes,
                          size_t *size);
/* The value (UTF-8) of the text with this key, in a PNG before its pixels; *value NULL: there is none.
 * Caller: mem_free. */
Status picture_text(const uint8_t *bytes, size_t size, const char *key, char **value);
#define PICTURE_GRID_GAP 2
/* rows × columns of equal pictures with a gap of so many white pixels; pictures[i] may have rgb NULL (white).
 */
Status picture_grid(const Picture *pictures, int count, int columns, Picture *out);

#endif
