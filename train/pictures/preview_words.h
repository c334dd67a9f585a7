/* A run's first preview as options of `atelier sample`. */
#ifndef ATL_PREVIEW_WORDS_H
#define ATL_PREVIEW_WORDS_H

#include "infer/axes/words.h"

/* run: its folder, whose config.yaml is read. Adds --model and what the previews are drawn with; where the
 * run draws none, what is known without. */
Status preview_words(const char *run, Words *out);

#endif
