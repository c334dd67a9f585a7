/* Files of tensors that a command may replace because it made them: that stands in their metadata, as
 * "atelier": MARK. Anything else of that name is somebody's LoRA, model or work, and is left alone. */
#ifndef ATL_MARKS_H
#define ATL_MARKS_H

#include "tensor_file.h"

#define MARK_LATENTS "latents" /* atelier sample --save-latents */
#define MARK_TRACE "trace"     /* --trace */

/* What is written into the file. */
TensorMeta mark_of(const char *mark);
/* Before the file is written: refuses a path where something stands that has not this mark. */
Status mark_check(const char *path, const char *mark);
/* The same for every file of a folder whose name begins so; a folder that is not there is fine. */
Status mark_check_folder(const char *folder, const char *begin, const char *mark);

#endif
