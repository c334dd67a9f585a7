/* Prompts that a user does not want: a list of words and phrases of the user's own. */
#ifndef ATL_PROMPT_FILTER_H
#define ATL_PROMPT_FILTER_H

#include "kernels/base/status.h"

#include <stddef.h>

typedef struct PromptFilter PromptFilter;
/* One word or phrase a line; "#" begins a comment, empty lines count for nothing. Refused: a file that is no
 * UTF-8, a line without a letter or digit. */
Status prompt_filter_open(const char *path, PromptFilter **out);
Status prompt_filter_parse(const char *text, size_t size, const char *origin, PromptFilter **out);
void prompt_filter_free(PromptFilter *f); /* NULL allowed */
/* Refuses a prompt that has one of the phrases in it as whole words, in any case and with any accents; what
 * stands between words (commas, brackets, weights' colons) counts as a space. Names the phrase. */
Status prompt_filter_check(const PromptFilter *f, const char *prompt);

#endif
