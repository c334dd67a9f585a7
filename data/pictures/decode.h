/* The decoders behind picture_decode and picture_info, one file each. They get bytes whose magic has been
 * looked at, and give the picture as it lies in the file: orientation is the caller's matter. Sizes are
 * checked (picture_size_check) before anything is allocated for pixels. Messages name the byte where the data
 * went wrong, never the file. */
#ifndef ATL_DECODE_H
#define ATL_DECODE_H

#include "picture.h"
#include "profile.h"

typedef struct PictureHeader {
    Size size;       /* as stored */
    int orientation; /* 1 to 8; 1 where nothing says one */
    unsigned odd;    /* PictureOddity */
} PictureHeader;

/* A picture's rows, from the first to the last, into a window of it (resize.c). */
typedef struct RowReducer RowReducer;
Status row_reducer_new(Size size, const PictureWindow *w, RowReducer **out);
void row_reducer_add(RowReducer *r, const uint8_t *rgb); /* (width,3) */
Status row_reducer_finish(RowReducer *r, Picture *out);
void row_reducer_free(RowReducer *r); /* NULL allowed */

Status decode_jpeg_header(const uint8_t *bytes, size_t size, PictureHeader *out);
/* covered: what the stored picture must cover at least (0 × 0: decode all of it). */
Status decode_jpeg(const uint8_t *bytes, size_t count, Size covered, Picture *out);
Status decode_png_header(const uint8_t *bytes, size_t size, PictureHeader *out);
/* alpha: the alpha channel as grey instead of the colours; of a picture without one 255. */
Status decode_png(const uint8_t *bytes, size_t size, bool alpha, Picture *out);
/* Gives the rows to r (NULL: nobody), which is made for the file's size, in the colours that turn (NULL:
 * none) makes of them, and keeps none. *taken false: the file is interlaced, so that no row is whole before
 * the last; nothing was done. */
Status decode_png_rows(const uint8_t *bytes, size_t size, RowReducer *r, const ColourTurn *turn, bool *taken);
Status decode_webp_header(const uint8_t *bytes, size_t size, PictureHeader *out);
Status decode_webp(const uint8_t *bytes, size_t size, bool alpha, Picture *out);

/* The first chunk of a WebP file with this name, of four letters, and its length; NULL: there is none. */
const uint8_t *webp_chunk(const uint8_t *bytes, size_t size, const char *name, size_t *count);

/* EXIF: a TIFF file in small (exif.c). */
typedef struct Exif {
    const uint8_t *bytes; /* where its offsets begin */
    size_t size;
    bool big; /* in big-endian order */
} Exif;
/* With or without "Exif\0\0" before it; false: it is none. */
bool exif_open(const uint8_t *bytes, size_t size, Exif *out);
uint32_t exif_number(const Exif *e, const uint8_t *at, int bytes);
/* The 12 bytes of the entry with this tag in the directory at this offset, or NULL. */
const uint8_t *exif_entry(const Exif *e, size_t directory, unsigned tag);

/* Orientation in a TIFF structure, with or without "Exif\0\0" before it; 0 if there is none or it is broken.
 */
int exif_orientation(const uint8_t *bytes, size_t size);
/* tiff:Orientation in an XMP packet; 0 if there is none. */
int xmp_orientation(const uint8_t *text, size_t size);
/* Orientation in an EXIF block as ImageMagick writes it into a text, in hex digits; 0 if there is none. */
int exif_text_orientation(const char *text);
/* What is said in EXIF counts, then what others say, which is odd. */
void header_set_orientation(PictureHeader *h, int exif, int other);
/* Turns p, stored with this orientation, upright. */
Status picture_orient(Picture *p, int orientation);

/* Refuses a picture of which a decoder must hold more than PICTURE_MAX_WHOLE at once. what: why it must. */
Status picture_whole_check(Size size, size_t bytes, const char *what);
static inline int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

Status picture_size_check(uint64_t width, uint64_t height);
/* One row of RGBA, not premultiplied, over white. */
void picture_row_over_white(const uint8_t *rgba, uint8_t *rgb, int width);
/* Its alpha as grey. rgba NULL: all of it is opaque. */
void picture_row_alpha(const uint8_t *rgba, uint8_t *rgb, int width);

#endif
