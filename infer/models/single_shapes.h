/* What the tensors of a file tell of a model's shapes, for single_file.c. */
#ifndef ATL_SINGLE_SHAPES_H
#define ATL_SINGLE_SHAPES_H

#include "single_file.h"

/* Whose build it is and what its UNet predicts. */
void single_read_marks(SingleFile *f);
/* The shapes of all parts that there are, after the marks. */
Status single_read_shapes(SingleFile *f);

/* Is there a VAE under this prefix, in the original code's names or in diffusers'? */
bool single_has_vae(const TensorFile *f, const char *prefix, bool original);
/* What is wrong with it; NULL: nothing, and *k is filled in. */
const char *single_read_vae(const TensorFile *f, const char *prefix, bool original, VaeConfig *k);

#endif
