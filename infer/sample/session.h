/* What is loaded while pictures are made: one model at a time, its adapters, a context. Pictures that are
 * asked for with other settings find it as those ask; what stays the same is not loaded again. */
#ifndef ATL_SAMPLE_SESSION_H
#define ATL_SAMPLE_SESSION_H

#include "infer/adapters/adapters.h"
#include "infer/safety/licence.h"
#include "options.h"

typedef struct Session {
    SampleArguments *all; /* whose pictures it will be used for: --max-memory looks at those of one model */
    int all_count;
    const SampleArguments *a; /* what it is made ready for; NULL: nothing */
    Model *model;
    Ctx *c;
    Pipeline *pipeline;
    Guard *guard;
    EmbeddingSet embeddings;
    LoraFile *loras[SAMPLE_MAX_LORAS];
    int lora_count;
    char weights[MODEL_HASH_SIZE];
    Licence licence; /* the model's */
    int vae_tile;    /* that --max-memory has chosen for the model that is loaded, or that was asked for */
    bool told;       /* what might surprise has been said */
} Session;

/* Makes ready for pictures like a, which is borrowed until another is used, and fills in what follows from
 * the model: sizes that were not given, the type that the device computes in. Refuses what the model cannot
 * do. */
Status session_use(Session *s, SampleArguments *a);
/* The same refusals without making ready, for another request to the model that is loaded. */
Status session_check(const Session *s, SampleArguments *a);
/* Both are drawn with the same model, loaded in the same way. */
bool session_same_model(const SampleArguments *a, const SampleArguments *b);
/* And with the same adapters on it. */
bool session_same_adapters(const SampleArguments *a, const SampleArguments *b);
void session_close(Session *s);

#endif
