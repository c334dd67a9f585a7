/* The context: everything a step needs besides its inputs, so that operations read as in the paper.
 *
 *     Ctx *c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_BF16});
 *     Plan *plan = NULL;
 *     TRY(ctx_rehearse(c, step, &args, &plan));    // shapes only: every size and last use, the exact peak
 *     TRY(ctx_run(c, plan, step, &args));          // the real step, in the places the plan gave
 *
 * An operation takes a context and returns a tensor. A failure is kept once, with the operation's and layer's
 * name; after it every operation is a no-op that still returns a tensor of the right shape, and ctx_run
 * reports it at the end. While a step is rehearsed tensors have no data (Tensor.data is NULL) and c->live is
 * false: a step function must not look into them; the sequence of operations must depend on nothing but
 * shapes.
 *
 * Memory: with a plan every tensor has a fixed place in the arena, found by running number. Without one
 * (tests, single operations) the arena grows and is emptied when the next step begins. */
#ifndef ATL_CTX_H
#define ATL_CTX_H

#include "layer.h"
#include "tensor.h"

#include <signal.h>

typedef struct Plan Plan;
typedef struct Ctx Ctx;

typedef struct CtxOptions {
    DType dtype;                       /* what activations are stored in: f32, bf16, f16 */
    bool tf32;                         /* products of f32 may round their operands to TF32: 11 bits of 24 */
    int threads;                       /* 0: physical cores allowed by affinity and cgroup; see ctx_threads */
    const volatile sig_atomic_t *stop; /* looked at between operations; NULL: never stops */
} CtxOptions;

typedef void (*StepFn)(Ctx *c, void *arg);

/* What a tensor's memory is for, as `train --plan` sums it up. */
typedef enum PlaceKind {
    PLACE_ACTIVATION = 0,
    PLACE_GRADIENT,
    PLACE_WORKSPACE,
    PLACE_WEIGHT,
    PLACE_KINDS
} PlaceKind;

typedef enum Wrap { WRAP_X = 1, WRAP_Y = 2 } Wrap; /* bits */

/* Public fields are read by operations and models; only kernels/ctx.c, kernels/tape.c and kernels/plan.c
 * change them. */
struct Ctx {
    const Device *dev;
    DType dtype;
    bool tf32; /* asked for, and the device has it */
    int threads;
    bool live;      /* compute; false while rehearsing and after a failure */
    bool recording; /* operations that a gradient flows through are put on the tape */
    struct CtxState *state;
    unsigned wrap; /* Wrap: convolutions see maps that go on at the opposite edge along these axes */
    struct GroupStatistics *statistics; /* kernels/ops.h: what group norms go by; NULL: what they see */
};

/* How many threads a context computes with that asks for `wanted`: no more than OpenMP gives. */
int ctx_threads(int wanted);
Ctx *ctx_new(const Device *dev, const CtxOptions *options); /* NULL: out of memory */
void ctx_free(Ctx *c);
/* The calling thread's regions have c's number of threads from now on, as those of the thread that made c
 * have; OpenMP keeps that number for each thread. */
void ctx_enter(const Ctx *c);

/* Runs fn on shapes alone and plans its memory. *plan is the caller's: plan_free(). */
Status ctx_rehearse(Ctx *c, StepFn fn, void *arg, Plan **plan);
/* Starts fn, and waits for what it has started: on a device that queues, the host may prepare the next step
 * between the two, and nothing of the step's results is on the host before the second. plan may be NULL. Both
 * return the step's first failure; after a failed start there is still to be waited. */
Status ctx_start(Ctx *c, const Plan *plan, StepFn fn, void *arg);
Status ctx_wait(Ctx *c);
/* Both. Results that the caller reads afterwards stay
 * valid until the next ctx_run or ctx_rehearse on this context if they were given to ctx_keep inside fn. */
Status ctx_run(Ctx *c, const Plan *plan, StepFn fn, void *arg);

/* Inside fn -------------------------------------------------------------------------------------------- */

/* A tensor of the step; contents undefined. */
Tensor *ctx_tensor(Ctx *c, DType dtype, int ndim, const int64_t *shape);
/* The same, cleared. */
Tensor *ctx_zeros(Ctx *c, DType dtype, int ndim, const int64_t *shape);
/* A step's tensor holding a copy of host data (n bytes as the shape says); data is not read while rehearsing.
 */
Tensor *ctx_input(Ctx *c, DType dtype, int ndim, const int64_t *shape, const void *data);
/* Keep t's memory until the end of the step, and count a use now. Returns t. */
Tensor *ctx_keep(Ctx *c, Tensor *t);
/* Copies t's elements as f32 to host memory, which is filled once the step has been waited for; counts a use.
 */
