/* A prompt is plain text here. Other programs read more into theirs; who pastes such a prompt is told once.
 */
#ifndef ATL_PROMPT_SYNTAX_H
#define ATL_PROMPT_SYNTAX_H

/* The first of a text that other programs take for more than words, in out: "(red:1.5)", "BREAK",
 * "<lora:cat:0.8>",
 * "[a:b:0.5]". Returns out, or NULL where there is nothing. */
const char *prompt_syntax_find(const char *text, char *out, int size);
/* One warning for all the texts (NULL among them: none). */
void prompt_syntax_tell(const char *const *texts, int count);

#endif
