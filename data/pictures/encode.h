/* The encoders behind picture_encode, and where the formats keep EXIF. */
#ifndef ATL_ENCODE_H
#define ATL_ENCODE_H

#include "picture.h"

/* quality 1 to 100. From 90 on a JPEG keeps colours at full size; a WebP of 100 is lossless. *bytes:
 * mem_free. */
Status encode_jpeg(const Picture *p, int quality, const PictureText *text, int count, uint8_t **bytes,
                   size_t *size);
Status encode_webp(const Picture *p, int quality, const PictureText *text, int count, uint8_t **bytes,
                   size_t *size);

/* An EXIF block ("Exif\0\0" first) with these texts, of at most `limit` bytes. *out: mem_free. */
Status exif_texts(const PictureText *text, int count, size_t limit, uint8_t **out, size_t *size);
/* The text with this key in an EXIF block; *value NULL: there is none. */
Status exif_text(const uint8_t *bytes, size_t size, const char *key, char **value);
Status png_find_text(const uint8_t *bytes, size_t size, const char *key, char **value);
/* The EXIF block inside a JPEG file's bytes, or NULL. */
const uint8_t *jpeg_exif(const uint8_t *bytes, size_t size, size_t *count);

#endif
