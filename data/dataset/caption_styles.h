/* What a run makes of a dataset's captions before any comes up: one or several of each text, with a prefix
 * and a suffix. */
#ifndef ATL_CAPTION_STYLES_H
#define ATL_CAPTION_STYLES_H

#include "captions.h"

typedef enum CaptionLines {
    CAPTION_LINES_JOIN, /* a file of several lines is one caption */
    CAPTION_LINES_PICK, /* each line is a caption; those of sd-scripts' enable_wildcard */
    CAPTION_LINES_FIRST /* the first line is the caption, as in sd-scripts without it */
} CaptionLines;
#define CAPTION_LINES_CHOICES "join|pick|first"

typedef struct CaptionStyle {
    const char *prefix,
        *suffix; /* put before and behind each caption with a blank between them; NULL: none */
    CaptionLines lines;
} CaptionStyle;

/* True: captions stay as they are, unless one has several lines. */
bool caption_style_is_plain(const CaptionStyle *style);
/* *out: the caption, or those that the text holds with CAPTION_SEPARATOR between them. mem_free. */
Status caption_style(const char *text, const CaptionStyle *style, char **out);
/* Caption number i of several, from 0, and its length; NULL past the last. */
const char *caption_part(const char *captions, int i, size_t *length);

#endif
