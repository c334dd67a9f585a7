/* What torch's pickles are made of: which names may occur in them, and what a tensor looks like there. */
#ifndef ATL_TORCH_PICKLE_H
#define ATL_TORCH_PICKLE_H

#include "element.h"
#include "pickle.h"

#define TORCH_MAX_DIMS 64

/* Names of torch's own restricted reader, and of what Lightning and numpy leave in
 * checkpoints; everything else is refused. */
PickleUse torch_allowed(const char *module, size_t module_length, const char *name, size_t name_length);

/* The numbers that tensors are cut out of: a block of memory in torch, bytes in the file. */
typedef struct TorchStorage {
    const char *key; /* not ended by a 0 */
    size_t key_length;
    ElementType type;            /* ELEMENT_OTHER with element 0: the tensor says it */
    const char *type_name;       /* as in the file, not ended by a 0 */
    size_t type_length, element; /* bytes of one number, 0: not known */
} TorchStorage;

typedef struct TorchTensor {
    TorchStorage storage; /* its type is the tensor's */
    int ndim;
    int64_t offset; /* in numbers */
    int64_t shape[TORCH_MAX_DIMS], strides[TORCH_MAX_DIMS];
} TorchTensor;

/* What a PICKLE_REF refers to. Fails where it is no storage. */
Status torch_storage(const PickleValue *ref, TorchStorage *out);
bool torch_is_tensor(const PickleValue *v); /* or a parameter, which is one */
/* Numbers are as the file has them, not compared with anything yet. */
Status torch_tensor(const PickleValue *v, TorchTensor *out);

#endif
