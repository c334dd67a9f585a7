/* What a diffusers folder says in its small files and a single file's tensors do not. */
#ifndef ATL_CONVERT_TEXTS_H
#define ATL_CONVERT_TEXTS_H

#include "infer/models/model.h"

/* Hands over configurations and schedule of m, and its tokenizer if that is another than CLIP's, each with
 * its path in a folder. */
Status texts_each(const Model *m, Status (*take)(void *arg, const char *path, const char *text), void *arg);
/* Whether a file says by its tensors alone what these are; *alone where it does not, so that other programs
 * take it for something else. A warning says what. */
Status texts_needed(const char *path, const ModelShapes *shapes, bool *alone);

#endif
