/* How often each part of captions comes, as programs show it that read a LoRA's metadata. */
#ifndef ATL_TAGS_H
#define ATL_TAGS_H

#include "kernels/base/json.h"
#include "kernels/base/status.h"

#include <stdint.h>

typedef struct Tags Tags;
Tags *tags_new(void);       /* NULL: out of memory */
void tags_free(Tags *tags); /* NULL allowed */
/* Counts the parts of the caption between commas and line ends, without the blanks around them. Points into
 * it: it has to stay. */
Status tags_add(Tags *tags, const char *caption);
/* {"tag": how often} of the most frequent ones; of equally frequent ones those that come first by their
 * bytes. NULL: out of memory. */
json_t *tags_most_frequent(const Tags *tags, int most);

#endif
