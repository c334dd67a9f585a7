/* What a preview says of itself: in its PNG, enough to draw each of its pictures again, and beside it, in a
 * small text file, which picture is which. Callers mem_free what they get; NULL: out of memory. */
#ifndef ATL_PREVIEW_TEXT_H
#define ATL_PREVIEW_TEXT_H

#include "infer/sample/picture_text.h"
#include "train/config/config.h"

/* A grid, and whose weights drew it. */
typedef struct PreviewDrawn {
    const Config *config;
    const Model *model;
    const char *weights; /* model_hash() of the model that the run trains */
    int64_t step;
    bool averaged; /* the weights are the EMA's */
} PreviewDrawn;

/* A1111's lines, of one prompt after the other. */
char *preview_parameters(const PreviewDrawn *d);
/* {"step": 250, "averaged": false, "pictures": [what `atelier sample` writes of each]}. */
char *preview_settings(const PreviewDrawn *d);
#define PREVIEW_SETTINGS "atelier preview"
/* "step 250, from left to right:\n1. a red cat (seed 1)\n…". */
char *preview_legend(const PreviewDrawn *d);

#endif
