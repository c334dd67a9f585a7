/* A text that grows while it is put together: help, reference pages, YAML. A failure is kept, and
 * buffer_take tells it. */
#ifndef ATL_BUFFER_H
#define ATL_BUFFER_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct Buffer {
    char *data;
    size_t length, capacity;
    bool failed;
} Buffer;

void buffer_add(Buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* text by words, in lines that fit a terminal of 80 columns. `column` characters stand on the line already;
 * the first word comes at `indent` or later, every further line begins there. A newline in the text is one
 * here, and one comes at the end. */
void buffer_add_wrapped(Buffer *b, int column, int indent, const char *text);
/* The same in lines of at most so many columns. */
void buffer_add_within(Buffer *b, int columns, int column, int indent, const char *text);
/* The text, the caller's (mem_free), or STATUS_FAILED. */
Status buffer_take(Buffer *b, char **text);
/* Writes the text to standard output and frees it. */
Status buffer_print(Buffer *b);

#endif
