/* A prompt is plain text here. Other programs read more into theirs; who pastes such a prompt is told once.
 */
#ifndef ATL_FOREIGN_SYNTAX_H
#define ATL_FOREIGN_SYNTAX_H

/* One warning for all the texts (NULL among them: none). */
void foreign_syntax_tell(const char *const *texts, int count);

#endif
