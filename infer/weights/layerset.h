/* A part's layers, in the order in which its constructor asked for them: the order of exports, optimizer
 * state and --trace. The structs themselves lie in the model; what they point to is the set's. */
#ifndef ATL_LAYERSET_H
#define ATL_LAYERSET_H

#include "infer/files/safetensors.h"
#include "kernels/flat.h"
#include "kernels/layer.h"

typedef struct LayerSet {
    Layer **items;
    int count, capacity;
    int idle;          /* so many of the last ones are not trained with the rest: nothing looks at them */
    TensorFiles files; /* whose mappings weights lie in */
    bool described;    /* weights_describe: shapes only */
    const Device *dev; /* whose memory the weights lie in and who packs them; NULL: the processor */
    void *pinned;      /* the host's memory that streamed weights lie in */
    size_t pinned_bytes;
    bool trained_on_host; /* what is trained lies in the host's memory, where the device reaches it
                             (Flat.pinned_by) */
    bool gradients_apart; /* what is trained has no gradient's storage of its own (flat_new_apart) */
} LayerSet;

/* Where weights lie on a device with memory of its own: there; or in the host's, from where each is fetched
 * when its turn comes (kernels/weights.c), all but trained ones and what is small. */
typedef enum Placement { PLACED_RESIDENT, PLACED_STREAMED } Placement;

Status layerset_add(LayerSet *set, Layer *l); /* at the end; from now on the set frees what l holds */
/* The layers' tensors, names, packed forms and mappings; adapters are not touched. */
void layerset_free(LayerSet *set);
/* Moves the layers, with the adapters attached to them, into the device's memory; the files they came from
 * are closed. Of a described set only the device is noted. */
Status layerset_place(LayerSet *set, const Device *dev, Placement placement);
/* Bytes that the device keeps of the layer besides its weight, or will once it is used. */
size_t layerset_packed_bytes(const LayerSet *set, const Layer *l);
size_t layerset_elements(const LayerSet *set); /* numbers in all weights and biases */
Layer *layerset_find(const LayerSet *set, const char *name);
/* Numbers of a block that holds all weights and biases that layerset_train() takes. */
int64_t layerset_room(const LayerSet *set);
/* Stores the weight of a linear layer or a convolution of the set that is large enough for it in 8 bits, a
 * scale for each of its outputs (row-wise absmax, as LLM.int8()'s weights: Dettmers et al. 2022). A UNet's
 * first and last convolution, what it makes of the time and of the whole text, which all else hangs on and
 * which are small, stay as they are. Before it is placed or trained. */
Status layerset_quantise(LayerSet *set, Layer *l);
/* The way back: what is in 8 bits is stored in this type. */
Status layerset_decode(LayerSet *set, DType dtype);
/* Whether layerset_quantise takes a weight of this shape in the layer of this name. */
bool layerset_quantises(const char *name, int ndim, const int64_t *shape);
/* One row of n numbers, to within half a step. Returns its scale. */
float quantise_row(const float *x, int64_t n, int8_t *q);
/* Lets what is multiplied with weights in 8 bits be rounded to 8 bits, too, wherever no gradient is wanted
 * and the device has such products (kernels/cpu/int8.c). */
void layerset_narrow(LayerSet *set);
/* Makes every weight and bias but those of idle layers trained, in the block, where it keeps its value:
 * method full. In the layers' order, a weight before its bias. */
Status layerset_train(LayerSet *set, Flat *flat);
/* Whether the device may keep frozen convolutions in its own orders, one for the forward and one for the
 * backward pass, or the first alone: faster, in more memory, with the same result. */
typedef enum Packed { PACKED_NOT, PACKED_FORWARD, PACKED_BOTH } Packed;
void layerset_keep_packed(LayerSet *set, Packed kept);
/* Whether trained weights stay as they are for now, as in previews and validation: their convolutions are
 * then packed once and not at each call. No backward pass may come before this is taken back, and gradients
 * are lost. */
void layerset_hold_still(LayerSet *set, bool still);
/* Gives back what comes again when it is needed: packed forms, and pages of mapped files. */
void layerset_rest(LayerSet *set);

#endif
