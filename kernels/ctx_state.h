/* The inside of a context, shared by ctx.c (steps and memory), tape.c (the backward pass) and
 * checks.c. */
#ifndef ATL_CTX_STATE_H
#define ATL_CTX_STATE_H

#include "op.h"
#include "plan.h"
#include "profile.h"

#include <setjmp.h>

/* Host memory for a step's Tensor and Node structs: pieces that are kept from step to step. */
typedef struct Piece Piece;
struct Piece {
    Piece *next;
    size_t used, size;
    max_align_t bytes[];
};

/* What the open operation has made so far, while checks are on. */
/* What an operation made in the first run of a checkpointed block. */
typedef struct Kept Kept;
struct Kept {
    Tensor *out, *side; /* out NULL: it is made again */
    bool dear;
    Kept *next;
};

typedef struct Made Made;
struct Made {
    const Tensor *tensor;
    Made *next;
};

/* Memory of one tensor of a step without a plan. */
typedef struct Loose {
    void *data;
    size_t bytes;
} Loose;

/* A fetch that was begun before the operation that wants it (weights.c). */
typedef struct Ahead {
    int32_t number;
    const void *from;
} Ahead;

typedef enum RunMode { RUN_FREE, RUN_REHEARSE, RUN_PLANNED } RunMode;

typedef struct CtxState {
    LayerFn layer_begins, layer_added; /* or NULL */
    void *watch_arg;
    CtxOptions options;
    RunMode mode;
    Status failed;
    char message[1024];
    bool inside;   /* the step function is running */
    bool through;  /* it is not to be stopped any more */
    jmp_buf leave; /* out of it, from ctx_host */
    bool capturing, replayed;

    /* the open operation */
    const char *op;
    const Layer *layer;
    int32_t tick;  /* number of the open operation in the step */
    int32_t place; /* number of the next tensor's memory */
    PlaceKind kind;

    Plan *drawing;    /* the plan being made, RUN_REHEARSE */
    const Plan *plan; /* the plan being followed, RUN_PLANNED */
    char *arena;
    size_t arena_bytes;
    int32_t *seen; /* RUN_PLANNED: the last operation that used each place so far */
    int32_t seen_capacity;
    Loose *loose; /* RUN_FREE: an allocation a tensor, freed when the next step begins */
    int32_t loose_count, loose_capacity;
    Piece *pieces, *piece;
    int32_t fetches; /* RUN_PLANNED: weights fetched so far */
    Ahead ahead;

    /* the tape */
    Node *head;
    Checkpointing checkpointing;
    bool backward;  /* walking it back */
    bool probing;   /* inside a checkpointed block's first run: propagate requires_grad, record nothing */
    Kept **keeping; /* while probing: where the next op_keep() goes */
    Kept **again;   /* in the second run: where the next op_kept() looks; NULL: this is none */

    /* checks.c */
    bool checks;
    Made *made, **made_end; /* in the order they were made */
    const Layer *near;      /* of the last operation that had one */
    CtxFinding found;

    Profile *profile; /* profile.c; or NULL */
} CtxState;

/* Cleared memory for the step's own structures. Where there is none the context has failed, and the step
 * function is left: this does not return. */
void *ctx_host(Ctx *c, size_t bytes);
Tensor *ctx_place(Ctx *c, DType dtype, int ndim, const int64_t *shape, PlaceKind kind);

/* While checks are on: the open operation fills t, and it is done (before the next one begins). */
void checks_made(Ctx *c, const Tensor *t);
void checks_done(Ctx *c);
void checks_reset(CtxState *s);

/* Where a profile is taken: a step begins, an operation ends, the next one begins, and what it computes and
 * touches. */
void profile_begin(Ctx *c);
void profile_done(Ctx *c);
void profile_next(Ctx *c, const char *op, const Layer *layer);
void profile_flop(Ctx *c, double flop);
void profile_tensor(Ctx *c, const Tensor *t);

#endif
