/* What is trained: a list of tensors with the names that exports use, their gradients, Adam's moments, their
 * averages.
 *
 * LoRA: two tensors a module, "lora_unet_….lora_down.weight" and ".lora_up.weight", in the order of the
 * UNet's layers, then the text encoder's. Full: every weight and bias, "unet.conv_in.weight". All f32,
 * whatever the frozen weights are stored in. A tensor's gradient is weight->grad, which the backward pass
 * adds to. */
#ifndef ATL_PARAMETERS_H
#define ATL_PARAMETERS_H

#include "infer/models/model.h"
#include "train/config/config.h"

typedef struct Parameter {
    char *name;
    Tensor *weight;  /* borrowed from its layer or adapter */
    Tensor *m, *v;   /* Adam's moments */
    Tensor *average; /* EMA of the weight, or NULL */
    bool text_encoder;
} Parameter;

/* A LoRA adapter being trained: y += alpha/rank · up(down(x)). */
typedef struct LoraModule {
    Layer *layer;
    char kohya[192]; /* "lora_unet_down_blocks_0_…" */
    bool text_encoder;
    Adapter adapter; /* attached to layer */
} LoraModule;

typedef struct Parameters {
    Parameter *items;
    int count, capacity;
    LoraModule *modules; /* LoRA only */
    int module_count;
    Tensor *alpha;           /* of all modules: one number, as files have it. LoRA only */
    int layer_count;         /* modules or layers trained */
    int64_t average_updates; /* n of the EMA's decay */
    bool averaged;           /* the averages stand in the weights' place now */
    bool described;          /* of a model_describe'd model: shapes and no data */
} Parameters;

/* Attaches what config.method asks for to m and lists it. */
Status parameters_new(const Config *config, Model *m, Parameters **out);
/* Detaches adapters from their layers; NULL allowed. Before model_free. */
void parameters_free(Parameters *p);

int64_t parameters_elements(const Parameters *p);
size_t parameters_optimizer_bytes(const Parameters *p); /* moments and averages */
void parameters_zero_gradients(Parameters *p);
/* Exchanges weights and averages, where there are averages: previews, validation and exports run between two
 * calls. */
void parameters_swap_averages(Parameters *p);

#endif
