/* Contexts: the running of a step, its failure, and where its tensors get their memory. */
#include "ctx.h"

#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "ctx_state.h"

#include <assert.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PIECE_BYTES (256u << 10)

/* A region for `wanted` threads may get fewer (OMP_THREAD_LIMIT, OMP_MAX_ACTIVE_LEVELS), while kernels and
 * oneDNN share out their work by the number that was asked for: the rest of it would be left undone. */
static int team_of(int wanted)
{
    int got = 1;
#pragma omp parallel num_threads(wanted)
#pragma omp single
    got = omp_get_num_threads();
    return got;
}

int ctx_threads(int wanted)
{
    omp_set_dynamic(0);
    return team_of(wanted > 0 ? wanted : machine_cores());
}

Ctx *ctx_new(const Device *dev, const CtxOptions *options)
{
    Ctx *c = mem_calloc(1, sizeof *c);
    CtxState *s = mem_calloc(1, sizeof *s);
    if (!c || !s) {
        mem_free(c);
        mem_free(s);
        return NULL;
    }
    if (options)
        s->options = *options;
    c->state = s;
    c->dev = dev;
    c->dtype = s->options.dtype;
    c->tf32 = s->options.tf32 && dev->has_tf32;
    c->threads = ctx_threads(s->options.threads);
    if (c->threads < s->options.threads)
        log_warn("OpenMP gives %d of the %d threads that are asked for (see OMP_THREAD_LIMIT)", c->threads,
                 s->options.threads);
    c->recording = true;
    ctx_enter(c);
    return c;
}

void ctx_enter(const Ctx *c)
{
    omp_set_dynamic(0);
    omp_set_num_threads(c->threads);
}

/* A host's loose tensors come from malloc, one by one, so that the sanitizers see their ends. */
static void free_loose(Ctx *c)
{
    CtxState *s = c->state;
    for (int32_t i = 0; i < s->loose_count; i++)
        if (c->dev->host_memory)
            mem_free(s->loose[i].data);
        else
            c->dev->memory_free(s->loose[i].data, s->loose[i].bytes);
    s->loose_count = 0;
}

void ctx_free(Ctx *c)
{
    if (!c)
        return;
    CtxState *s = c->state;
    free_loose(c);
    mem_free(s->loose);
    mem_free(s->seen);
    c->dev->memory_free(s->arena, s->arena_bytes);
    for (Piece *p = s->pieces, *next; p; p = next) {
        next = p->next;
        mem_free(p);
    }
    mem_free(s);
    mem_free(c);
}

/* Failures --------------------------------------------------------------------------------------------- */

static void keep_failure(Ctx *c, Status status)
{
    CtxState *s = c->state;
    if (s->failed != STATUS_OK)
        return;
    s->failed = status;
    c->live = false;
    const char *layer = s->layer && s->layer->name ? s->layer->name : NULL;
    if (status == STATUS_INTERRUPTED)
        snprintf(s->message, sizeof s->message, "%s", status_message());
    else
        snprintf(s->message, sizeof s->message, layer ? "%s (%s): %s" : "%s%s: %s", s->op ? s->op : "step",
                 layer ? layer : "", status_message());
}

void op_check(Ctx *c, Status s)
{
    if (s != STATUS_OK)
        keep_failure(c, s);
}

void op_fail(Ctx *c, const char *format, ...)
{
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    keep_failure(c, status_fail("%s", text));
}

Status ctx_status(const Ctx *c)
{
    const CtxState *s = c->state;
    if (s->failed == STATUS_OK)
        return STATUS_OK;
    char text[sizeof s->message];
    memcpy(text, s->message, sizeof text);
    if (s->failed == STATUS_INTERRUPTED)
        return status_interrupted();
    return s->failed == STATUS_REFUSED ? status_refuse("%s", text) : status_fail("%s", text);
}

/* Steps ------------------------------------------------------------------------------------------------ */

