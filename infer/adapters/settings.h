/* What PEFT says of an adapter outside of its tensors: ranks and alphas, as JSON.
 *
 * peft puts it into adapter_config.json beside the file, of one part of the model: {"r": 4, "lora_alpha": 8,
 * "alpha_pattern": {"attn1.to_q": 2}}. diffusers puts it into the file's metadata, lora_adapter_metadata, of
 * all parts: {"unet.r": 4, "unet.lora_alpha": 8}. */
#ifndef ATL_ADAPTER_SETTINGS_H
#define ATL_ADAPTER_SETTINGS_H

#include "infer/files/tensor_file.h"
#include "infer/models/model.h"

typedef struct AdapterSettings AdapterSettings;

/* Those of the open file: its metadata, or else, with `beside`, peft's file in the same folder. *out is NULL
 * where there are none. */
Status adapter_settings_read(const TensorFile *f, bool beside, AdapterSettings **out);
void adapter_settings_free(AdapterSettings *s); /* NULL allowed */

/* What the layer's output is multiplied by. rank is that of its tensors, 0: they have none. *said is false
 * where the settings, or the lack of them (NULL), say nothing about the layer: then it is 1. Fails where they
 * say what is not supported, or do not fit the tensors. */
Status adapter_settings_scale(const AdapterSettings *s, PartId part, const char *layer, int64_t rank,
                              double *scale, bool *said);
/* They say that there are DoRA's lengths. */
bool adapter_settings_dora(const AdapterSettings *s, PartId part);
/* Their alpha, of layers that no pattern names; false: there is none. */
bool adapter_settings_alpha(const AdapterSettings *s, PartId part, double *alpha);

#endif
