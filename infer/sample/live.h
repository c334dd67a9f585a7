/* What a picture looks like while it is made: in the terminal, or as a file that is written again after each
 * step. */
#ifndef ATL_SAMPLE_LIVE_H
#define ATL_SAMPLE_LIVE_H

#include "infer/pipeline/pipeline.h"

#define LIVE_VALUES "off|auto|kitty|iterm|sixel|blocks|FILE.png"

typedef struct Live Live;
/* word: LIVE_VALUES. auto is what the terminal knows, and nothing where standard error is none. *out NULL:
 * nothing is shown. */
Status live_new(const char *word, Live **out);
void live_free(Live *l); /* NULL allowed */
/* Before pictures of a model. */
Status live_use(Live *l, Pipeline *p);
/* The latents after a step as colours, one a latent. Progress lines go on below it. */
Status live_show(Live *l, const SampleView *view);
/* The picture itself, in the end. */
Status live_finish(Live *l, const Picture *picture);

#endif