static void begin_step(Ctx *c, RunMode mode)
{
    CtxState *s = c->state;
    free_loose(c);
    for (Piece *p = s->pieces; p; p = p->next)
        p->used = 0;
    s->piece = s->pieces;
    s->mode = mode;
    s->failed = STATUS_OK;
    s->op = "step";
    s->layer = NULL;
    s->tick = 0;
    s->place = 0;
    s->fetches = 0;
    s->kind = PLACE_ACTIVATION;
    s->head = NULL;
    s->backward = s->probing = s->through = false;
    s->again = NULL;
    checks_reset(s);
    c->live = mode != RUN_REHEARSE;
    profile_begin(c);
}

/* Runs the step function. It is left at once where there is no memory for the step's own small structures
 * (ctx_host): what it would go on with is not there. */
static void run_step(Ctx *c, StepFn fn, void *arg)
{
    CtxState *s = c->state;
    const bool recording = c->recording;
    const Checkpointing checkpointing = s->checkpointing;
    s->inside = true;
    if (setjmp(s->leave) == 0)
        fn(c, arg);
    s->inside = false;
    c->recording = recording;
    s->checkpointing = checkpointing;
}

Status ctx_rehearse(Ctx *c, StepFn fn, void *arg, Plan **plan)
{
    CtxState *s = c->state;
    *plan = NULL;
    Plan *p = plan_new(c->dev);
    if (!p)
        return STATUS_FAILED;
    begin_step(c, RUN_REHEARSE);
    s->drawing = p;
    run_step(c, fn, arg);
    s->drawing = NULL;
    p->ticks = s->tick;
    Status status = ctx_status(c);
    if (status == STATUS_OK)
        status = plan_pack(p);
    if (status != STATUS_OK) {
        plan_free(p);
        return status;
    }
    *plan = p;
    return STATUS_OK;
}

Status ctx_reserve(Ctx *c, size_t bytes)
{
    CtxState *s = c->state;
    if (bytes <= s->arena_bytes)
        return STATUS_OK;
    c->dev->memory_free(s->arena, s->arena_bytes);
    s->arena_bytes = 0;
    s->arena = c->dev->memory_new(bytes);
    if (!s->arena)
        return status_in(STATUS_FAILED, "reserving the step's memory");
    s->arena_bytes = bytes;
    return STATUS_OK;
}

/* Room to note how long each place is used, as the plan says it. */
static Status follow(Ctx *c, const Plan *plan)
{
    CtxState *s = c->state;
    TRY(ctx_reserve(c, plan->peak_bytes));
    if (plan->count > s->seen_capacity) {
        int32_t *seen = mem_realloc(s->seen, sizeof *seen * (size_t)plan->count);
        if (!seen)
            return STATUS_FAILED;
        s->seen = seen;
        s->seen_capacity = plan->count;
    }
    s->plan = plan;
    return STATUS_OK;
}

/* A plan is followed to its end: as many tensors, each used as long as it was planned for. */
static void check_followed(Ctx *c)
{
    CtxState *s = c->state;
    const Plan *p = s->plan;
    if (s->place != p->count)
        op_fail(c, "the step made %d tensors, its plan has %d: it is not the step that was planned", s->place,
                p->count);
    for (int32_t i = 0; i < s->place && s->failed == STATUS_OK; i++)
        if (s->seen[i] != p->places[i].last)
            op_fail(c, "tensor %d, of '%s', was last used by operation %d, and by %d in the plan", i,
                    p->places[i].op, s->seen[i], p->places[i].last);
}

Status ctx_start(Ctx *c, const Plan *plan, StepFn fn, void *arg)
{
    CtxState *s = c->state;
    begin_step(c, plan ? RUN_PLANNED : RUN_FREE);
    if (plan) {
        const Status status = follow(c, plan);
        if (status != STATUS_OK) {
            keep_failure(c, status);
            return status;
        }
    }
    const bool captured = plan && s->capturing && c->dev->record && !s->checks;
    if (captured)
        op_check(c, c->dev->record(plan->recording));
    run_step(c, fn, arg);
    profile_done(c);
    if (s->checks)
        checks_done(c);
    if (plan && s->failed == STATUS_OK)
        check_followed(c);
    c->live = false;
    if (captured)
        op_check(c, c->dev->recorded(plan->recording, &s->replayed));
    return ctx_status(c);
}

Status ctx_wait(Ctx *c)
{
    op_check(c, c->dev->settle());
    return ctx_status(c);
}

