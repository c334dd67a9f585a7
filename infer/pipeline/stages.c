#include "stages.h"

#include "infer/models/parts.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/plans.h"

#include <math.h>
#include <string.h>

/* What a plan depends on: the work, the sizes, and the ranks of the adapters attached. */
typedef struct StageKey {
    int kind, batch, dtype, vectors;
    unsigned wrap, deep;
    Size size;
    ConditioningShape text;
    uint64_t adapters;
    int norms, top, left; /* which there are, and of what */
    Size piece;
} StageKey;

struct Stages {
    Ctx *c;
    Model *m;
    Plans *plans;
    unsigned wrap;
    bool wide_vae; /* it overflows in f16, or says that it does, and is computed in f32 */
};

typedef enum StageKind {
    STAGE_TEXT,
    STAGE_UNET,
    STAGE_DECODE,
    STAGE_ENCODE,
    STAGE_DECODE_INNER,
    STAGE_DECODE_OUTER,
    STAGE_ENCODE_OUTER,
    STAGE_ENCODE_INNER
} StageKind;

/* One call's sizes, inputs and output; a rehearsal has sizes only. size is that of x. */
typedef struct Work {
    StageKind kind;
    const Model *m;
    int batch, clip_skip;
    Size size;
    const float *x;
    ConditioningShape shape; /* of text */
    const float *text;
    const int32_t *ids;
    const TokenVectors *vectors;
    float timestep;
    DeepUse use;
    float *deep;
    PartNorms norms;
    float *out;
} Work;

/* The steps -------------------------------------------------------------------------------------------- */

static void text_step(Ctx *c, const Work *w)
{
    const Conditioning text = w->vectors ? conditioning_encode_with(c, w->m, w->clip_skip, w->ids, w->vectors)
                                         : conditioning_encode(c, w->m, w->clip_skip, 1, w->ids);
    conditioning_read(c, &text, w->out);
}

static void unet_step(Ctx *c, const Work *w)
{
    const UNetConfig *k = unet_config(w->m->unet);
    const int64_t B = w->batch;
    float timesteps[8];
    for (int i = 0; i < w->batch; i++)
        timesteps[i] = w->timestep;
    Tensor *x =
        ctx_input(c, DTYPE_F32, 4, (int64_t[]){B, k->in_channels, w->size.height, w->size.width}, w->x);
    Tensor *t = ctx_input(c, DTYPE_F32, 1, &B, timesteps);
    const Conditioning text = conditioning_input(c, &w->shape, w->batch, w->text);
    const int64_t between[] = {B, w->size.height, w->size.width, unet_deep_channels(w->m->unet)};
    Tensor *deep =
        w->use == DEEP_TAKEN ? cast(c, ctx_input(c, DTYPE_F32, 4, between, w->deep), c->dtype) : NULL;
    Tensor *y = unet_forward_deep(c, w->m->unet, from_nchw(c, x), t, &text, &deep);
    if (w->use == DEEP_KEPT)
        ctx_read(c, deep, w->deep);
    ctx_read(c, to_nchw(c, y), w->out);
}

static void decode_step(Ctx *c, const Work *w)
{
    const int64_t shape[] = {1, vae_config(w->m->vae)->latent_channels, w->size.height, w->size.width};
    Tensor *z = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, w->x));
    ctx_read(c, vae_decode(c, w->m->vae, z), w->out);
}

static Tensor *input_nhwc(Ctx *c, const Work *w, int64_t channels)
{
    const int64_t shape[] = {w->batch, w->size.height, w->size.width, channels};
    return cast(c, ctx_input(c, DTYPE_F32, 4, shape, w->x), c->dtype);
}

static void encode_step(Ctx *c, const Work *w)
{
    ctx_read(c, to_nchw(c, vae_encode(c, w->m->vae, input_nhwc(c, w, 3))), w->out);
}

