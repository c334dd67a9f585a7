/* The forms in which a convolution's weight, (K,C,kh,kw) as files have it, meets a walk (conv.h): (N,taps,
 * channels) of the product's type, or the one of a weight in 8 bits (bytes.h). A layer that does not change
 * keeps them (Layer.packed), and they may be all that the card has of its weight; else they are made at each
 * call, in scratch memory. */
#ifndef ATL_CUDA_FORMS_H
#define ATL_CUDA_FORMS_H

#include "bytes.h"
#include "conv.h"

/* One of the products forward and gradient of the input. */
typedef struct ConvPlan {
    ConvWalk walk;
    bool backward, tensor, bytes; /* bytes: by conv_bytes */
    int tile;
    DType form_type;
    size_t form_bytes, part_bytes;
} ConvPlan;

/* Whether w is in 8 bits, with its scales; bytes of its form. */
bool conv_is_narrow(const Tensor *w);
size_t conv_byte_form_bytes(const Tensor *w);

/* *bytes of scratch memory that conv_form takes. What the layer will keep is noted, so that
 * conv_packed_bytes counts it. */
Status conv_form_scratch(const Conv *a, const ConvPlan *p, size_t *bytes);
/* *form = a's weight as the plan wants it, made now if it is not there. */
Status conv_form(const Conv *a, const ConvPlan *p, void *scratch, const void **form);
/* *bytes = what the layer of a weight in 8 bits keeps of it, made now if it is not there; NULL: it keeps
 * nothing. */
Status conv_kept_bytes(const Conv *a, const signed char **bytes);

size_t conv_packed_bytes(const Layer *l);
void conv_unpack(Layer *l);

#endif
