/* Small work on words: numbers in C's notation whatever the locale, the nearest of several words for messages
 * ("unknown option --step; did you mean --steps?"), words for a shell. */
#ifndef ATL_TEXT_H
#define ATL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole text as a number in C's notation; false (and *out untouched) if it is not one, has anything after
 * it, or does not fit. Integers: decimal digits with an optional sign. Floats: decimal or exponent notation,
 * finite; no hex, no "inf" or "nan", and
 * nothing so small that it would be 0. */
bool text_to_int(const char *text, int64_t *out);
bool text_to_uint(const char *text, uint64_t *out);
bool text_to_float(const char *text, double *out);

/* Edits (insertions, deletions, replacements, swaps of neighbours) from a to b, upper and lower case alike.
 */
int text_distance(const char *a, const char *b);
/* The word nearest to `word`, or NULL if none is near enough to be meant (more than a third of its letters
 * differ). */
const char *text_nearest(const char *word, const char *const *words, int count);

/* Offset of the first byte that is not valid UTF-8 (RFC 3629), or -1. */
int64_t text_invalid_utf8(const char *text, size_t size);

/* The text as a word of a command that can be pasted into a shell: as it stands, or in quotes. Caller:
 * mem_free. NULL: out of memory. */
char *text_for_shell(const char *text);

/* A file's name for messages and for datasets: control characters, backslashes and what is not UTF-8 as \n,
 * \\ and \xNN. NULL: out of memory. Caller: mem_free. */
char *text_escape(const char *name);
/* A name for where any UTF-8 may stand: as it is, or where it is not UTF-8 (the system lets files be called
 * anything) escaped. NULL: out of memory. Caller: mem_free. */
char *text_as_utf8(const char *name);

/* What makes a word of one of several: "" for 1, else "s". */
const char *text_plural(int64_t n);

/* Columns that n bytes of UTF-8 take on a terminal: continuation bytes take none. */
int text_columns(const char *text, size_t n);

#endif
