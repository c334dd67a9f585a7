/* A Stable Diffusion model: its parts, wherever they come from (diffusers folder, single file, built in). */
#ifndef ATL_MODEL_H
#define ATL_MODEL_H

#include "infer/samplers/schedule.h"
#include "infer/text/tokenizer.h"
#include "clip.h"
#include "unet.h"
#include "vae.h"

typedef enum ModelPart {
    MODEL_TEXT = 1,
    MODEL_UNET = 2,
    MODEL_VAE = 4,
    MODEL_TOKENIZER = 8,
    MODEL_ALL = 15
} ModelPart;

typedef enum ModelConfig {
    CONFIG_UNET,
    CONFIG_VAE,
    CONFIG_TEXT,
    CONFIG_SCHEDULER,
    MODEL_CONFIGS
} ModelConfig;

typedef struct Model {
    char *name;   /* as asked for: "builtin:tiny", a path */
    char *folder; /* diffusers folder, or NULL for a single file */
    Clip *clip;
    UNet *unet;
    Vae *vae;
    Tokenizer *tokenizer;
    NoiseSchedule schedule;
    bool random;                      /* UNet and text encoder began from random weights */
    int default_size;                 /* UNet's sample_size × VAE factor, pixels */
    int size_multiple;                /* VAE factor × 2^(UNet levels − 1) */
    char *config_json[MODEL_CONFIGS]; /* texts of the parts' configurations, as model_save writes them; or
                                         NULL */
} Model;

/* Loads the parts asked for (ModelPart bits) with frozen weights stored as dtype. A UNet config is always
 * read. */
Status model_load(const char *name, int parts, DType dtype, Model **out);
/* Random weights of the shapes that a diffusers folder's config.json files give: training from scratch,
 * tests. The VAE, tokenizer and schedule are read from the folder. */
Status model_load_random(const char *name, int parts, DType dtype, uint64_t seed, Model **out);
/* The same model without its weights: configurations, tokenizer and layers with their shapes
 * (weights_describe). For plans. random: as model_load_random would load it. */
Status model_describe(const char *name, int parts, DType dtype, bool random, Model **out);
/* Moves the parts' weights into the device's memory; of a described model only the device is noted. */
Status model_place(Model *m, const Device *dev);
void model_free(Model *m);
/* What the UNet predicts, where the model's file does not say it or says it wrongly; model_save writes it. */
Status model_set_prediction(Model *m, PredictionType prediction);
/* What may be given for a model, for messages. */
#define MODEL_KINDS "file or folder (a model is a diffusers folder, a .safetensors file or builtin:NAME)"
bool model_is_builtin(const char *name);
/* Where `builtin:NAME` lies: $ATELIER_MODELS, ../share/atelier beside the program, the source tree. Caller:
 * mem_free. */
Status model_find(const char *name, char **path);
/* Writes a diffusers folder (configs and tokenizer copied from m, weights from the parts' layers as dtype).
 * Parts that m was loaded without are read from where it came, and so are frozen ones that it holds in
 * another 16-bit type than asked for. */
Status model_save(const Model *m, const char *folder, DType dtype);
/* The memory that model_save takes for the largest part that it reads again. m has all parts, or their
 * shapes. */
size_t model_save_bytes(const Model *m, DType dtype);

#endif
