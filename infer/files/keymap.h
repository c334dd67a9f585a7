/* The names of single-file checkpoints (CompVis' for Stable Diffusion, OpenCLIP's for SD2's text encoder),
 * turned into diffusers' names and back. Each function takes a key without the part's prefix and answers
 * false for one it does not know. */
#ifndef ATL_KEYMAP_H
#define ATL_KEYMAP_H

#include <stdbool.h>
#include <stddef.h>

#define KEYMAP_MAX 256 /* bytes of a name */
#define KEYMAP_PARTS 3 /* names that one tensor may stand for */

#define KEYMAP_UNET "model.diffusion_model."
#define KEYMAP_EMA "model_ema."
#define KEYMAP_VAE "first_stage_model."
#define KEYMAP_CLIP "cond_stage_model.transformer."
#define KEYMAP_OPENCLIP "cond_stage_model.model."
/* SDXL's two text encoders. */
#define KEYMAP_XL_CLIP "conditioner.embedders.0.transformer."
#define KEYMAP_XL_OPENCLIP "conditioner.embedders.1.model."

/* "input_blocks.1.0.in_layers.0.weight" -> "down_blocks.0.resnets.0.norm1.weight" */
bool keymap_unet(const char *key, int layers_per_block, char out[KEYMAP_MAX]);
/* "decoder.up.3.block.0.norm1.weight" -> "decoder.up_blocks.0.resnets.0.norm1.weight" of 4 levels */
bool keymap_vae(const char *key, int levels, char out[KEYMAP_MAX]);
/* "transformer.resblocks.0.attn.in_proj_weight" -> three names, *parts = 3: a third of the rows each; else
 * one. */
bool keymap_openclip(const char *key, char out[KEYMAP_PARTS][KEYMAP_MAX], int *parts);

/* The other way: from diffusers' names to a single file's. up_attention: which of up_blocks have
 * transformers. */
bool keymap_unet_back(const char *name, int layers_per_block, const bool *up_attention, char out[KEYMAP_MAX]);
bool keymap_vae_back(const char *name, int levels, char out[KEYMAP_MAX]);
/* *third: the name stands for that third of the rows of the tensor (0, 1, 2), or -1 for all of it. */
bool keymap_openclip_back(const char *name, char out[KEYMAP_MAX], int *third);

#endif