void ctx_read(Ctx *c, const Tensor *t, float *out);

/* Runs the backward pass from loss (f32, one element) down to what the tape holds: after it every trained
 * weight's grad has been added to. grad_scale is d(total)/d(loss), e.g. 1/accumulation. */
void ctx_backward(Ctx *c, Tensor *loss, float grad_scale);

/* Called in rehearsals too: begins, where an operation begins that reads this layer's weight, bias or
 * adapters, forward or backward; added, in the backward pass after one that may have added to their
 * gradients. Both NULL: no more. */
typedef void (*LayerFn)(Ctx *c, const Layer *layer, void *arg);
void ctx_watch_layers(Ctx *c, LayerFn begins, LayerFn added, void *arg);
/* Inside fn: from here on the step goes on to its end, and it is not asked whether to stop before that. */
void ctx_go_through(Ctx *c);

/* One call around a block: runs fn without recording, keeps its inputs, and runs fn again in the backward
 * pass, all but what the first run has kept. Never changes a byte of the result. Where the context isn't
 * recording, or c's checkpointing is off (ctx_set_checkpointing), it only calls fn. arg must live until the
 * step ends (ctx_copy). */
typedef Tensor *(*BlockFn)(Ctx *c, const void *arg, Tensor **in, int n);
Tensor *checkpointed(Ctx *c, BlockFn fn, const void *arg, Tensor **in, int n);
typedef enum Checkpointing {
    CHECKPOINTING_OFF,
    CHECKPOINTING_ON,   /* results that take much arithmetic for their memory are kept (op_keep) */
    CHECKPOINTING_WHOLE /* of each block nothing but its inputs */
} Checkpointing;
void ctx_set_checkpointing(Ctx *c, Checkpointing how);
/* What activations are stored in from the next step on; its plan has to be another. */
void ctx_set_dtype(Ctx *c, DType dtype);
void ctx_set_recording(Ctx *c, bool on);
/* Along which axes maps go on at the opposite edge from the next step on, for pictures that fit to
 * themselves; without a gradient. Its plan has to be another. */
void ctx_set_wrap(Ctx *c, unsigned wrap);
/* Inside fn: what group norms go by from here on (kernels/ops.h), without a gradient; NULL: what they see,
 * which a step that has set it sets again at its end. */
void ctx_set_statistics(Ctx *c, struct GroupStatistics *s);

/* Steps that follow a plan are one recording of the device's, made at the first and run again whole as long
 * as nothing in them is other than it was. Off at first; where the device has no recordings it does nothing.
 */
void ctx_set_capture(Ctx *c, bool on);
bool ctx_replayed(const Ctx *c); /* the last step was the recording of before */

Status ctx_status(const Ctx *c); /* the failure so far */
/* Fails the step, unless it has failed: "operation (layer): message". */
void op_fail(Ctx *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first operation of a step whose result held NaN or infinity. */
typedef struct CtxFinding {
    const char *op;    /* NULL: there was none */
    const char *layer; /* the operation's own, else of the last operation before it that had one; or NULL */
    bool own;          /* the operation's own */
    bool backward;     /* in the backward pass: what it made is a gradient */
    const char *what;  /* "result", "gradient of its input", "gradient of its weight", … */
    double value;
    const char *broken; /* the part of the layer that was not finite to begin with ("weight", "bias",
                           "adapter"), or NULL */
} CtxFinding;
/* Looks at everything that each operation makes, forward and backward, and ends the step with a failure at
 * the first number that is none. Numbers and memory are those of a step without checks; off, it costs
 * nothing. Stays on until it is switched off; the finding stays until the next step begins. */
void ctx_set_checks(Ctx *c, bool on);
const CtxFinding *ctx_finding(const Ctx *c);
/* A copy of a small host struct that lives until the next step: arguments of checkpointed blocks and of
 * nodes. */
const void *ctx_copy(Ctx *c, const void *data, size_t bytes);

/* Plans ------------------------------------------------------------------------------------------------ */
size_t plan_peak_bytes(const Plan *p);                 /* what the arena must hold */
size_t plan_kind_bytes(const Plan *p, PlaceKind kind); /* share of it at the moment of the peak */
int64_t plan_tick_count(const Plan *p);                /* operations in the step */
double plan_flop(const Plan *p);      /* multiply-adds * 2 of products, convolutions, attention */
size_t plan_own_bytes(const Plan *p); /* that the plan itself takes */
void plan_free(Plan *p);
/* Makes the arena large enough for the largest of plans now, so that memory runs out before step 1 or never.
 */
Status ctx_reserve(Ctx *c, size_t bytes);

#endif
