/* Models for `atelier bench`: the true shapes in code, random weights, so that speed can be measured without
 * a file. */
#ifndef ATL_BENCH_MODELS_H
#define ATL_BENCH_MODELS_H

#include "infer/models/model.h"

typedef struct BenchShapes {
    const char *name; /* "sd15" */
    UNetConfig unet;
    VaeConfig vae;
    ClipConfig clip;
    int resolution; /* pictures it was made for */
} BenchShapes;

/* "tiny" (builtin:tiny's) or "sd15"; NULL: another name. */
const BenchShapes *bench_shapes(const char *name);
/* The parts asked for (ModelPart bits: text, UNet, VAE) with random weights. model_free. */
Status bench_model(const BenchShapes *shapes, int parts, DType dtype, Model **out);

#endif
