#include "buffer.h"

#include "mem.h"
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LAST_COLUMN 79 /* of 80: some terminals break a line that fills them */

void buffer_add(Buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    const size_t needed = b->length + (size_t)(n > 0 ? n : 0) + 1;
    if (!b->failed && needed > b->capacity) {
        const size_t capacity = needed < 1024 ? 2048 : 2 * needed;
        char *data = mem_realloc(b->data, capacity);
        if (data) {
            b->data = data;
            b->capacity = capacity;
        } else {
            b->failed = true;
        }
    }
    if (!b->failed && n >= 0) {
        vsnprintf(b->data + b->length, b->capacity - b->length, format, again);
        b->length += (size_t)n;
    }
    va_end(again);
}

void buffer_add_wrapped(Buffer *b, int column, int indent, const char *text)
{
    buffer_add_within(b, LAST_COLUMN, column, indent, text);
}

void buffer_add_within(Buffer *b, int columns, int column, int indent, const char *text)
{
    bool first = true; /* of its line */
    while (*text) {
        const size_t length = strcspn(text, " \n");
        const int width = text_columns(text, length);
        if (length && !first && column + 1 + width > columns) {
            buffer_add(b, "\n");
            column = 0;
            first = true;
        }
        if (length) {
            const int gap = first && column < indent ? indent - column : !first;
            buffer_add(b, "%*s%.*s", gap, "", (int)length, text);
            column += gap + width;
            first = false;
        }
        text += length;
        if (*text == '\n') {
            buffer_add(b, "\n");
            column = 0;
            first = true;
        }
        text += *text != 0;
    }
    buffer_add(b, "\n");
}

Status buffer_take(Buffer *b, char **text)
{
    if (!b->data && !b->failed)
        buffer_add(b, "%s", "");
    if (b->failed) {
        mem_free(b->data);
        *b = (Buffer){0};
        return status_memory("out of memory");
    }
    *text = b->data;
    *b = (Buffer){0};
    return STATUS_OK;
}

Status buffer_print(Buffer *b)
{
    char *text = NULL;
    TRY(buffer_take(b, &text));
    fputs(text, stdout);
    mem_free(text);
    return STATUS_OK;
}
