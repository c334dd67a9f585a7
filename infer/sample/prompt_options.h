/* The options about words: whose conventions, how prompts are read, how far the text encoder is used. */
#ifndef ATL_PROMPT_OPTIONS_H
#define ATL_PROMPT_OPTIONS_H

#include "infer/compat/compat.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/options.h"

#define PROMPT_SYNTAX_AUTO "auto"

typedef struct PromptOptions {
    const char *compat; /* one of COMPAT_CHOICES */
    const char *syntax; /* one of PROMPT_SYNTAX_CHOICES, or auto: what compat says */
    bool long_prompts;
    OptionList embeddings;
    const char *embedding_dir;
    int clip_skip; /* as the program of compat counts */
    bool clip_skip_given;
} PromptOptions;

PromptOptions prompt_options_default(void);
/* Fills in what of the request follows, and says how a clip skip was taken. */
Status prompt_options_apply(const PromptOptions *o, SampleRequest *r);

#endif
