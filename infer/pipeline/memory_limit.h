/* What of type, tiles and 8-bit weights is taken so that a picture fits into so much memory. */
#ifndef ATL_MEMORY_LIMIT_H
#define ATL_MEMORY_LIMIT_H

#include "infer/adapters/strength.h"
#include "pipeline.h"

/* A picture that is to fit, with the adapters that it is drawn with. */
typedef struct MemoryPicture {
    const SampleRequest *request;
    const UsedLora *loras;
    int lora_count;
} MemoryPicture;

typedef struct MemoryChoice {
    const char *model, *vae; /* as ModelRequest has them */
    bool ema;
    const Device *dev;
    bool tf32; /* CtxOptions.tf32 */
    int threads;
    const MemoryPicture *pictures; /* all that are drawn with the model so loaded */
    int count;
    bool keep_dtype, keep_int8, keep_tile; /* was asked for by name, and stays; a tile is each request's
                                              own then */
    Offload offload;
    DType dtype;  /* these three: what is taken without a limit, then with it */
    bool int8;    /* weights of UNet and text encoder in 8 bits */
    int tile;     /* SampleRequest.vae_tile */
    size_t bytes; /* what the picture that needs most needs then, of the device's memory */
} MemoryChoice;

/* How pictures are drawn, and what the one that needs most takes then. */
typedef struct MemoryWay {
    DType dtype;
    bool int8;
    int tile;
    Offload offload;
} MemoryWay;
typedef struct MemoryUse {
    size_t bytes; /* of the device's memory */
    size_t host;  /* and of the machine's, where that is another; else 0 */
    double moved; /* bytes of weights that are fetched for the whole picture */
    double flop;  /* of the whole picture */
} MemoryUse;
/* No model is loaded: shapes are planned. */
Status memory_use(const MemoryChoice *m, const MemoryWay *way, MemoryUse *use);
/* The least change first. No model is loaded: shapes are planned. Refused where nothing fits, with what the
 * least needs. */
Status memory_limit_choose(MemoryChoice *m, size_t limit);
/* "2G", "1500M", "2147483648". */
Status memory_limit_parse(const char *text, size_t *bytes);

#endif
