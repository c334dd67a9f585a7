#include "caption_styles.h"

#include "kernels/base/mem.h"

#include <string.h>

bool caption_style_is_plain(const CaptionStyle *s)
{
    return !(s->prefix && *s->prefix) && !(s->suffix && *s->suffix) && s->lines == CAPTION_LINES_JOIN;
}

const char *caption_part(const char *captions, int i, size_t *length)
{
    const size_t gap = strlen(CAPTION_SEPARATOR);
    for (; i > 0 && captions; i--) {
        captions = strstr(captions, CAPTION_SEPARATOR);
        captions = captions ? captions + gap : NULL;
    }
    const char *end = captions ? strstr(captions, CAPTION_SEPARATOR) : NULL;
    *length = end ? (size_t)(end - captions) : captions ? strlen(captions) : 0;
    return captions;
}

static char *put(char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

/* "prefix caption suffix", without blanks beside nothing. */
static char *put_caption(char *to, const char *caption, size_t size, const CaptionStyle *s)
{
    const char *const texts[] = {s->prefix ? s->prefix : "", caption, s->suffix ? s->suffix : ""};
    const size_t sizes[] = {strlen(texts[0]), size, strlen(texts[2])};
    bool any = false;
    for (int i = 0; i < 3; i++) {
        if (any && sizes[i])
            *to++ = ' ';
        to = put(to, texts[i], sizes[i]);
        any |= sizes[i] > 0;
    }
    return to;
}

Status caption_style(const char *text, const CaptionStyle *s, char **out)
{
    const size_t affixes = (s->prefix ? strlen(s->prefix) : 0) + (s->suffix ? strlen(s->suffix) : 0) + 2;
    size_t captions = 1; /* at most */
    for (const char *at = text; *at; at++)
        captions += *at == '\n';
    char *to = *out = mem_alloc(strlen(text) + captions * (affixes + strlen(CAPTION_SEPARATOR)) + 1);
    if (!to)
        return STATUS_FAILED;
    for (bool more = true; more;) {
        const char *gap = s->lines == CAPTION_LINES_JOIN ? CAPTION_SEPARATOR : "\n", *end = strstr(text, gap);
        const size_t size = end ? (size_t)(end - text) : strlen(text);
        if (to > *out)
            to = put(to, CAPTION_SEPARATOR, strlen(CAPTION_SEPARATOR));
        to = put_caption(to, text, size, s);
        more = end && s->lines != CAPTION_LINES_FIRST;
        text = end ? end + strspn(end, "\n") : text;
    }
    *to = 0;
    return STATUS_OK;
}
