/* For authors of operations (kernels/ops): memory and failures of the open operation, the device's functions,
 * and the tape. Who writes a step or a model needs none of this: kernels/ops.h and kernels/ctx.h are theirs.
 */
#ifndef ATL_OP_H
#define ATL_OP_H

#include "ctx.h"
#include "device.h"
#include "ops.h"

/* Opens an operation: name for messages and the plan's check, layer may be NULL. Everything the operation
 * uses or makes after this belongs to it. */
void op_begin(Ctx *c, const char *name, const Layer *layer);
/* Declares that the open operation reads t: its memory stays until now. NULL is allowed. */
void op_use(Ctx *c, const Tensor *t);
/* The open operation goes on with another device call: scratch memory of the one before is free again. What
 * is read or written from here on has to be op_use()d after this. */
void op_next(Ctx *c);
/* The layer's weight in the device's memory, for the open operation: the layer's own, or fetched or decoded
 * into the step's memory. NULL where the layer has none. */
Tensor *op_weight(Ctx *c, const Layer *l);
/* The same for a product's b or a convolution's w: in 8 bits where the device decodes it itself. */
Tensor *op_product_weight(Ctx *c, const Layer *l);
/* Memory for the open device call only. NULL while rehearsing or when bytes is 0. */
void *op_scratch(Ctx *c, size_t bytes);
/* Keeps the first failure: "operation (layer): message". */
void op_check(Ctx *c, Status s);
void op_flop(Ctx *c, double flop);

/* Runs a device function if the step is live and nothing failed: RUN(c, c->dev->silu(x, y)) */
#define RUN(c, call)                                                                                         \
    do {                                                                                                     \
        if ((c)->live)                                                                                       \
            op_check((c), call);                                                                             \
    } while (0)

/* The same for a function that takes a descriptor and scratch memory: RUN_IN_SCRATCH(c, conv2d, &a). What the
 * descriptor names has to be op_use()d before. */
#define RUN_IN_SCRATCH(c, fn, descriptor)                                                                    \
    do {                                                                                                     \
        size_t scratch_bytes = 0;                                                                            \
        op_check((c), (c)->dev->fn##_scratch((descriptor), &scratch_bytes));                                 \
        void *scratch_memory = op_scratch((c), scratch_bytes);                                               \
        RUN((c), (c)->dev->fn((descriptor), scratch_memory));                                                \
    } while (0)

/* The tape --------------------------------------------------------------------------------------------- */

/* A node holds what the backward needs. */
typedef struct Node Node;
typedef void (*BackwardFn)(Ctx *c, Node *n);
#define NODE_TENSORS 8
struct Node {
    const char *name;
    BackwardFn backward;
    const Layer *layer;
    Tensor *out;              /* its grad is the incoming gradient */
    Tensor *in[NODE_TENSORS]; /* inputs and whatever else was kept; meaning is the operation's */
    int64_t i[8];             /* integer parameters */
    float f[4];               /* float parameters */
    const void *arg;
    Node *before;
};
/* Records an operation whose output is out if c->recording and needs_grad: sets out->requires_grad. Returns
 * the node to fill in, or NULL if nothing is to be kept. */
Node *tape_record(Ctx *c, const char *name, const Layer *layer, Tensor *out, bool needs_grad,
                  BackwardFn backward);

/* A gradient will want this operation: it is recorded, or will be in the second run of a checkpointed block.
 */
bool tape_wanted(const Ctx *c);

/* A checkpointed block runs twice, and what takes much arithmetic for its memory need not be made twice. Such
 * an operation says what it made, out and side (or NULL), by flop operations, which counts in the first run
 * alone; before that, in both, it asks for what was kept: NULL where it has to compute. */
void op_keep(Ctx *c, double flop, Tensor *out, Tensor *side);
Tensor *op_kept(Ctx *c, Tensor **side);

/* Backward helpers. In a backward function n->out->grad is the gradient g of the output (never NULL).
 *   Tensor *d = grad_target(c, x);   // NULL if x needs none; a tensor like x to be overwritten
 *   RUN(c, c->dev->…(…, d));
 *   grad_add(c, x, d);               // x->grad = d, or += d where there was one
 * grad_pass hands the gradient g itself on to x (residual sums, reshapes), without copying where x is stored
 * alike. */
Tensor *grad_target(Ctx *c, Tensor *x);
void grad_add(Ctx *c, Tensor *x, Tensor *d);
void grad_pass(Ctx *c, Tensor *x, Tensor *g);

#endif
