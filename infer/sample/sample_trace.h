/* `atelier sample --trace DIR`: each sampling step in a file of its own, so that it can be replayed elsewhere
 * and the first number that differs be found. */
#ifndef ATL_SAMPLE_TRACE_H
#define ATL_SAMPLE_TRACE_H

#include "infer/pipeline/pipeline.h"

/* A SampleTrace; arg is the folder (char *). Writes step-000001.safetensors and on: latents, input,
 * timesteps, conditioning, prediction, guided, result, all f32, feature maps NCHW. */
Status sample_trace_write(const SampleStep *step, void *folder);

#endif