/* The halves: between them (h,w,D) on the host. */
static void decode_inner_step(Ctx *c, const Work *w)
{
    const int64_t shape[] = {1, vae_config(w->m->vae)->latent_channels, w->size.height, w->size.width};
    Tensor *z = from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, w->x));
    ctx_read(c, vae_decode_inner(c, w->m->vae, z), w->out);
}

/* The group norms of an outer half on its parts. size: a part's, in latents. */
static void norms_begin(Ctx *c, const Work *w, bool encoder, Size size, GroupStatistics *s)
{
    const Vae *v = w->m->vae;
    const PartNorms *n = &w->norms;
    const int64_t rows = 2 * vae_outer_norms(v, encoder), groups = vae_config(v)->norm_groups;
    const int64_t shape[] = {rows, groups};
    *s = (GroupStatistics){.height = size.height,
                           .width = size.width,
                           .top = n->top,
                           .left = n->left,
                           .rows = n->piece.height,
                           .columns = n->piece.width};
    if (rows && n->given)
        s->given = ctx_input(c, DTYPE_F32, 2, shape, n->given);
    if (rows && n->correction)
        s->correction = ctx_input(c, DTYPE_F32, 2, shape, n->correction);
    if (rows && n->measured)
        s->measured = ctx_zeros(c, DTYPE_F32, 2, shape);
    ctx_set_statistics(c, s);
}

static void norms_end(Ctx *c, const Work *w, const GroupStatistics *s)
{
    ctx_set_statistics(c, NULL);
    if (s->measured)
        ctx_read(c, s->measured, w->norms.measured);
}

static void decode_outer_step(Ctx *c, const Work *w)
{
    const Vae *v = w->m->vae;
    GroupStatistics s;
    norms_begin(c, w, false, w->size, &s);
    ctx_read(c, vae_decode_outer(c, v, input_nhwc(c, w, vae_inner_channels(v, false))), w->out);
    norms_end(c, w, &s);
}

static void encode_outer_step(Ctx *c, const Work *w)
{
    const Vae *v = w->m->vae;
    GroupStatistics s;
    norms_begin(c, w, true, size_divided(w->size, vae_factor(v)), &s);
    ctx_read(c, vae_encode_outer(c, v, input_nhwc(c, w, 3)), w->out);
    norms_end(c, w, &s);
}

static void encode_inner_step(Ctx *c, const Work *w)
{
    const Vae *v = w->m->vae;
    ctx_read(c, to_nchw(c, vae_encode_inner(c, v, input_nhwc(c, w, vae_inner_channels(v, true)))), w->out);
}

static void run_work(Ctx *c, void *arg)
{
    static void (*const STEPS[])(Ctx * c, const Work *w) = {
        text_step,         unet_step,         decode_step,       encode_step,
        decode_inner_step, decode_outer_step, encode_outer_step, encode_inner_step};
    const Work *w = arg;
    STEPS[w->kind](c, w);
}

/* Plans ------------------------------------------------------------------------------------------------ */

static uint64_t hashed(uint64_t h, uint64_t number)
{
    return (h ^ number) * 0x100000001b3u;
}

/* A number that differs where other adapters (by layer, kind and shapes) are attached. */
static uint64_t hash_adapters(uint64_t h, const LayerSet *set)
{
    for (int i = 0; set && i < set->count; i++)
        for (const Adapter *a = set->items[i]->adapters; a; a = a->next) {
            h = hashed(hashed(h, (uint64_t)i), (uint64_t)(uintptr_t)a->kind + (a->delta_factor != NULL));
            for (int t = 0; t < ADAPTER_TENSORS; t++)
                for (int d = 0; a->tensors[t] && d < a->tensors[t]->ndim; d++)
                    h = hashed(hashed(h, (uint64_t)t), (uint64_t)a->tensors[t]->shape[d]);
        }
    return h;
}

static Status check_part(const Work *w)
{
    const Model *m = w->m;
    const bool text = m->clip && (m->clip_2 || !model_has(m, PART_TEXT_2)), unet = m->unet, vae = m->vae;
    const bool there = w->kind == STAGE_TEXT ? text : w->kind == STAGE_UNET ? unet : vae;
    return there ? STATUS_OK : status_fail("%s was loaded without the parts that this needs", m->name);
}

