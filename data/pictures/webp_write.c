/* Writing WebP through libwebp: the picture, and its EXIF chunk beside it through the library's own
 * multiplexer. */
#include "encode.h"

#include "kernels/base/mem.h"

#include <string.h>

#include <webp/encode.h>
#include <webp/mux.h>

#define LOSSLESS 100
#define EXIF_LIMIT ((size_t)64 << 20)

static Status join(const WebPData *picture, const WebPData *exif, uint8_t **bytes, size_t *size)
{
    WebPData all = {NULL, 0};
    WebPMux *mux = WebPMuxNew();
    const bool made = mux && WebPMuxSetImage(mux, picture, 0) == WEBP_MUX_OK &&
                      WebPMuxSetChunk(mux, "EXIF", exif, 0) == WEBP_MUX_OK &&
                      WebPMuxAssemble(mux, &all) == WEBP_MUX_OK;
    WebPMuxDelete(mux);
    if (made && (*bytes = mem_alloc(all.size)) != NULL) {
        memcpy(*bytes, all.bytes, all.size);
        *size = all.size;
    }
    WebPDataClear(&all);
    return !made ? status_memory("out of memory for encoding WebP") : *bytes ? STATUS_OK : STATUS_FAILED;
}

Status encode_webp(const Picture *p, int quality, const PictureText *text, int count, uint8_t **bytes,
                   size_t *size)
{
    uint8_t *exif, *picture = NULL;
    size_t exif_size;
    const int row = 3 * p->size.width;
    *bytes = NULL;
    if (p->size.width > WEBP_MAX_DIMENSION || p->size.height > WEBP_MAX_DIMENSION)
        return status_refuse(
            "a WebP picture has sides of %d pixels at most, this one is %d x %d; write a .png",
            WEBP_MAX_DIMENSION, p->size.width, p->size.height);
    TRY(exif_texts(text, count, EXIF_LIMIT, &exif, &exif_size));
    const size_t n =
        quality == LOSSLESS
            ? WebPEncodeLosslessRGB(p->rgb, p->size.width, p->size.height, row, &picture)
            : WebPEncodeRGB(p->rgb, p->size.width, p->size.height, row, (float)quality, &picture);
    /* the chunk holds the TIFF structure alone */
    const Status s = n ? join(&(WebPData){picture, n}, &(WebPData){exif + 6, exif_size - 6}, bytes, size)
                       : status_fail("WebP cannot be encoded (out of memory?)");
    WebPFree(picture);
    mem_free(exif);
    return s;
}
