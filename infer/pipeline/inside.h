/* What the files of the pipeline know of it, and nobody else. */
#ifndef ATL_PIPELINE_INSIDE_H
#define ATL_PIPELINE_INSIDE_H

#include "pipeline.h"
#include "prompts.h"
#include "stages.h"
#include "told.h"

#define LATENT_CHANNELS 4

struct Pipeline {
    Model *m;
    Ctx *c;
    Stages *stages;
    Prompts *prompts;
    bool rests; /* what of the model is not needed gives back its memory: */
    Offload rest;
    SampleTrace trace;
    void *trace_arg;
    Guard *guard; /* or NULL */
};

/* pipeline_encode_picture by tiles of so many latents a side; 0: at once. */
Status encode_by_tiles(Pipeline *p, const float *pixels, Size size, int tile, float *mean, float *std);

#endif
