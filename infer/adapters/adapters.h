/* LoRA files and the layers they belong to: kohya's and PEFT's names, both ways. */
#ifndef ATL_ADAPTERS_H
#define ATL_ADAPTERS_H

#include "infer/models/model.h"

typedef enum LoraTargets { LORA_ATTENTION, LORA_ATTENTION_MLP } LoraTargets;

/* Layers of the UNet a target names: attention: to_q to_k to_v to_out.0 of every attention (diffusers' 128 in
 * SD1.5); attention+mlp adds proj_in, proj_out, ff.net.0.proj, ff.net.2 (kohya's 192). In the order of the
 * UNet's LayerSet. *out: caller's, mem_free. */
Status lora_unet_layers(Model *m, LoraTargets targets, Layer ***out, int *count);
/* The text encoder's q,k,v,out_proj, fc1, fc2 (72 in SD1.5). */
Status lora_text_layers(Model *m, Layer ***out, int *count);

/* "lora_unet_down_blocks_0_…" for a layer of the UNet (text_encoder false) or "lora_te_text_model_…". */
Status lora_kohya_name(const Layer *l, bool text_encoder, char *out, size_t size);

/* Reads a LoRA file (kohya or PEFT/diffusers names) and attaches it to m with the user's scale; every key has
 * to find its layer, what does not is named and refused. The handle owns the adapters. */
typedef struct LoraFile LoraFile;
Status lora_attach(Model *m, const char *path, float scale, LoraFile **out);
void lora_detach(Model *m, LoraFile *f); /* and frees; NULL allowed */

#endif
