/* Captions as samples see them: what a dataset's settings make of a picture's caption each time it comes up,
 * drawn by the keyed generator from the optimizer step and the sample's place in it.
 *
 * In the order of sd-scripts: dropped; one of several; wildcards; the parts between commas shuffled and
 * dropped, but for those that are kept. Prefix and suffix stand in the caption already
 * (dataset_style_captions()). */
#ifndef ATL_STEP_CAPTIONS_H
#define ATL_STEP_CAPTIONS_H

#include "train/config/config.h"

/* Into out (caption_room bytes). Returns out. */
const char *caption_for(const ConfigDataset *config, const char *caption, SampleKey key, char *out);
/* The same for a held-out picture: nothing is dropped or shuffled. */
const char *caption_for_validation(const ConfigDataset *config, const char *caption, SampleKey key,
                                   char *out);
size_t caption_room(const char *caption);

#endif
