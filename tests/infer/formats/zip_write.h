/* Zip archives written by hand, without packing anything. */
#ifndef ATL_TEST_ZIP_WRITE_H
#define ATL_TEST_ZIP_WRITE_H

#include <stddef.h>
#include <stdint.h>

typedef struct ZipFile {
    char name[64];
    const void *data;
    size_t bytes;
    uint32_t header; /* where it came to lie */
    uint16_t method; /* as the archive is to say; the data are stored */
} ZipFile;

void zip_write(const char *path, ZipFile *files, int count);

#endif
