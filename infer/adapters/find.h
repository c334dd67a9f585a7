/* Adapters by name, in a folder of them. */
#ifndef ATL_ADAPTER_FIND_H
#define ATL_ADAPTER_FIND_H

#include "kernels/base/status.h"

/* The file "cat", "cat.safetensors" (or .pt, .ckpt, .bin), or the folder "cat" as peft writes one, in the
 * folder or in those in it. Refuses a name that is not there, with the nearest that is. *path: caller's,
 * mem_free. */
Status adapter_find(const char *folder, const char *name, char **path);

#endif
