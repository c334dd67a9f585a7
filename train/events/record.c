#include "record.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <string.h>

#define CASTAGNOLI 0x82f63b78u /* the polynomial, bits from the last to the first */
#define HEAD 12                /* bytes: the length and its checksum */
#define FOOT 4

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* Messages --------------------------------------------------------------------------------------------- */

static void add(Message *m, const void *data, size_t bytes)
{
    if (m->failed)
        return;
    if (bytes > m->capacity - m->length) {
        const size_t capacity = 2 * m->capacity + bytes;
        unsigned char *grown = mem_realloc(m->data, capacity);
        if (!grown) {
            m->failed = true;
            return;
        }
        m->data = grown;
        m->capacity = capacity;
    }
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

void message_add_bytes(Message *m, int field, const void *data, size_t bytes)
{
    add_key(m, field, WIRE_BYTES);
    add_varint(m, bytes);
    add(m, data, bytes);
}

void message_add_text(Message *m, int field, const char *text)
{
    message_add_bytes(m, field, text, strlen(text));
}

void message_add_message(Message *m, int field, Message *inner)
{
    m->failed = m->failed || inner->failed;
    if (!m->failed)
        message_add_bytes(m, field, inner->data ? inner->data : (const void *)"", inner->length);
    message_free(inner);
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

uint32_t record_checksum(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t table[256], crc = ~0u;
    for (uint32_t i = 0; i < 256; i++)
        table[i] = crc_of(i);
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u; /* so that a checksum within checked data does no harm */
}

Status record_write(int fd, const char *path, Message *m)
{
    Message record = {0};
    unsigned char head[HEAD], foot[FOOT];
    put_le(head, m->length, 8);
    put_le(head + 8, record_checksum(head, 8), 4);
    put_le(foot, record_checksum(m->data, m->length), 4);
    add(&record, head, sizeof head);
    add(&record, m->data, m->length);
    add(&record, foot, sizeof foot);
    const bool failed = m->failed || record.failed;
    const int error = failed ? 0 : fd_write(fd, record.data, record.length);
    message_free(m);
    message_free(&record);
    if (error)
        return status_fail("%s: cannot be written: %s", path, strerror(error));
    return failed ? STATUS_FAILED : STATUS_OK;
}
