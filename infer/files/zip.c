/* A zip archive is read from its end: there stands a record that says where the directory is; the directory
 * has a line for each file with its name and size and the place of its header; behind that header, whose own
 * extra bytes may differ from the directory's, lie the bytes. Numbers that do not fit into 32 bits stand in a
 * "zip64" extra field, their places taken by ones. (PKWARE's APPNOTE.TXT, 4.3.) */
#include "zip.h"

#include "kernels/base/mem.h"
#include "little_endian.h"

#include <stdlib.h>
#include <string.h>

#define END_BYTES 22u /* of the record at the end, without its comment */
#define COMMENT_MAX 65535u
#define END64_BYTES 56u
#define LOCATOR_BYTES 20u
#define DIRECTORY_BYTES 46u /* of a line of the directory, without name, extra field and comment */
#define HEADER_BYTES 30u    /* of the header before a file's bytes, likewise */
#define ZIP64_FIELD 1u

static bool is_record(const uint8_t *p, const char *mark)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == (uint8_t)mark[0] && p[3] == (uint8_t)mark[1];
}

static Status cut_short(void)
{
    return status_fail("is a zip archive without its directory (file truncated?); fetch or write it again");
}

/* The record at the end, behind which stands only its comment. NULL: none. */
static const uint8_t *find_end(const uint8_t *map, size_t size)
{
    for (size_t back = END_BYTES; back <= size && back <= END_BYTES + COMMENT_MAX; back++) {
        const uint8_t *p = map + size - back;
        if (is_record(p, "\5\6") && le16(p + 20) == back - END_BYTES)
            return p;
    }
    return NULL;
}

typedef struct Directory {
    uint64_t at, bytes, count;
} Directory;

static Status find_directory(const uint8_t *map, size_t size, Directory *d)
{
    const uint8_t *end = find_end(map, size);
    if (!end)
        return cut_short();
    if (le16(end + 4) != 0 && le16(end + 4) != 0xffff)
        return status_refuse("is one of several volumes of a zip archive; join them first");
    *d = (Directory){le32(end + 16), le32(end + 12), le16(end + 10)};
    const size_t place = (size_t)(end - map);
    if (place >= LOCATOR_BYTES && is_record(end - LOCATOR_BYTES, "\6\7")) {
        const uint64_t at = le64(end - LOCATOR_BYTES + 8);
        if (at > size || size - at < END64_BYTES || !is_record(map + at, "\6\6"))
            return cut_short();
        *d = (Directory){le64(map + at + 48), le64(map + at + 40), le64(map + at + 32)};
    }
    if (d->at > size || d->bytes > size - d->at || d->count > d->bytes / DIRECTORY_BYTES)
        return cut_short();
    return STATUS_OK;
}

/* What stands in the zip64 field in place of ones, in this order; false: it lacks one. */
static bool widen(const uint8_t *extra, size_t bytes, uint64_t *size, uint64_t *stored, uint64_t *header)
{
    uint64_t *const wanted[] = {size, stored, header};
    while (bytes >= 4) {
        const size_t n = le16(extra + 2);
        if (n > bytes - 4)
            return false;
        if (le16(extra) == ZIP64_FIELD) {
            size_t used = 0;
            for (int i = 0; i < 3; i++)
                if (*wanted[i] == UINT32_MAX) {
                    if (n - used < 8)
                        return false;
                    *wanted[i] = le64(extra + 4 + used);
                    used += 8;
                }
            return true;
        }
        extra += 4 + n;
        bytes -= 4 + n;
    }
    return *size != UINT32_MAX && *stored != UINT32_MAX && *header != UINT32_MAX;
}

/* The line at p, of which at most `left` bytes are the directory's. Returns its bytes, 0: it is none. */
static size_t read_line(const uint8_t *p, size_t left, ZipEntry *e)
{
    if (left < DIRECTORY_BYTES || !is_record(p, "\1\2"))
        return 0;
    const size_t name = le16(p + 28), extra = le16(p + 30), comment = le16(p + 32);
    if (name + extra + comment > left - DIRECTORY_BYTES)
        return 0;
    uint64_t stored = le32(p + 20);
    *e = (ZipEntry){.name = (const char *)p + DIRECTORY_BYTES,
                    .length = name,
                    .header = le32(p + 42),
                    .size = le32(p + 24),
                    .method = le16(p + 10),
                    .flags = le16(p + 8)};
    if (!widen(p + DIRECTORY_BYTES + name, extra, &e->size, &stored, &e->header))
        return 0;
    if (e->method == 0 && stored != e->size)
        return 0;
    return DIRECTORY_BYTES + name + extra + comment;
}

static int by_name(const void *a, const void *b)
{
    const ZipEntry *x = a, *y = b;
    const size_t n = x->length < y->length ? x->length : y->length;
    const int order = memcmp(x->name, y->name, n);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

Status zip_open(const uint8_t *map, size_t size, Zip *out)
{
    Directory d = {0};
    TRY(find_directory(map, size, &d));
    Zip z = {.map = map, .size = size, .entries = mem_alloc((size_t)d.count * sizeof(ZipEntry))};
    if (!z.entries)
        return STATUS_FAILED;
    size_t used = 0;
    for (uint64_t i = 0; i < d.count; i++) {
        const size_t n = read_line(map + d.at + used, (size_t)d.bytes - used, &z.entries[i]);
        if (n == 0) {
            zip_close(&z);
            return status_fail("line %llu of the zip archive's directory is damaged; fetch or write the file "
                               "again",
                               (unsigned long long)i);
        }
        used += n;
        z.count++;
    }
    qsort(z.entries, (size_t)z.count, sizeof *z.entries, by_name);
    *out = z;
    return STATUS_OK;
}

void zip_close(Zip *z)
{
    mem_free(z->entries);
    *z = (Zip){0};
}

const ZipEntry *zip_find(const Zip *z, const char *name, size_t length)
{
    const ZipEntry wanted = {.name = name, .length = length};
    return z->count ? bsearch(&wanted, z->entries, (size_t)z->count, sizeof wanted, by_name) : NULL;
}

Status zip_data(const Zip *z, const ZipEntry *e, const uint8_t **data, size_t *size)
{
    const int n = (int)e->length;
    if (e->flags & 1)
        return status_refuse("%.*s in the zip archive is encrypted; unpack it and pack it anew", n, e->name);
    if (e->method != 0)
        return status_refuse("%.*s in the zip archive is compressed (method %d), which torch.save never "
                             "does; unpack it and pack it with `zip -0`",
                             n, e->name, e->method);
    if (e->header > z->size || z->size - e->header < HEADER_BYTES || !is_record(z->map + e->header, "\3\4"))
        return status_fail("%.*s in the zip archive has no header (file truncated?); fetch or write the file "
                           "again",
                           n, e->name);
    const uint8_t *p = z->map + e->header;
    const uint64_t at = e->header + HEADER_BYTES + le16(p + 26) + le16(p + 28);
    if (at > z->size || e->size > z->size - at)
        return status_fail("%.*s in the zip archive ends after the file's %zu bytes (file truncated?); fetch "
                           "or write the file again",
                           n, e->name, z->size);
    *data = z->map + at;
    *size = (size_t)e->size;
    return STATUS_OK;
}
