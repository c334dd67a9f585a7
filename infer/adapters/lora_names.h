/* The names that LoRA files give their tensors, all brought to one form: kohya's module name ("lora_unet_" or
 * "lora_te_" and the layer's path with "_" for "."), and what the tensor is.
 *
 *   kohya        lora_unet_down_blocks_0_attentions_0_…_to_q.lora_down.weight   .lora_up.weight   .alpha
 *   PEFT         [base_model.model.]unet.down_blocks.0.….to_q.lora_A[.NAME].weight   .lora_B[.NAME].weight
 *   diffusers    unet.….to_q.lora.down.weight   unet.….attn1.processor.to_q_lora.down.weight
 *                text_encoder.….q_proj.lora_linear_layer.down.weight */
#ifndef ATL_LORA_NAMES_H
#define ATL_LORA_NAMES_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

#define LORA_NAME_SIZE 256

typedef enum LoraRole {
    LORA_KEY_DOWN,
    LORA_KEY_UP,
    LORA_ALPHA,
    LORA_OTHER_KIND, /* another adapter's: LoHa, LoKr, DoRA, …; kind names it */
    LORA_UNKNOWN
} LoraRole;

typedef struct LoraKey {
    LoraRole role;
    char module[LORA_NAME_SIZE]; /* "lora_unet_…", "lora_te_…" */
    const char *kind;            /* LORA_OTHER_KIND: what for messages */
    bool kohya;                  /* the key was in kohya's form: alpha comes as a tensor */
} LoraKey;

/* Never fails: what cannot be read is LORA_UNKNOWN. */
void lora_key_parse(const char *key, LoraKey *out);

/* "lora_unet_" + path with "_"; STATUS_FAILED if it does not fit. */
Status lora_module_name(const char *layer, bool text_encoder, char *out, size_t size);

#endif
