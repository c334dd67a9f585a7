/* A file of records as TensorBoard reads them (TensorFlow's tensorflow/core/lib/io/record_writer.h): each is
 * its length, that number's checksum, its bytes, and their checksum. A record is a protocol buffer's message,
 * whose fields are put together here by number and kind (protobuf.dev/programming-guides/encoding). */
#ifndef ATL_RECORD_H
#define ATL_RECORD_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message while it grows. One that memory ran out for is failed, and nothing is written of it. */
typedef struct Message {
    unsigned char *data;
    size_t length, capacity;
    bool failed;
} Message;

void message_add_number(Message *m, int field, uint64_t value);
void message_add_float(Message *m, int field, float value);
void message_add_double(Message *m, int field, double value);
void message_add_bytes(Message *m, int field, const void *data, size_t bytes);
void message_add_text(Message *m, int field, const char *text);
/* A message within it; frees inner. */
void message_add_message(Message *m, int field, Message *inner);
void message_free(Message *m);

/* CRC-32C (Castagnoli, RFC 3720), turned and shifted as TensorFlow's files have it. */
uint32_t record_checksum(const void *data, size_t bytes);
/* Appends m to fd, path's, as one record, in one piece; frees m. */
Status record_write(int fd, const char *path, Message *m);

#endif
