/* The text encoder's states of captions, where it isn't trained: one caption at a time, each encoded once and
 * kept in memory as long as there is room, the longest unused going first. */
#ifndef ATL_TEXTS_H
#define ATL_TEXTS_H

#include "infer/pipeline/pipeline.h"
#include "train/pictures/sources.h"

typedef struct Texts Texts;

/* size: floats of one text (conditioning_text_size). limit: bytes kept in memory (one text at least). */
Status texts_new(Pipeline *pipeline, int clip_skip, int64_t size, size_t limit, Texts **out);
void texts_free(Texts *t); /* NULL allowed */
/* What the caption becomes, into out: from the cache of a source that has one, else computed. source NULL:
 * computed. */
Status texts_get(Texts *t, const char *caption, const Source *source, float *out);

#endif
