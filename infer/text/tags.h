/* What prompts of A1111 name besides words: "<lora:cat:0.8>". */
#ifndef ATL_PROMPT_TAGS_H
#define ATL_PROMPT_TAGS_H

#include "kernels/base/status.h"

typedef struct PromptTag {
    char *name;     /* "cat" */
    char *strength; /* what stands behind: "0.8", "0.5:unet=1"; "" where nothing does */
} PromptTag;
typedef struct PromptTags {
    PromptTag *items;
    int count, capacity;
} PromptTags;

/* *text: the prompt without its tags for LoRAs, the caller's (mem_free). Refuses a tag for a hypernetwork.
 * *out is prompt_tags_free's. */
Status prompt_tags(const char *prompt, char **text, PromptTags *out);
void prompt_tags_free(PromptTags *t);

#endif
