/* What a file is that was given as a model or a LoRA and is none. */
#ifndef ATL_RECOGNISE_H
#define ATL_RECOGNISE_H

#include "safetensors.h"

/* Before mapping: refuses what is no ordinary file, and by the first bytes what is no safetensors file. */
Status refuse_other_files(const char *path);
/* By its keys: refuses a safetensors file that holds something else than a Stable Diffusion 1.x or 2.x model.
 */
Status refuse_other_models(const char *path, const SafeTensors *f);

#endif
