/* A1111's "parameters" text read back: the options that it comes to. */
#ifndef ATL_SAMPLE_PARAMETERS_H
#define ATL_SAMPLE_PARAMETERS_H

#include "infer/axes/words.h"

/* Adds "--prompt=…", "--steps=20", …, and --compat=a1111. What is written
 * there and cannot be followed is said. */
Status parameters_read(const char *text, Words *w);

#endif
