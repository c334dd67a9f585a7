/* Models for `atelier bench`: the true shapes in code, so that speed can be measured without a file. */
#ifndef ATL_BENCH_MODELS_H
#define ATL_BENCH_MODELS_H

#include "infer/models/model.h"

typedef struct BenchModel {
    const char *name; /* "sd15" */
    int resolution;   /* pictures it was made for */
    ModelShapes shapes;
} BenchModel;

/* "tiny" (builtin:tiny's) or "sd15"; NULL: another name. */
const BenchModel *bench_model(const char *name);

#endif
