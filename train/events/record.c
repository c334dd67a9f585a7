#include "record.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CASTAGNOLI 0x82f63b78u /* the polynomial, bits from the last to the first */
#define HEAD 12                /* bytes: the length and its checksum */
#define FOOT 4

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* Messages --------------------------------------------------------------------------------------------- */

Status message_reserve(Message *m, size_t bytes)
{
    if (bytes <= m->capacity)
        return STATUS_OK;
    unsigned char *grown = mem_realloc(m->data, bytes);
    if (!grown) {
        m->failed = true;
        return STATUS_FAILED;
    }
    m->data = grown;
    m->capacity = bytes;
    return STATUS_OK;
}

static void add(Message *m, const void *data, size_t bytes)
{
    if (m->failed || bytes == 0)
        return;
    if (bytes > m->capacity - m->length && message_reserve(m, 2 * m->capacity + bytes) != STATUS_OK)
        return;
    memcpy(m->data + m->length, data, bytes);
    m->length += bytes;
}

static void add_varint(Message *m, uint64_t value)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (unsigned char)(value | 0x80);
    bytes[n++] = (unsigned char)value;
    add(m, bytes, n);
}

static void put_le(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static void add_le(Message *m, uint64_t value, int bytes)
{
    unsigned char out[8];
    put_le(out, value, bytes);
    add(m, out, (size_t)bytes);
}

static void add_key(Message *m, int field, int wire)
{
    add_varint(m, (uint64_t)field << 3 | (unsigned)wire);
}

void message_add_number(Message *m, int field, uint64_t value)
{
    add_key(m, field, WIRE_VARINT);
    add_varint(m, value);
}

void message_add_float(Message *m, int field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_key(m, field, WIRE_32);
    add_le(m, bits, 4);
}

void message_add_double(Message *m, int field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_key(m, field, WIRE_64);
    add_le(m, bits, 8);
}

void message_add_text(Message *m, int field, const char *text)
{
    add_key(m, field, WIRE_BYTES);
    add_varint(m, strlen(text));
    add(m, text, strlen(text));
}

static void empty(Message *m)
{
    m->length = 0;
    m->failed = false;
}

void message_add_begun(Message *m, int field, Message *inner, size_t rest)
{
    m->failed = m->failed || inner->failed;
    add_key(m, field, WIRE_BYTES);
    add_varint(m, inner->length + rest);
    add(m, inner->data, inner->length);
    empty(inner);
}

void message_add_message(Message *m, int field, Message *inner)
{
    message_add_begun(m, field, inner, 0);
}

void message_free(Message *m)
{
    mem_free(m->data);
    *m = (Message){0};
}

/* Records ---------------------------------------------------------------------------------------------- */

/* Of one byte, after what the others have come to. */
static uint32_t crc_of(uint32_t byte)
{
    for (int bit = 0; bit < 8; bit++)
        byte = byte >> 1 ^ (byte & 1 ? CASTAGNOLI : 0);
    return byte;
}

uint32_t record_crc(uint32_t before, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t table[256], crc = ~before;
    for (uint32_t i = 0; i < 256; i++)
        table[i] = crc_of(i);
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
    return ~crc;
}

/* As TensorFlow's files have it: so that a checksum within checked data does no harm. */
static uint32_t masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static uint64_t get_le(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

Status record_end(int fd, const char *path, int64_t *end)
{
    struct stat st;
    unsigned char head[HEAD];
    if (fstat(fd, &st) != 0)
        return status_fail("%s: cannot be read: %s", path, strerror(errno));
    for (*end = 0;;) {
        const ssize_t n = pread(fd, head, sizeof head, (off_t)*end);
        if (n < 0)
            return status_fail("%s: cannot be read: %s", path, strerror(errno));
        if (n < HEAD || get_le(head + 8, 4) != masked(record_crc(0, head, 8)))
            return STATUS_OK;
        const uint64_t length = get_le(head, 8), left = (uint64_t)(st.st_size - *end) - HEAD;
        if (left < FOOT || length > left - FOOT)
            return STATUS_OK;
        *end += (int64_t)length + HEAD + FOOT;
    }
}

static int write_all(int fd, const Message *m, const void *rest, size_t bytes)
{
    unsigned char head[HEAD], foot[FOOT];
    put_le(head, m->length + bytes, 8);
    put_le(head + 8, masked(record_crc(0, head, 8)), 4);
    put_le(foot, masked(record_crc(record_crc(0, m->data, m->length), rest, bytes)), 4);
    int error = fd_write(fd, head, sizeof head);
    error = error ? error : fd_write(fd, m->data, m->length);
    error = error || bytes == 0 ? error : fd_write(fd, rest, bytes);
    return error ? error : fd_write(fd, foot, sizeof foot);
}

Status record_write(int fd, const char *path, Message *m, const void *rest, size_t bytes)
{
    const bool failed = m->failed;
    const int error = failed ? 0 : write_all(fd, m, rest, bytes);
    empty(m);
    if (error)
        return status_fail("%s: cannot be written: %s", path, strerror(error));
    return failed ? STATUS_FAILED : STATUS_OK;
}
