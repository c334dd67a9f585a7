/* A model written in the other layout, diffusers folder or single file, with the tensors as they are stored.
 */
#ifndef ATL_CONVERT_H
#define ATL_CONVERT_H

#include "infer/models/model.h"

typedef struct ConvertRequest {
    const char *from; /* a model */
    const char *to;   /* nothing is there; NAME.safetensors: a single file, anything else a folder */
    const char *vae;  /* as ModelRequest has it */
    bool ema;
    const DType
        *dtype;    /* NULL: each tensor keeps its type; one in 8 bits with its scales keeps it in any case */
    bool quantise; /* weights of UNet and text encoder in 8 bits (layerset_quantises) */
} ConvertRequest;

typedef struct ConvertResult {
    bool single; /* a file was made, not a folder */
    int tensors;
    int quantised;   /* of them */
    bool told_alone; /* others cannot read from this file what they need to know: only this program does */
} ConvertResult;

Status model_convert(const ConvertRequest *r, ConvertResult *out);
/* The two halves, onto a path that is the caller's to make whole. */
Status single_write(const Model *m, const char *path, const ConvertRequest *r, ConvertResult *out);
Status folder_write(const Model *m, const char *folder, const ConvertRequest *r, ConvertResult *out);

#endif
