/* What a file is that was given as a model or a LoRA and is none. */
#ifndef ATL_RECOGNISE_H
#define ATL_RECOGNISE_H

#include "tensor_file.h"

/* By its first bytes: refuses what is no file of tensors, or of a format that is not read. */
Status refuse_other_files(const char *path, const uint8_t *head, size_t n);
/* What a file of tensors holds, by its keys. */
typedef struct FileKind {
    const char *part;   /* of a key; "^" first: its beginning */
    const char *word;   /* "lora", "vae", "model", … for programs */
    const char *what;   /* "is a LoRA" */
    const char *advice; /* "; give it with …" for whoever gave it as a model, or "" */
} FileKind;
const FileKind *file_kind(const TensorFile *f);
/* Refuses a file that holds something else than a Stable Diffusion 1.x, 2.x or XL model. */
Status refuse_other_models(const char *path, const TensorFile *f);

#endif
