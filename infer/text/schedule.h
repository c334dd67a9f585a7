/* Words of a prompt that change while a picture is made, as A1111 has them written: "[cat:dog:0.5]" becomes
 * another after half of the steps, "[cat:dog:10]" after step 10, "[dog:10]" comes and "[cat::10]" goes then;
 * "[cat|dog]" is another at each step. */
#ifndef ATL_PROMPT_SCHEDULE_H
#define ATL_PROMPT_SCHEDULE_H

#include "kernels/base/status.h"

typedef struct PromptPart {
    int end; /* the last step that it is for; the first part begins at step 1 */
    char *text;
} PromptPart;
typedef struct PromptSchedule {
    PromptPart *items; /* in the order of their ends; the last one's is `steps` */
    int count, capacity;
} PromptSchedule;

/* A text that is not written so is one part, as it stands. `before`: steps of an earlier pass over the same
 * picture (A1111's hires fix), 0: there is none. Whole numbers then count on from those, and shares from 1 to
 * 2 are of this pass. *out is prompt_schedule_free's. */
Status prompt_schedule(const char *text, int steps, int before, PromptSchedule *out);
void prompt_schedule_free(PromptSchedule *s);

/* Where "AND" stands as a word of its own, which for A1111 begins another prompt; NULL: nowhere. */
const char *prompt_find_and(const char *text);

#endif