Status ctx_run(Ctx *c, const Plan *plan, StepFn fn, void *arg)
{
    const Status started = ctx_start(c, plan, fn, arg), waited = ctx_wait(c);
    return started != STATUS_OK ? started : waited;
}

void ctx_set_capture(Ctx *c, bool on)
{
    c->state->capturing = on;
}

bool ctx_replayed(const Ctx *c)
{
    return c->state->replayed;
}

void ctx_set_recording(Ctx *c, bool on)
{
    c->recording = on;
}

void ctx_watch_layers(Ctx *c, LayerFn begins, LayerFn added, void *arg)
{
    CtxState *s = c->state;
    s->layer_begins = begins;
    s->layer_added = added;
    s->watch_arg = arg;
}

void ctx_go_through(Ctx *c)
{
    c->state->through = true;
}

void ctx_set_checkpointing(Ctx *c, Checkpointing how)
{
    c->state->checkpointing = how;
}

void ctx_set_dtype(Ctx *c, DType dtype)
{
    c->dtype = dtype;
}

void ctx_set_wrap(Ctx *c, unsigned wrap)
{
    c->wrap = wrap;
}

void ctx_set_statistics(Ctx *c, struct GroupStatistics *s)
{
    c->statistics = s;
}

/* Host structs ----------------------------------------------------------------------------------------- */

void *ctx_host(Ctx *c, size_t bytes)
{
    CtxState *s = c->state;
    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    while (s->piece && s->piece->used + bytes > s->piece->size)
        s->piece = s->piece->next;
    if (!s->piece) {
        const size_t size = bytes > PIECE_BYTES ? bytes : PIECE_BYTES;
        Piece *p = mem_alloc(sizeof *p + size);
        if (!p) {
            keep_failure(c, STATUS_FAILED);
            assert(s->inside);
            longjmp(s->leave, 1);
        }
        p->size = size;
        p->used = 0;
        p->next = s->pieces;
        s->pieces = s->piece = p;
    }
    void *cell = (char *)s->piece->bytes + s->piece->used;
    s->piece->used += bytes;
    memset(cell, 0, bytes);
    return cell;
}

const void *ctx_copy(Ctx *c, const void *data, size_t bytes)
{
    void *copy = ctx_host(c, bytes);
    memcpy(copy, data, bytes);
    return copy;
}

/* Memory of tensors ------------------------------------------------------------------------------------ */

static void *loose_memory(Ctx *c, size_t bytes)
{
    CtxState *s = c->state;
    if (!mem_grow(&s->loose, s->loose_count, &s->loose_capacity, sizeof *s->loose))
        return NULL;
    void *p = c->dev->host_memory ? mem_alloc(bytes) : c->dev->memory_new(bytes);
    if (p)
        s->loose[s->loose_count++] = (Loose){p, bytes};
    return p;
}

static void *planned_memory(Ctx *c, size_t bytes)
{
    CtxState *s = c->state;
    if (s->place >= s->plan->count) {
        op_fail(c, "more tensors than the plan's %d: it is not the step that was planned", s->plan->count);
        return NULL;
    }
    const Place *p = &s->plan->places[s->place];
    if (p->bytes != bytes || strcmp(p->op, s->op) != 0 || p->made != s->tick) {
        op_fail(
            c, "tensor %d is %zu bytes of '%s' (operation %d), the plan has %zu bytes of '%s' (operation %d)",
            s->place, bytes, s->op, s->tick, p->bytes, p->op, p->made);
        return NULL;
    }
    s->seen[s->place] = s->tick;
    return s->arena + p->offset;
}

/* Memory for the open operation; *place gets its number. NULL while rehearsing or after a failure. */
static void *take_memory(Ctx *c, size_t bytes, PlaceKind kind, int32_t *place)
{
    CtxState *s = c->state;
    void *data = NULL;
    if (s->mode == RUN_REHEARSE) {
        if (s->failed == STATUS_OK && plan_add(s->drawing, s->op, bytes, s->tick, kind) < 0)
            keep_failure(c, STATUS_FAILED);
    } else if (s->failed == STATUS_OK) {
        data = s->mode == RUN_PLANNED ? planned_memory(c, bytes) : loose_memory(c, bytes);
        if (!data && s->failed == STATUS_OK)
            keep_failure(c, STATUS_FAILED);
    }
    *place = s->place++;
    return data;
}

