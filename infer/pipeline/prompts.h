/* What chunks of prompts become: the states of the text encoder, of each chunk as long as it is used. */
#ifndef ATL_PROMPTS_H
#define ATL_PROMPTS_H

#include "infer/models/model.h"
#include "stages.h"

typedef struct Prompts Prompts;
Status prompts_new(const Model *m, Stages *stages, Prompts **out); /* borrows both */
void prompts_free(Prompts *t);                                     /* NULL allowed */
const Model *prompts_model(const Prompts *t);
/* Refuses more layers than the model's text encoder can leave out. */
Status prompts_check_clip_skip(const Model *m, int clip_skip);
/* One chunk, ids as conditioning_ids gives them; vectors, as many pointers: what stands in place of a token's
 * own vector, NULL where nothing does; NULL: nowhere. out: conditioning_text_size floats. Made anew
 * where the text encoder's weights or adapters have changed. */
Status prompts_chunk(Prompts *t, const int32_t *ids, const float *const *vectors, int clip_skip, float *out);
/* A caption: one chunk, cut where it is longer. */
Status prompts_encode(Prompts *t, const char *prompt, int clip_skip, float *out);

#endif
