/* The options of `atelier sample` about the picture that it begins from. */
#ifndef ATL_BEGIN_ARGUMENTS_H
#define ATL_BEGIN_ARGUMENTS_H

#include "infer/pipeline/begin.h"

#include <jansson.h>

typedef struct BeginArguments {
    const char *init, *mask;           /* files; NULL: none */
    const char *fit, *content, *paste; /* words of SampleBegin's kinds */
    Picture picture, mask_picture;     /* once they were opened */
} BeginArguments;

BeginArguments begin_arguments_default(void);
/* Takes over the words, and refuses what says something about a picture that is not given. */
Status begin_arguments_check(const BeginArguments *a, SampleBegin *b);
/* Reads the pictures, unless that was done; b borrows them. */
Status begin_arguments_open(BeginArguments *a, SampleBegin *b);
void begin_arguments_free(BeginArguments *a);
/* What of it stands in a picture's settings: {} without one, and where a is NULL. NULL: out of memory. */
json_t *begin_arguments_settings(const BeginArguments *a, const SampleBegin *b);

#endif
