/* Where captions come from: text files beside the pictures, metadata.jsonl; names for messages. */
#ifndef ATL_CAPTIONS_H
#define ATL_CAPTIONS_H

#include "kernels/base/status.h"

#include <stddef.h>

#define CAPTION_MAX_BYTES (64 << 10)

/* Between several captions of one picture. A single line end is part of one: white space, unless lines are
 * asked for (data/dataset/caption_styles.h). */
#define CAPTION_SEPARATOR "\n\n"

/* A caption as it is trained on: without byte order mark, runs of white space that hold a line end as one
 * line end, others that hold a tab as one space, without white space around it. *out NULL: empty. What is not
 * UTF-8 is an error that names the byte. *out: mem_free.
 */
Status caption_clean(const char *text, size_t size, char **out);
/* The caption in a text file; errors name the file. */
Status caption_read(const char *path, char **out);

typedef struct MetadataEntry {
    char *file_name, *text; /* text NULL: empty */
    int line;               /* from 1 */
} MetadataEntry;
typedef struct MetadataFile {
    MetadataEntry *entries;
    int count, capacity;
} MetadataFile;
/* diffusers' metadata.jsonl: one object a line with "file_name" and "text"; other keys are let be. */
Status metadata_read(const char *path, MetadataFile *out);
void metadata_free(MetadataFile *m);

#endif
