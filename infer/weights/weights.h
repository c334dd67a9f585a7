/* How a model finds its weights: by the names the files use.
 *
 * A Weights is one part's tensors under diffusers' names, wherever they come from (one file of tensors,
 * shards, a single-file checkpoint through its key map, or nothing: random weights for tests, `bench` and
 * training from scratch). A model's constructor asks for each layer by path and expected shape; what is
 * missing or of another shape is an error that names file, key and both shapes. The layers asked for are kept
 * in the part's LayerSet, in the order of asking, which is the order of exports, optimizer state and --trace.
 */
#ifndef ATL_WEIGHTS_H
#define ATL_WEIGHTS_H

#include "kernels/base/sha256.h"
#include "layerset.h"

typedef struct Weights Weights;

/* What a weight's key is followed by in that of its scales, f32, one for each output, where it is in 8 bits:
 * "conv1.weight" i8. It is kept so, whatever others are stored in. */
#define WEIGHTS_SCALE "_scale"

/* Frozen weights in this storage type (mapped as they are where file and type agree and the device can use
 * them). */
Status weights_open_file(const char *path, DType dtype, Weights **out);
Status weights_open_folder(const char *folder, const char *stem, DType dtype,
                           Weights **out);                    /* single, sharded, a variant, .bin */
bool weights_in_folder(const char *folder, const char *stem); /* are there any? */
/* Random weights as PyTorch initialises such layers by default (linear and convolution: kaiming_uniform(a=√5)
 * and U(±1/√fan_in) biases, norms 1 and 0, embeddings as the part says), from the keyed generator with this
 * seed. */
Status weights_random(uint64_t seed, DType dtype, Weights **out);
void weights_close(
    Weights *w); /* NULL allowed; mapped weights stay usable: the mapping is kept by the LayerSet */

/* For single-file checkpoints (infer/files/keymap.c), built up tensor by tensor: under `key` rows part/parts
 * of e. A key given twice is refused when the first layer is asked for. */
Status weights_new(const char *origin, DType dtype, Weights **out);
Status weights_add(Weights *w, const char *key, const TensorEntry *e, int part, int parts);
/* The same of a whole matrix, rows and columns changed. */
Status weights_add_turned(Weights *w, const char *key, const TensorEntry *e);

/* Other spellings: a key with `text` in it that is not there is looked for with `other` in its place. At most
 * 8; both strings are borrowed. */
void weights_alias(Weights *w, const char *text, const char *other);
/* Random weights of linear layers and embeddings from here on: N(0, std), biases 0. 0: PyTorch's defaults. */
void weights_random_normal(Weights *w, float std);
/* From here on layers get shapes and no memory: a tensor that can be used where it lies in a mapped file
 * points there, untouched; every other has data NULL. For plans, which are made before anything is loaded. */
void weights_describe(Weights *w);
/* From here on layers that layerset_quantise() takes are put into 8 bits as they are made, so that of a large
 * part no more than one weight is ever wide. */
void weights_quantise(Weights *w);
/* Shows how many of the tensors have been made into layers from here on; what: "unet", say. Borrowed. */
void weights_show(Weights *w, const char *what);
/* Warns, naming one, of tensors that no layer asked for, but for keys that contain one of the words in
 * `expected` (NULL-terminated). */
void weights_warn_unused(const Weights *w, const char *const *expected);

/* The floats among the tensors; position numbers and the like are no parameters. */
typedef struct WeightsTotal {
    int64_t numbers, bytes;
    bool types[ELEMENT_TYPES];
} WeightsTotal;
WeightsTotal weights_total(const Weights *w);

/* Where the tensor of this name lies, whichever way its file spells it. */
Status weights_find(const Weights *w, const char *key, SafePiece *out);

/* Adds what tells these weights from others of the same shapes: names, shapes, and of each tensor its first
 * and last bytes as they are stored. Next to nothing is read for it. */
void weights_hash(const Weights *w, Sha256 *s);

typedef enum LayerKind { LAYER_LINEAR, LAYER_CONV, LAYER_NORM, LAYER_EMBEDDING } LayerKind;
/* Fills *l: "PATH.weight" with the shape given (a 1×1 convolution and a linear layer stand for each other),
 * and "PATH.bias" of shape[0] elements if has_bias. Norm and bias tensors are kept as f32. Adds l to set. The
 * failure is kept in w (first one wins) so that constructors read without error checks; weights_status tells
 * at the end. */
void weights_layer(Weights *w, LayerSet *set, Layer *l, LayerKind kind, bool has_bias, int ndim,
                   const int64_t *shape, const char *path_format, ...) __attribute__((format(printf, 8, 9)));
Status weights_status(const Weights *w);
/* A tensor that is no layer's, as f32 into `out`, whose shape has to be this; missing or of another: as
 * weights_layer. With weights_describe nothing is read. */
void weights_numbers(Weights *w, const char *key, int ndim, const int64_t *shape, float *out);

#endif
