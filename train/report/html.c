#include "html.h"

#include "kernels/base/text.h"

#include <string.h>

static const char *entity(char c)
{
    switch (c) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return "\xEF\xBF\xBD"; /* U+FFFD */
    }
}

/* Bytes from text on that may stand in a page as they are. */
static size_t plain(const char *text, size_t size)
{
    const int64_t invalid = text_invalid_utf8(text, size);
    const size_t valid = invalid < 0 ? size : (size_t)invalid;
    size_t n = 0;
    while (n < valid && !strchr("<>&\"'\x7F", text[n]) &&
           ((unsigned char)text[n] >= ' ' || text[n] == '\n' || text[n] == '\t'))
        n++;
    return n;
}

void html_text(Buffer *b, const char *text)
{
    size_t left = strlen(text);
    while (left) {
        const size_t n = plain(text, left);
        buffer_add(b, "%.*s", (int)n, text);
        text += n;
        left -= n;
        if (left) {
            buffer_add(b, "%s", entity(*text));
            text++;
            left--;
        }
    }
}
