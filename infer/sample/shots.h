/* The pictures that one command asks for: each with its settings, its seed and its place on a sheet. */
#ifndef ATL_SAMPLE_SHOTS_H
#define ATL_SAMPLE_SHOTS_H

#include "infer/axes/axes.h"
#include "again.h"
#include "options.h"
#include "sample.h"

#define SHOTS_AXES 3

typedef struct Shot {
    SampleArguments *a; /* its settings; several may share them */
    uint64_t seed;
    int place; /* among all pictures as they were asked for; on a sheet the first axis runs fastest */
} Shot;

typedef struct Shots {
    SampleArguments first; /* what the command line says, which is also where results go */
    Again again;           /* what --again names */
    Words of_run;          /* what the run of --sheet checkpoint=RUN says of its previews */
    bool sheet;            /* all of them go onto one */
    Axis axes[SHOTS_AXES];
    int axis_count;
    SampleArguments *sets;
    int set_count;
    Shot *items; /* in the order in which they are made: those of one model together */
    int count;
} Shots;

/* *done: help was asked for and has been printed. *out is shots_free's in any case. */
Status shots_read(int argc, char **argv, SampleOfRun of_run, Shots *out, bool *done);
void shots_free(Shots *s);
/* Several pictures have this one's seed. */
bool shots_share_seed(const Shots *s, int i);

#endif
