/* What of type, tiles and 8-bit weights is taken so that a picture fits into so much memory. */
#ifndef ATL_MEMORY_LIMIT_H
#define ATL_MEMORY_LIMIT_H

#include "pipeline.h"

typedef struct MemoryChoice {
    const char *model; /* as ModelRequest has it */
    const Device *dev;
    int threads;
    const SampleRequest *request;
    bool keep_dtype, keep_int8, keep_tile; /* was asked for by name, and stays */
    DType dtype;                           /* these three: what is taken without a limit, then with it */
    bool int8;                             /* weights of UNet and text encoder in 8 bits */
    int tile;                              /* SampleRequest.vae_tile */
    size_t bytes;                          /* what is needed then, of the device's memory */
} MemoryChoice;

/* The least change first. Nothing is loaded: shapes are planned. Refused where nothing fits, with what the
 * least needs. */
Status memory_limit_choose(MemoryChoice *m, size_t limit);
/* "2G", "1500M", "2147483648". */
Status memory_limit_parse(const char *text, size_t *bytes);

#endif
