/* CLIP's encoder of pictures (Radford et al. 2021; Dosovitskiy et al. 2021), as transformers' CLIPVisionModel
 * names it, with the projection into the space that texts and pictures share. */
#ifndef ATL_CLIP_VISION_H
#define ATL_CLIP_VISION_H

#include "infer/models/clip.h"

typedef struct ClipVisionConfig {
    ClipConfig encoder; /* its width, layers, heads, activation, eps */
    int image, patch;   /* sides in pixels; the first is a multiple of the second */
    int projection;     /* numbers of an embedding */
} ClipVisionConfig;

typedef struct ClipVision ClipVision;
/* Of a whole model's config.json: vision_config and projection_dim. */
Status clip_vision_config_parse(const char *json, const char *origin, ClipVisionConfig *out);
/* Keys "vision_model.…" or "vision_model.vision_model.…", and "visual_projection.weight". */
Status clip_vision_new(const ClipVisionConfig *config, Weights *w, ClipVision **out);
void clip_vision_free(ClipVision *v);
const ClipVisionConfig *clip_vision_config(const ClipVision *v);
LayerSet *clip_vision_layers(ClipVision *v);

int64_t clip_vision_patches(const ClipVisionConfig *k); /* of a picture: (image/patch)² */
/* Cuts a picture f32 (image,image,3) into what clip_vision_forward reads: (1 + patches, 3·patch²), the first
 * row 0, each other a patch as a convolution's weight lies: channel, row, column. */
void clip_vision_cut(const ClipVisionConfig *k, const float *pixels, float *rows);
/* rows f32 (1 + patches, 3·patch²) of one picture -> (1,projection). */
Tensor *clip_vision_forward(Ctx *c, const ClipVision *v, const float *rows);

#endif
