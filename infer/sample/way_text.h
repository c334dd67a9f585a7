/* What a picture's texts say about the way it was made, besides prompt and sampler. */
#ifndef ATL_WAY_TEXT_H
#define ATL_WAY_TEXT_H

#include "infer/pipeline/pipeline.h"
#include "begin_arguments.h"

/* ", Denoising strength: 0.7, Hires upscale: 2": what A1111 calls it; "" where there is nothing to say. */
void way_parameters(const SampleRequest *r, char *out, size_t size);
/* The same as JSON, by the options' names; begin NULL: its files are not named. NULL: out of memory. */
json_t *way_settings(const SampleRequest *r, const BeginArguments *begin);

#endif