static Status find_plan(Stages *s, Work *w, const Plan **out)
{
    TRY(check_part(w));
    const Model *m = s->m;
    const PartId part = w->kind == STAGE_TEXT ? PART_TEXT : w->kind == STAGE_UNET ? PART_UNET : PART_VAE;
    StageKey key;
    memset(&key, 0, sizeof key); /* gaps between its fields, too */
    key.kind = (int)w->kind;
    key.dtype = (int)s->c->dtype;
    key.batch = w->kind == STAGE_TEXT ? w->clip_skip : w->batch;
    key.vectors = w->vectors != NULL;
    key.size = w->size;
    key.wrap = s->wrap;
    key.deep = (unsigned)w->use;
    key.text = w->shape;
    key.adapters = hash_adapters(0xcbf29ce484222325u, part_layers(part, m));
    if (part == PART_TEXT)
        key.adapters = hash_adapters(key.adapters, part_layers(PART_TEXT_2, m));
    key.norms = (w->norms.given ? 1 : 0) + (w->norms.measured ? 2 : 0) + (w->norms.correction ? 4 : 0);
    key.top = w->norms.top;
    key.left = w->norms.left;
    key.piece = w->norms.piece;
    return plans_get(s->plans, s->c, &key, sizeof key, run_work, w, out);
}

/* Plans the work, and does it unless *bytes is asked for. */
static Status perform(Stages *s, Work w, size_t *bytes)
{
    const Plan *plan = NULL;
    const bool recording = s->c->recording;
    w.m = s->m;
    ctx_set_recording(s->c, false);
    ctx_set_wrap(s->c, s->wrap);
    Status status = find_plan(s, &w, &plan);
    if (status == STATUS_OK && bytes)
        *bytes = plan_peak_bytes(plan);
    else if (status == STATUS_OK)
        status = ctx_run(s->c, plan, run_work, &w);
    ctx_set_wrap(s->c, 0);
    ctx_set_recording(s->c, recording);
    return status;
}

