#include "zip_write.h"

#include <stdio.h>
#include <string.h>

static void number(FILE *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc(i < 8 ? (int)(value >> (8 * i) & 0xff) : 0, out);
}

/* What header and directory have in common: from the version on, up to the name's length. CRCs are left 0. */
static void common(FILE *out, const ZipFile *p)
{
    number(out, 0, 4); /* version and flags */
    number(out, p->method, 2);
    number(out, 0, 8); /* time, date, CRC */
    number(out, p->bytes, 4);
    number(out, p->bytes, 4);
    number(out, strlen(p->name), 2);
}

static void put_file(FILE *out, ZipFile *p)
{
    p->header = (uint32_t)ftell(out);
    const size_t padding = (64 - (p->header + 30 + strlen(p->name)) % 64) % 64; /* torch aligns to 64 bytes */
    fwrite("PK\3\4", 1, 4, out);
    common(out, p);
    number(out, padding, 2);
    fwrite(p->name, 1, strlen(p->name), out);
    for (size_t i = 0; i < padding; i++)
        fputc('Z', out);
    fwrite(p->data, 1, p->bytes, out);
}

static void put_directory(FILE *out, const ZipFile *files, int count)
{
    const long at = ftell(out);
    for (int i = 0; i < count; i++) {
        fwrite("PK\1\2", 1, 4, out);
        number(out, 0, 2);
        common(out, &files[i]);
        number(out, 0, 12); /* extra field, comment, volume, attributes */
        number(out, files[i].header, 4);
        fwrite(files[i].name, 1, strlen(files[i].name), out);
    }
    const long end = ftell(out);
    fwrite("PK\5\6", 1, 4, out);
    number(out, 0, 4);
    number(out, (uint64_t)count, 2);
    number(out, (uint64_t)count, 2);
    number(out, (uint64_t)(end - at), 4);
    number(out, (uint64_t)at, 4);
    number(out, 0, 2);
}

void zip_write(const char *path, ZipFile *files, int count)
{
    FILE *out = fopen(path, "wb");
    for (int i = 0; i < count; i++)
        put_file(out, &files[i]);
    put_directory(out, files, count);
    fclose(out);
}
