/* What is trained: a list of tensors with the names that exports use, as views into one block of weights and
 * one of gradients, and the blocks that go with them: the optimizer's state, the averages.
 *
 * LoRA: two tensors a module, "lora_unet_….lora_down.weight" and ".lora_up.weight", in the order of the
 * UNet's layers, then the text encoders'. Full: every weight and bias, "unet.conv_in.weight". All f32,
 * whatever the frozen weights are stored in. A tensor's gradient is weight->grad, which the backward pass
 * adds to; with train.fused_backward its memory is other gradients' too (fused.h). */
#ifndef ATL_PARAMETERS_H
#define ATL_PARAMETERS_H

#include "infer/models/model.h"
#include "kernels/device.h"
#include "kernels/flat.h"
#include "train/config/config.h"
#include "share.h"

#include <assert.h>

typedef enum ParameterGroup {
    GROUP_UNET,
    GROUP_TEXT,
    GROUP_TEXT_2,
    GROUP_COUNT
} ParameterGroup; /* each with its own rate */
static_assert((int)GROUP_COUNT <= UPDATE_GROUPS, "a device counts by group");

typedef struct Parameter {
    char *name;
    Tensor *weight; /* borrowed from its layer or adapter: a view into the blocks */
} Parameter;

/* A LoRA adapter being trained: y += alpha/rank · up(down(x)). */
typedef struct LoraModule {
    PartId part;
    Layer *layer;
    Adapter adapter; /* attached to layer */
} LoraModule;

typedef struct Parameters {
    const Model *model; /* borrowed */
    Parameter *items;
    Segment *segments; /* where each item lies in the blocks, and its group */
    int count, capacity;
    int groups;     /* 1 << ParameterGroup of what there is */
    int64_t placed; /* numbers of the blocks that the items take */
    Flat flat;      /* weights and gradients */
    bool torn; /* some of the weights have moved by a step (fused.h) of which it is not sure that it counts */
    Share share;                   /* of which this process keeps the following blocks, of several */
    Tensor *states[UPDATE_STATES]; /* what the optimizer keeps; NULL: no more */
    Tensor *averages;              /* EMA of the weights, or NULL */
    StepNumbers *numbers;          /* what the device says of an update */
    void *scratch;                 /* what it needs for one */
    size_t scratch_bytes;
    void *recording;     /* of an update, on a device that records */
    LoraModule *modules; /* LoRA only */
    int module_count;
    Tensor *alpha;   /* of all modules: one number, as files have it. LoRA only */
    int layer_count; /* modules or layers trained */
    int64_t updates; /* so far: what corrections of means and the EMA's decay follow from */
    const Optimizer *optimizer;
    const Device *dev;      /* that updates them */
    const Device *steps_on; /* they lie in the host's memory, where this one reaches them (train.offload:
                               all): another than dev, or with fused updates dev itself; or NULL */
} Parameters;

/* Attaches what config.method asks for to m and lists it. comm: the processes that share the run. */
Status parameters_new(const Config *config, const Device *dev, Comm *comm, Model *m, Parameters **out);
/* Detaches adapters from their layers; NULL allowed. Before model_free, and nothing may run in between: whole
 * weights lie in these blocks. */
void parameters_free(Parameters *p);

/* Item i's part of a block, or of a copy of it, as a tensor of the item's shape; of a state in 8 bits
 * (kernels/state8.h) its bytes. No data: the block has this process's share alone, and i is not in it. */
Tensor parameters_part(const Parameters *p, const Tensor *block, int i);

int64_t parameters_elements(const Parameters *p);
size_t parameters_block_bytes(const Parameters *p); /* of one block */
/* The optimizer's state and the averages: of this process, and of all together. */
size_t parameters_optimizer_bytes(const Parameters *p);
size_t parameters_all_optimizer_bytes(const Parameters *p);
Status parameters_zero_gradients(Parameters *p);
/* With train.fused_backward gradients have no memory before this: a block of so many bytes, and where in it
 * each lies. */
Status parameters_place_gradients(Parameters *p, const size_t *at, size_t bytes);
/* Exchanges the contents of weights and averages, where there are averages: previews, validation and exports
 * run between two calls. All processes together. */
Status parameters_swap_averages(Parameters *p);

#endif
