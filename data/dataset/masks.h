/* Masks of a dataset's pictures, /masks of its file: which parts of a picture count. An encoded grey picture
 * each (its red channel, 255: counts fully, 0: not at all), upright as the picture and of its shape, in
 * whatever size. */
#ifndef ATL_MASKS_H
#define ATL_MASKS_H

#include "data/pictures/size.h"
#include "kernels/base/sha256.h"
#include "kernels/base/status.h"
#include "h5.h"

#include <stdint.h>

/* Refuses a mask that cannot be decoded, or that is not of the picture's shape. *black: nothing counts. */
Status mask_check(const uint8_t *bytes, size_t size, Size picture, bool *black);

/* Writing: /masks/data is appended to, the rest is written at the end. */
typedef struct MaskWriter {
    hid_t data; /* −1: there are none yet */
    hsize_t size;
    uint64_t *offset, *length; /* (count) */
    uint8_t *sha256;           /* (count,32) */
    int count, capacity;
} MaskWriter;
/* Of the next picture; size 0: it has none. With HDF5's lock held. */
Status masks_add(MaskWriter *w, hid_t file, const char *path, const uint8_t *bytes, uint64_t size);
/* Nothing where no picture has one. Closes w->data. */
Status masks_write(MaskWriter *w, hid_t file, const char *path);
void masks_writer_free(MaskWriter *w); /* does not close w->data */

/* Reading. */
typedef struct MaskColumns {
    hid_t data;                /* −1: the file has no masks */
    uint64_t *offset, *length; /* (N); length 0: the picture has none. NULL: none has */
    uint8_t *sha256;           /* (N,32) */
} MaskColumns;
/* Reads and checks everything but the masks themselves. With HDF5's lock held. */
Status masks_open(hid_t file, const char *path, int count, MaskColumns *out);
void masks_close(MaskColumns *m); /* with HDF5's lock held */
/* Of picture i, which has one, out of the file. Messages do not name the picture. *bytes: mem_free. */
Status masks_bytes(const MaskColumns *m, const char *path, int i, uint8_t **bytes, size_t *size);

#endif