/* How many numbers stand before the first that is none. */
static int64_t finite_numbers(const float *x, int64_t n)
{
    int64_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

/* Does the work, whose result is n numbers. Where one of them is none, the work is done again under the
 * engine's checks, which name the layer: NaN must get neither into a cache nor into a training step. */
static Status perform_finite(Stages *s, Work w, int64_t n)
{
    TRY(perform(s, w, NULL));
    const int64_t i = finite_numbers(w.out, n);
    if (i == n)
        return STATUS_OK;
    ctx_set_checks(s->c, true);
    const Status status = perform(s, w, NULL);
    const CtxFinding f = *ctx_finding(s->c);
    ctx_set_checks(s->c, false);
    if (status == STATUS_INTERRUPTED)
        return status;
    if (!f.op)
        return status_fail("the result holds %g", (double)w.out[i]);
    return status_fail("%s: %s; %s", w.kind == STAGE_TEXT ? "text encoder" : "VAE", status_message(),
                       f.broken ? "the model's file is damaged, take another copy"
                                : "model.dtype: bf16 or f32 reach further than f16");
}

static bool encodes(StageKind kind)
{
    return kind == STAGE_ENCODE || kind == STAGE_ENCODE_OUTER || kind == STAGE_ENCODE_INNER;
}

/* f16 ends at 65504, and there are VAEs that do not, and cards that compute NaN in it: what comes out not
 * finite is computed again in f32, and everything from then on. Of what comes in not finite nothing else can
 * come. */
static Status perform_vae(Stages *s, Work w, int64_t in, int64_t out)
{
    const DType own = s->c->dtype;
    if (own != DTYPE_F16 || finite_numbers(w.x, in) < in)
        return encodes(w.kind) ? perform_finite(s, w, out) : perform(s, w, NULL);
    if (!s->wide_vae) {
        TRY(perform(s, w, NULL));
        if (finite_numbers(w.out, out) == out)
            return STATUS_OK;
        log_warn("the VAE's numbers do not fit into f16: it is computed in f32 from here on, in more memory "
                 "and time. In "
                 "bf16 they fit");
        s->wide_vae = true;
    }
    ctx_set_dtype(s->c, DTYPE_F32);
    const Status status = perform_finite(s, w, out);
    ctx_set_dtype(s->c, own);
    return status;
}

static const PartNorms WHOLE = {.parts = 1};

/* Plans a piece of the VAE's work in the type that it will be done in. */
static Status plan_vae(Stages *s, StageKind kind, Size size, const PartNorms *norms, size_t *bytes)
{
    const DType own = s->c->dtype;
    if (own == DTYPE_F16 && s->wide_vae)
        ctx_set_dtype(s->c, DTYPE_F32);
    const Work w = {.kind = kind, .batch = norms->parts, .size = size, .norms = *norms};
    const Status status = perform(s, w, bytes);
    ctx_set_dtype(s->c, own);
    return status;
}

static bool says_it_overflows(const Model *m)
{
    return m->family == FAMILY_SDXL && m->vae && vae_config(m->vae)->force_upcast;
}

Status stages_new(Ctx *c, Model *m, Stages **out)
{
    TRY(model_place(m, c->dev));
    *out = mem_calloc(1, sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    (*out)->c = c;
    (*out)->m = m;
    (*out)->wide_vae = says_it_overflows(m);
    (*out)->plans = plans_new(STAGES_PLAN_BYTES);
    if ((*out)->plans)
        return STATUS_OK;
    stages_free(*out);
    *out = NULL;
    return STATUS_FAILED;
}

void stages_free(Stages *s)
{
    if (!s)
        return;
    plans_free(s->plans);
    mem_free(s);
}

void stages_wrap(Stages *s, unsigned wrap)
{
    s->wrap = wrap;
}

/* 0: it was not planned. */
static double flop_of(Stages *s, Work w)
{
    const Plan *plan = NULL;
    size_t bytes;
    w.m = s->m;
    return perform(s, w, &bytes) == STATUS_OK && find_plan(s, &w, &plan) == STATUS_OK ? plan_flop(plan) : 0;
}

/* The calls -------------------------------------------------------------------------------------------- */

Status stage_text_plan(Stages *s, int clip_skip, size_t *bytes)
{
    return perform(s, (Work){.kind = STAGE_TEXT, .clip_skip = clip_skip}, bytes);
}

Status stage_unet_plan(Stages *s, int batch, Size size, const ConditioningShape *text, DeepUse use,
                       size_t *bytes)
{
    return perform(s, (Work){.kind = STAGE_UNET, .batch = batch, .size = size, .shape = *text, .use = use},
                   bytes);
}

Status stage_decode_plan(Stages *s, Size size, size_t *bytes)
{
    return plan_vae(s, STAGE_DECODE, size, &WHOLE, bytes);
}

Status stage_encode_plan(Stages *s, Size size, size_t *bytes)
{
    return plan_vae(s, STAGE_ENCODE, size, &WHOLE, bytes);
}

Status stage_decode_inner_plan(Stages *s, Size size, size_t *bytes)
{
    return plan_vae(s, STAGE_DECODE_INNER, size, &WHOLE, bytes);
}

Status stage_encode_inner_plan(Stages *s, Size size, size_t *bytes)
{
    return plan_vae(s, STAGE_ENCODE_INNER, size, &WHOLE, bytes);
}

Status stage_decode_outer_plan(Stages *s, Size size, const PartNorms *norms, size_t *bytes)
{
    return plan_vae(s, STAGE_DECODE_OUTER, size, norms, bytes);
}

Status stage_encode_outer_plan(Stages *s, Size size, const PartNorms *norms, size_t *bytes)
{
    return plan_vae(s, STAGE_ENCODE_OUTER, size, norms, bytes);
}

double stage_unet_flop(Stages *s, int batch, Size size, const ConditioningShape *text)
{
    return flop_of(s, (Work){.kind = STAGE_UNET, .batch = batch, .size = size, .shape = *text});
}

double stage_decode_flop(Stages *s, Size size)
{
    return flop_of(s, (Work){.kind = STAGE_DECODE, .batch = 1, .size = size});
}

double stage_encode_flop(Stages *s, Size size)
{
    return flop_of(s, (Work){.kind = STAGE_ENCODE, .batch = 1, .size = size});
}

Status stage_text(Stages *s, int clip_skip, const int32_t *ids, const TokenVectors *vectors, float *out)
{
    const ConditioningShape shape = s->m->clip ? conditioning_shape(s->m) : (ConditioningShape){0};
    return perform_finite(
        s, (Work){.kind = STAGE_TEXT, .clip_skip = clip_skip, .ids = ids, .vectors = vectors, .out = out},
        conditioning_text_size(&shape));
}

Status stage_unet(Stages *s, const UNetCall *k)
{
    const Work w = {.kind = STAGE_UNET,
                    .batch = k->batch,
                    .size = k->size,
                    .x = k->x,
                    .timestep = k->timestep,
                    .shape = k->shape,
                    .text = k->text,
                    .use = k->use,
                    .deep = k->deep,
                    .out = k->out};
    return perform(s, w, NULL);
}

/* Numbers that go in and come out of a piece of the VAE's work on x of this size. */
static void vae_numbers(const Vae *vae, StageKind kind, Size size, int64_t *in, int64_t *out)
{
    const int f = vae_factor(vae), latent = vae_config(vae)->latent_channels;
    const int64_t area = size_area(size), small = size_area(size_divided(size, f)),
                  large = size_area(size_multiplied(size, f));
    const int decoder = vae_inner_channels(vae, false), encoder = vae_inner_channels(vae, true);
    const bool from_latents = kind == STAGE_DECODE || kind == STAGE_DECODE_INNER;
    *in = area * (from_latents                 ? latent
                  : kind == STAGE_DECODE_OUTER ? decoder
                  : kind == STAGE_ENCODE_INNER ? encoder
                                               : 3);
    *out = kind == STAGE_DECODE_INNER   ? area * decoder
           : kind == STAGE_ENCODE_OUTER ? small * encoder
           : kind == STAGE_ENCODE       ? small * latent * 2
           : kind == STAGE_ENCODE_INNER ? area * latent * 2
                                        : large * 3;
}

static Status vae_stage(Stages *s, StageKind kind, Size size, const float *x, const PartNorms *norms,
                        float *out)
{
    int64_t n_in = 0, n_out = 0;
    if (s->m->vae) /* else perform() says so */
        vae_numbers(s->m->vae, kind, size, &n_in, &n_out);
    const Work w = {.kind = kind, .batch = norms->parts, .size = size, .x = x, .norms = *norms, .out = out};
    return perform_vae(s, w, norms->parts * n_in, norms->parts * n_out);
}

Status stage_decode(Stages *s, Size size, const float *z, float *out)
{
    return vae_stage(s, STAGE_DECODE, size, z, &WHOLE, out);
}

Status stage_encode(Stages *s, Size size, const float *pixels, float *out)
{
    return vae_stage(s, STAGE_ENCODE, size, pixels, &WHOLE, out);
}

Status stage_decode_inner(Stages *s, Size size, const float *z, float *out)
{
    return vae_stage(s, STAGE_DECODE_INNER, size, z, &WHOLE, out);
}

Status stage_decode_outer(Stages *s, Size size, const float *h, const PartNorms *norms, float *out)
{
    return vae_stage(s, STAGE_DECODE_OUTER, size, h, norms, out);
}

Status stage_encode_outer(Stages *s, Size size, const float *pixels, const PartNorms *norms, float *out)
{
    return vae_stage(s, STAGE_ENCODE_OUTER, size, pixels, norms, out);
}

Status stage_encode_inner(Stages *s, Size size, const float *h, float *out)
{
    return vae_stage(s, STAGE_ENCODE_INNER, size, h, &WHOLE, out);
}
