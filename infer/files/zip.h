/* Zip archives that are mapped: which files are in one, and where the bytes of a stored one lie. Nothing is
 * unpacked: what is compressed is refused by name. */
#ifndef ATL_ZIP_H
#define ATL_ZIP_H

#include "kernels/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct ZipEntry {
    const char *name; /* in the mapping, without a 0 at its end */
    size_t length;    /* of the name */
    uint64_t header, size;
    uint16_t method, flags; /* as PKWARE's APPNOTE.TXT, 4.4 has them; method 0: stored */
} ZipEntry;

typedef struct Zip {
    const uint8_t *map;
    size_t size;
    ZipEntry *entries; /* sorted by name */
    int count;
} Zip;

/* Reads the directory at the archive's end, zip64's too. Of each entry only its name is looked at. What is
 * taken of memory is less than the directory's own size. */
Status zip_open(const uint8_t *map, size_t size, Zip *out);
void zip_close(Zip *z);
const ZipEntry *zip_find(const Zip *z, const char *name, size_t length); /* NULL: not there */
/* Where e's bytes lie, all inside of the mapping. */
Status zip_data(const Zip *z, const ZipEntry *e, const uint8_t **data, size_t *size);

#endif
