/* Adapter files (LoRA, LoHa, LoKr, DoRA; kohya's, PEFT's and diffusers' names) and the layers they belong to.
 */
#ifndef ATL_ADAPTERS_H
#define ATL_ADAPTERS_H

#include "infer/files/tensor_file.h"
#include "infer/models/model.h"
#include "strength.h"

typedef enum LoraTargets { LORA_ATTENTION, LORA_ATTENTION_MLP } LoraTargets;

/* Layers of the UNet a target names: attention: to_q to_k to_v to_out.0 of every attention (diffusers' 128 in
 * SD1.5, 560 in SDXL); attention+mlp adds proj_in, proj_out, ff.net.0.proj, ff.net.2 (kohya's 192, 722). In
 * the order of the UNet's LayerSet. *out: caller's, mem_free. */
Status lora_unet_layers(Model *m, LoraTargets targets, Layer ***out, int *count);
/* A text encoder's q,k,v,out_proj, fc1, fc2 (72 in SD1.5; in SDXL 72 of the first and 192 of the second). */
Status lora_text_layers(Model *m, PartId part, Layer ***out, int *count);

/* Opens an adapter file, or the one in a folder as peft and diffusers write them. */
Status adapter_file_open(const char *path, TensorFile **out);

/* Reads an adapter file and attaches it to m with the user's scale; every key has to find its layer, what
 * does not is named and refused. The handle owns the adapters. */
typedef struct LoraFile LoraFile;
Status lora_attach(Model *m, const char *path, float scale, LoraFile **out);
/* The same with strengths of parts and blocks. */
Status lora_attach_as(Model *m, const char *path, const AdapterStrength *strength, LoraFile **out);
void lora_detach(LoraFile *f); /* and frees; NULL allowed */

#endif
