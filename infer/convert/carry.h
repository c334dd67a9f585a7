/* Parts of a diffusers folder that this program draws without (safety_checker, feature_extractor,
 * image_encoder, …) and that whoever wrote the folder wants to find again. */
#ifndef ATL_CONVERT_CARRY_H
#define ATL_CONVERT_CARRY_H

#include "infer/models/model.h"

/* Copies them, byte by byte, into a folder that is made of m. Nothing is done where m is a single file. */
Status carry_parts(const Model *m, const char *folder);
/* model_index.json of that folder: m's own parts, and of the others what m's says of them. */
Status carry_index(const Model *m, const char *folder);
/* Bytes that copying them takes; of what cannot be read, 0. */
size_t carry_bytes(const Model *m);
/* Says in one line which of them a single file leaves out. */
Status carry_tell_left_out(const Model *m);

#endif
