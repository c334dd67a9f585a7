/* The optimizers there are. Each is a file here and a line of OPTIMIZERS; its arithmetic is the device's
 * (UpdateKind in kernels/device.h). From the table follow the words of optimizer.kind with their help, the
 * blocks that are kept beside the weights and what they are called in a checkpoint, the memory that a plan
 * counts, and what a result says of how it was made. An optimizer without a test against PyTorch's steps does
 * not link (tests/kernels/test_optimizer.c). */
#ifndef ATL_OPTIMIZERS_H
#define ATL_OPTIMIZERS_H

#include "kernels/device.h"

/* X(name, what it is, as a sentence) */
#define OPTIMIZERS(X)                                                                                        \
    X(adamw, "Loshchilov & Hutter 2019, as torch.optim.AdamW")                                               \
    X(adamw8bit, "the same with its means in 8 bits, as bitsandbytes, in a quarter of the memory")

/* What a configuration sets, beside the rates: as far as the optimizer has it. */
typedef struct OptimizerSettings {
    double weight_decay, beta1, beta2, eps;
} OptimizerSettings;

typedef struct Optimizer {
    const char *name;                  /* the word of optimizer.kind */
    const char *states[UPDATE_STATES]; /* what a checkpoint calls the blocks that it keeps; NULL: no more */
    bool codes; /* they are in 8 bits: kernels/state8.h; else f32, blocks like the weights' */
    /* Puts kind and settings into u, which has everything else. */
    void (*set)(const OptimizerSettings *s, Update *u);
    /* ss_optimizer, as sd-scripts says it: "MODULE.CLASS(settings)". Caller: mem_free; NULL: out of memory.
     */
    char *(*describe)(const OptimizerSettings *s);
} Optimizer;

#define OPTIMIZER_DECLARED(name, what) extern const Optimizer optimizer_##name;
OPTIMIZERS(OPTIMIZER_DECLARED)
#undef OPTIMIZER_DECLARED

/* The words one after the other, "|adamw|…", and the sentences, " adamw: ….": the schema's, from the second
 * character on. */
#define OPTIMIZER_WORD(name, what) "|" #name
#define OPTIMIZER_SENTENCE(name, what) " " #name ": " what "."
#define OPTIMIZER_WORDS (OPTIMIZERS(OPTIMIZER_WORD))
#define OPTIMIZER_SENTENCES (OPTIMIZERS(OPTIMIZER_SENTENCE))

/* The one at this place of the table; NULL past the last. */
const Optimizer *optimizer_at(int kind);
int optimizer_states(const Optimizer *o);

#endif
