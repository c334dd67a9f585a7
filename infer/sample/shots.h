/* The pictures that one command asks for: each with its settings, its seed and its place among the others. */
#ifndef ATL_SAMPLE_SHOTS_H
#define ATL_SAMPLE_SHOTS_H

#include "options.h"

typedef struct Shot {
    SampleArguments *a; /* its settings; several may share them */
    uint64_t seed;
} Shot;

typedef struct Shots {
    SampleArguments
        *sets; /* the first is what was asked for on the command line, and says where results go */
    int set_count;
    Shot *items;
    int count;
} Shots;

/* *done: help was asked for and has been printed. *out is shots_free's in any case. */
Status shots_read(int argc, char **argv, Shots *out, bool *done);
void shots_free(Shots *s);

#endif
