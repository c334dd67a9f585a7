/* How much the words of a prompt count, as other programs let it be written: "(red:1.3)".
 *
 *     A1111     (x) 1.1 times, [x] 1/1.1 times, (x:1.3) 1.3 times; nested ones multiply; \( \) \[ \] \\ are
 * the signs themselves; BREAK ends a chunk ComfyUI   (x) 1.1 times, (x:1.3) 1.3, whatever stands around; \(
 * \) are the signs themselves */
#ifndef ATL_EMPHASIS_H
#define ATL_EMPHASIS_H

#include "kernels/base/status.h"

#include <stdbool.h>

typedef enum PromptSyntax {
    PROMPT_PLAIN, /* words and nothing else */
    PROMPT_A1111,
    PROMPT_COMFY
} PromptSyntax;
#define PROMPT_SYNTAX_CHOICES "plain|a1111|comfy"
PromptSyntax prompt_syntax_of(const char *word); /* one of the choices */

/* A piece of a prompt. */
typedef struct PromptRun {
    char *text;
    double weight;
    bool chunk_end; /* BREAK: no text, the next token begins a chunk */
} PromptRun;
typedef struct PromptRuns {
    PromptRun *items;
    int count, capacity;
} PromptRuns;

/* *out is prompt_runs_free's. A weight that is no number, or brackets nested too deep, are refused. */
Status prompt_runs(PromptSyntax syntax, const char *text, PromptRuns *out);
void prompt_runs_free(PromptRuns *r);

#endif
