/* Configurations as diffusers and transformers write them, for models that came without (a single file), and
 * the other small files of a diffusers folder. Texts are the caller's: mem_free; NULL: out of memory. */
#ifndef ATL_MODEL_CONFIG_H
#define ATL_MODEL_CONFIG_H

#include "model.h"

char *unet_config_json(const UNetConfig *k);
char *vae_config_json(const VaeConfig *k);
char *clip_config_json(const ClipConfig *k);
/* The same scheduler_config.json with another prediction_type. NULL: out of memory. Caller: mem_free. */
char *config_with_prediction(const char *json, PredictionType prediction);
/* The schedule of the family's first model: SD1.5's and SD2's, or SDXL's; zero_snr: of one that ends in noise
 * alone, which is only reached by a trailing grid of steps. */
char *scheduler_config_json(ModelFamily family, PredictionType prediction, bool zero_snr);
char *model_index_json(const Model *m);
/* json with the element type it names (torch_dtype, dtype) replaced, if it names one. */
char *config_with_dtype(const char *json, DType dtype);
#endif
