/* JSON through jansson, with memory that runs out noticed. Who fills an object looks at no result of
 * json_object_set_new and its like: a key for which there was no memory would just be missing. So in a
 * process of the program's own jansson's allocations go through a function that remembers, per thread, that
 * one has failed, and no text is made of what was filled meanwhile. A host program's jansson is left alone;
 * where memory runs out there, jansson's own results are all that is looked at. */
#ifndef ATL_JSON_H
#define ATL_JSON_H

#include <jansson.h>
#include <stdbool.h>

/* Has jansson allocate so that a failure is noticed; the program's start calls it (train/atelier.c). */
void json_own_process(void);

/* The object's text; takes the object over. Caller: free. NULL: out of memory, or a text in it is not UTF-8
 * (or object is NULL because of that); the message says which. */
char *json_text(json_t *object, size_t flags);

/* json_loadb, and json_loads, with "out of memory" as error->text where that was it. error may be NULL, and
 * the text of json_parse. */
json_t *json_read(const char *text, size_t size, size_t flags, json_error_t *error);
json_t *json_parse(const char *text, size_t flags, json_error_t *error);

/* A file's name, which need not be UTF-8 (text_as_utf8). */
json_t *json_name(const char *name);

/* Has memory run out for an object since the last text or the last call of this? */
bool json_lost(void);

#endif
