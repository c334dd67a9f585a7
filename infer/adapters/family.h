/* For which kind of model an adapter was made. */
#ifndef ATL_ADAPTER_FAMILY_H
#define ATL_ADAPTER_FAMILY_H

#include "infer/files/tensor_file.h"
#include "infer/models/model.h"

/* "SDXL"; NULL: the file does not say, neither in its metadata nor by its keys and shapes. Where it is seen,
 * for messages: into why. */
const char *adapter_family(const TensorFile *f, char *why, size_t size);
/* The model's, in the same words; NULL: it is none of them. */
const char *model_family(const Model *m);

#endif
