/* A file of records as TensorBoard reads them (TensorFlow's tensorflow/core/lib/io/record_writer.h): each is
 * its length, that number's checksum, its bytes, and their checksum. A record is a protocol buffer's message,
 * whose fields are put together here by number and kind (protobuf.dev/programming-guides/encoding). */
#ifndef ATL_RECORD_H
#define ATL_RECORD_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message while it grows. One that memory ran out for is failed, and nothing is written of it. Its room
 * stays when it has been used, for the next. */
typedef struct Message {
    unsigned char *data;
    size_t length, capacity;
    bool failed;
} Message;

/* Room for so many bytes. */
Status message_reserve(Message *m, size_t bytes);
void message_add_number(Message *m, int field, uint64_t value);
void message_add_float(Message *m, int field, float value);
void message_add_double(Message *m, int field, double value);
void message_add_text(Message *m, int field, const char *text);
/* A message within it; empties inner. */
void message_add_message(Message *m, int field, Message *inner);
/* The same where `rest` more bytes of inner are to follow, which are not in memory twice: nothing may be
 * added to m after it but by this function, and record_write is given them. */
void message_add_begun(Message *m, int field, Message *inner, size_t rest);
void message_free(Message *m);

/* CRC-32C (Castagnoli, RFC 3720) of data that follow those of which it is `before` (0: of none). */
uint32_t record_crc(uint32_t before, const void *data, size_t bytes);
/* Appends m and the rest of it to fd, path's, as one record; empties m. */
Status record_write(int fd, const char *path, Message *m, const void *rest, size_t bytes);
/* Where the last whole record of such a file ends: what a killed process had begun comes after it. */
Status record_end(int fd, const char *path, int64_t *end);

#endif
