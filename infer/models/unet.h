/* The UNet of Stable Diffusion 1.x, 2.x and XL (Ronneberger 2015; Ho 2020; Rombach 2022; Podell 2023), as
 * diffusers' UNet2DConditionModel names and orders it; all sizes from its config.json. */
#ifndef ATL_UNET_H
#define ATL_UNET_H

#include "infer/weights/weights.h"
#include "kernels/ops.h"
#include "conditioning.h"

#define UNET_MAX_LEVELS 6
#define UNET_MAX_RESNETS 17 /* of one level: layers_per_block + 1 on the way up */

typedef struct UNetConfig {
    int sample_size, in_channels, out_channels;
    int levels; /* len(block_out_channels) */
    int channels[UNET_MAX_LEVELS];
    bool down_attention[UNET_MAX_LEVELS]; /* CrossAttnDownBlock2D or DownBlock2D */
    bool up_attention[UNET_MAX_LEVELS];   /* in the order of up_blocks */
    bool mid_attention;
    int layers_per_block;
    int heads[UNET_MAX_LEVELS];              /* "attention_head_dim" is really the number of heads */
    int transformer_layers[UNET_MAX_LEVELS]; /* in each of a level's transformers; the middle has the last's
                                              */
    int cross_attention_dim;
    bool linear_projection; /* proj_in and proj_out are linear layers (SD2.x) */
    int norm_groups;
    float norm_eps;
    bool flip_sin_to_cos;
    float freq_shift;
    int guidance_channels; /* time_cond_proj_dim: width of the guidance that it is told; 0: it is not told */
    /* text_time, SDXL's: width that each number of size is told in, and of all of them with the pooled text
     * before them; 0: it is not told. */
    int addition_width, addition_input;
} UNetConfig;

/* How many numbers of size are told beside a pooled text of this width; -1: none fit. */
int unet_size_numbers(const UNetConfig *k, int pooled);

typedef struct UNet UNet;
/* Parses diffusers' config.json text; unknown features that would change the result are refused by name. */
Status unet_config_parse(const char *json, const char *origin, UNetConfig *out);
Status unet_new(const UNetConfig *config, Weights *w, UNet **out);
void unet_free(UNet *u);
const UNetConfig *unet_config(const UNet *u);
LayerSet *unet_layers(UNet *u);

/* x (B,H,W,in) in the context's dtype, timesteps f32 (B), text's states (B,T,cross), T any; what else it is
 * told: with addition_input its pooled (B,P) and extra (B,N), and where it knows its guidance scale g,
 * guidance (B,1): 1000 (g - 1), or NULL -> (B,H,W,out) in the context's dtype. Every resnet and transformer
 * block is a checkpointed() segment. */
Tensor *unet_forward(Ctx *c, const UNet *u, Tensor *x, Tensor *timesteps, const Conditioning *text);
/* The same, for results of the deep part that are used again (DeepCache, Ma et al. 2023). All but the first
 * layer on the way down and the last two on the way up, and the convolutions at the ends, is skipped where
 * *deep (B,H,W,D) is there, D unet_deep_channels; else it is computed and put there. */
Tensor *unet_forward_deep(Ctx *c, const UNet *u, Tensor *x, Tensor *timesteps, const Conditioning *text,
                          Tensor **deep);
int unet_deep_channels(const UNet *u);

#endif
