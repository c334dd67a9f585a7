/* What prompts become: the states of the text encoder, of each prompt as long as it is used. */
#ifndef ATL_PROMPTS_H
#define ATL_PROMPTS_H

#include "infer/models/model.h"
#include "stages.h"

typedef struct Prompts Prompts;
Status prompts_new(const Model *m, Stages *stages, Prompts **out); /* borrows both */
void prompts_free(Prompts *t);                                     /* NULL allowed */
/* Refuses more layers than the model's text encoder can leave out. */
Status prompts_check_clip_skip(const Model *m, int clip_skip);
/* out: conditioning_text_size floats. Made anew where the text encoder's weights or adapters have changed. */
Status prompts_encode(Prompts *t, const char *prompt, int clip_skip, float *out);

#endif