Tensor *ctx_place(Ctx *c, DType dtype, int ndim, const int64_t *shape, PlaceKind kind)
{
    Tensor *t = ctx_host(c, sizeof *t);
    t->dtype = dtype;
    t->ndim = ndim;
    if (ndim)
        memcpy(t->shape, shape, sizeof *shape * (size_t)ndim);
    t->data = take_memory(c, tensor_bytes(t), kind, &t->place);
    t->home = c->dev->host_memory ? NULL : c->dev;
    if (c->state->checks)
        checks_made(c, t);
    profile_tensor(c, t);
    return t;
}

Tensor *ctx_tensor(Ctx *c, DType dtype, int ndim, const int64_t *shape)
{
    return ctx_place(c, dtype, ndim, shape, PLACE_ACTIVATION);
}

Tensor *ctx_zeros(Ctx *c, DType dtype, int ndim, const int64_t *shape)
{
    op_begin(c, "zeros", NULL);
    Tensor *t = ctx_tensor(c, dtype, ndim, shape);
    RUN(c, c->dev->fill(t, 0));
    return t;
}

Tensor *ctx_input(Ctx *c, DType dtype, int ndim, const int64_t *shape, const void *data)
{
    op_begin(c, "input", NULL);
    Tensor *t = ctx_tensor(c, dtype, ndim, shape);
    RUN(c, c->dev->put(t->data, data, tensor_bytes(t)));
    return t;
}

/* Counts a use of t: a rehearsal notes it, and a planned run is held to it, for after its planned end a place
 * is another tensor's. */
static void used_until(Ctx *c, const Tensor *t, int32_t tick)
{
    CtxState *s = c->state;
    if (s->failed != STATUS_OK || !t || t->place < 0)
        return;
    if (s->mode == RUN_REHEARSE) {
        Place *p = &s->drawing->places[t->place];
        if (p->last < tick)
            p->last = tick;
    } else if (s->mode == RUN_PLANNED) {
        const Place *p = &s->plan->places[t->place];
        if (tick > p->last)
            op_fail(c, "tensor %d, of '%s', is used after its planned end (operation %d after %d)", t->place,
                    p->op, tick, p->last);
        else if (s->seen[t->place] < tick)
            s->seen[t->place] = tick;
    }
}

Tensor *ctx_keep(Ctx *c, Tensor *t)
{
    used_until(c, t, PLACE_FOREVER);
    return t;
}

void ctx_read(Ctx *c, const Tensor *t, float *out)
{
    op_begin(c, "read", NULL);
    op_use(c, t);
    if (t->dtype != DTYPE_F32) {
        Tensor *wide = ctx_tensor(c, DTYPE_F32, t->ndim, t->shape);
        RUN(c, c->dev->copy(t, wide));
        t = wide;
    }
    RUN(c, c->dev->get(out, t->data, tensor_bytes(t)));
}

/* Operations ------------------------------------------------------------------------------------------- */

void op_begin(Ctx *c, const char *name, const Layer *layer)
{
    CtxState *s = c->state;
    if (s->checks)
        checks_done(c);
    s->op = name;
    s->layer = layer;
    s->tick++;
    if (c->live && !s->through && stop_asked(s->options.stop))
        keep_failure(c, status_interrupted());
    if (layer && s->layer_begins)
        s->layer_begins(c, layer, s->watch_arg);
    profile_next(c, name, layer);
}

void op_use(Ctx *c, const Tensor *t)
{
    used_until(c, t, c->state->tick);
    profile_tensor(c, t);
}

void op_next(Ctx *c)
{
    c->state->tick++;
}

void *op_scratch(Ctx *c, size_t bytes)
{
    int32_t place;
    return bytes ? take_memory(c, bytes, PLACE_WORKSPACE, &place) : NULL;
}

void op_flop(Ctx *c, double flop)
{
    if (c->state->mode == RUN_REHEARSE)
        c->state->drawing->flop += flop;
    profile_flop(c, flop);
}
