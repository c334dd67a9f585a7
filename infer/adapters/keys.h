/* The names that adapter files give their tensors: one table, kind × role × spelling, for reading and for
 * writing.
 *
 *   kohya        lora_unet_down_blocks_0_attentions_0_…_to_q.lora_down.weight   .lora_up.weight   .alpha
 *   PEFT         [base_model.model.]unet.down_blocks.0.….to_q.lora_A[.NAME].weight   .lora_B[.NAME].weight
 *   diffusers    unet.….to_q.lora.down.weight   unet.….attn1.processor.to_q_lora.down.weight
 *                text_encoder.….q_proj.lora_linear_layer.down.weight
 *
 * A module is known by kohya's name for it, to which the others are brought: "lora_unet_" or "lora_te_" and
 * the layer's path with "_" for ".". Of SDXL kohya's files have lora_te1_ and lora_te2_, PEFT's text_encoder.
 * and text_encoder_2.; sd-scripts calls the UNet's layers as the original files do,
 * lora_unet_input_blocks_4_1_…, others as diffusers, lora_unet_down_blocks_1_attentions_0_…: both are read.
 */
#ifndef ATL_ADAPTER_KEYS_H
#define ATL_ADAPTER_KEYS_H

#include "infer/models/model.h"
#include "kernels/adapter.h"

#define ADAPTER_MODULE_SIZE 256

typedef enum AdapterSpelling {
    SPELLED_KOHYA,     /* sd-scripts, LyCORIS */
    SPELLED_PEFT,      /* peft, diffusers */
    SPELLED_DIFFUSERS, /* diffusers before peft */
    ADAPTER_SPELLINGS
} AdapterSpelling;

/* "kohya", "peft", "diffusers" */
const char *adapter_spelling_name(AdapterSpelling s);
/* Does alpha stand there as a tensor beside the others? */
bool adapter_spelling_has_alpha(AdapterSpelling s);

typedef enum AdapterKeyType {
    ADAPTER_KEY_TENSOR, /* of kind and role */
    ADAPTER_KEY_ALPHA,
    ADAPTER_KEY_MAGNITUDE, /* DoRA's lengths */
    ADAPTER_KEY_OTHER,     /* of a kind that is not read; other names it */
    ADAPTER_KEY_UNKNOWN
} AdapterKeyType;

typedef struct AdapterKey {
    AdapterKeyType type;
    AdapterSpelling spelling;
    const AdapterKind *kind;
    int role;
    const char *other;                /* for messages */
    char module[ADAPTER_MODULE_SIZE]; /* "lora_unet_…", "lora_te_…", "lora_te1_…", "lora_te2_…" */
    PartId part;
} AdapterKey;

/* Never fails: what cannot be read is ADAPTER_KEY_UNKNOWN. */
void adapter_key_parse(const char *key, AdapterKey *out);

/* A layer of a model. */
typedef struct AdapterLayer {
    const Model *model;
    PartId part;
    const char *name;
} AdapterLayer;

/* The key of a layer's tensor, or of its alpha. Caller: mem_free. NULL: out of memory, or that spelling has
 * no name for it; the message says which. */
char *adapter_key(AdapterSpelling s, const AdapterLayer *l, const AdapterKind *kind, int role);
char *adapter_alpha_key(AdapterSpelling s, const AdapterLayer *l);

/* The modules that a layer may be in files, the one that is written first; *count: how many. STATUS_FAILED
 * if a name does not fit. */
#define ADAPTER_NAMES 2
Status adapter_modules(const AdapterLayer *l, char out[ADAPTER_NAMES][ADAPTER_MODULE_SIZE], int *count);

#endif
