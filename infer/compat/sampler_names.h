/* What other programs call samplers, and the schedule that some of their names say along with it. */
#ifndef ATL_SAMPLER_NAMES_H
#define ATL_SAMPLER_NAMES_H

/* AUTOMATIC1111's "DPM++ 2M Karras", ComfyUI's and diffusers' own words -> the sampler's name here, and in
 * *schedule the schedule's, or NULL where the name says none. NULL: no such sampler is here. */
const char *sampler_named_elsewhere(const char *word, const char **schedule);

#endif
