/* Words for a command line, one after the other. */
#ifndef ATL_AXIS_WORDS_H
#define ATL_AXIS_WORDS_H

#include "kernels/base/status.h"

typedef struct Words {
    char **items;
    int count;
} Words;

Status words_add(Words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void words_free(Words *w);

#endif
