/* Pictures into files, and the texts in those, whatever the format. */
#include "decode.h"
#include "encode.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *ending;
    PictureFormat format;
} ENDINGS[] = {
    {".png", PICTURE_PNG}, {".jpg", PICTURE_JPEG}, {".jpeg", PICTURE_JPEG}, {".webp", PICTURE_WEBP}};

PictureFormat picture_format_named(const char *path)
{
    const size_t n = strlen(path);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        const size_t length = strlen(ENDINGS[i].ending);
        if (n > length && !strcasecmp(path + n - length, ENDINGS[i].ending))
            return ENDINGS[i].format;
    }
    return PICTURE_UNKNOWN;
}

Status picture_encode(const Picture *p, PictureFormat format, int quality, const PictureText *text, int count,
                      uint8_t **bytes, size_t *size)
{
    *bytes = NULL;
    *size = 0;
    switch (format) {
    case PICTURE_JPEG:
        return encode_jpeg(p, quality ? quality : PICTURE_QUALITY, text, count, bytes, size);
    case PICTURE_WEBP:
        return encode_webp(p, quality ? quality : PICTURE_QUALITY, text, count, bytes, size);
    default:
        return picture_encode_png(p, text, count, bytes, size);
    }
}

Status picture_write(const char *path, const Picture *p, PictureFormat format, int quality,
                     const PictureText *text, int count)
{
    uint8_t *bytes;
    size_t size;
    TRY(status_in(picture_encode(p, format, quality, text, count, &bytes, &size), "%s", path));
    const Status s = file_write_atomic(path, bytes, size);
    mem_free(bytes);
    return s;
}

Status picture_write_png(const char *path, const Picture *p, const PictureText *text, int count)
{
    return picture_write(path, p, PICTURE_PNG, 0, text, count);
}

Status picture_text(const uint8_t *bytes, size_t size, const char *key, char **value)
{
    const uint8_t *exif;
    size_t count;
    *value = NULL;
    switch (picture_format(bytes, size)) {
    case PICTURE_PNG:
        return png_find_text(bytes, size, key, value);
    case PICTURE_JPEG:
        exif = jpeg_exif(bytes, size, &count);
        break;
    case PICTURE_WEBP:
        exif = webp_chunk(bytes, size, "EXIF", &count);
        break;
    default:
        return status_fail("is not a JPEG, PNG or WebP picture");
    }
    return exif ? exif_text(exif, count, key, value) : STATUS_OK;
}
