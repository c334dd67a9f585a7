/* A pipeline is a model on a context with what it keeps between pictures: the stages' plans and the states of
 * prompts. How a picture is made stands in walk.c. */
#include "pipeline.h"

#include "infer/samplers/sampler.h"
#include "kernels/base/mem.h"
#include "inside.h"
#include "tiles.h"

#include <math.h>

SampleRequest sample_request_default(void)
{
    return (SampleRequest){
        .prompt = "", .steps = 20, .guidance = 7.5f, .sampler = SAMPLER_AUTO, .begin.padding = NO_PADDING};
}

void sample_result_free(SampleResult *r)
{
    picture_free(&r->picture);
    tensor_free(r->latents);
    *r = (SampleResult){0};
}

Status pipeline_new(Ctx *c, Model *m, Pipeline **out)
{
    *out = mem_calloc(1, sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    (*out)->m = m;
    (*out)->c = c;
    Status s = stages_new(c, m, &(*out)->stages);
    if (s == STATUS_OK)
        s = prompts_new(m, (*out)->stages, &(*out)->prompts);
    if (s != STATUS_OK) {
        pipeline_free(*out);
        *out = NULL;
    }
    return s;
}

void pipeline_rest(Pipeline *p, Offload what)
{
    p->rests = true;
    p->rest = what;
}

const Model *pipeline_model(const Pipeline *p)
{
    return p->m;
}

bool pipeline_tf32(const Pipeline *p)
{
    return p->c->tf32;
}

void pipeline_free(Pipeline *p)
{
    if (!p)
        return;
    prompts_free(p->prompts);
    stages_free(p->stages);
    mem_free(p);
}

void pipeline_trace(Pipeline *p, SampleTrace trace, void *arg)
{
    p->trace = trace;
    p->trace_arg = arg;
}

void pipeline_guard(Pipeline *p, Guard *g)
{
    p->guard = g;
}

/* Sizes ------------------------------------------------------------------------------------------------ */

static Status check_side(const char *what, int side, int multiple)
{
    if (side > 0 && side % multiple == 0 && side <= PICTURE_MAX_SIDE)
        return STATUS_OK;
    if (side > PICTURE_MAX_SIDE)
        return status_refuse("%s %d is too large", what, side);
    const int below = side / multiple * multiple;
    if (below < multiple)
        return status_refuse("%s %d: this model makes sides of multiples of %d; the smallest is %d", what,
                             side, multiple, multiple);
    return status_refuse("%s %d: this model makes sides of multiples of %d; the nearest are %d and %d", what,
                         side, multiple, below, below + multiple);
}

Status pipeline_check_size(const Model *m, Size *size)
{
    size->width = size->width ? size->width : m->default_size;
    size->height = size->height ? size->height : m->default_size;
    const int multiple = vae_factor(m->vae);
    TRY(check_side("width", size->width, multiple));
    return check_side("height", size->height, multiple);
}

Status pipeline_choose_size(const Model *m, SampleRequest *r)
{
    const SampleBegin *b = &r->begin;
    const int multiple = vae_factor(m->vae);
    if (b->picture && !(b->mask && b->padding != NO_PADDING)) {
        const Size own = size_multiplied(size_divided(b->picture->size, multiple), multiple);
        r->size.width = r->size.width ? r->size.width : own.width ? own.width : multiple;
        r->size.height = r->size.height ? r->size.height : own.height ? own.height : multiple;
    }
    return pipeline_check_size(m, &r->size);
}

/* Encoding --------------------------------------------------------------------------------------------- */

Status pipeline_encode_text(Pipeline *p, const char *prompt, int clip_skip, float *out)
{
    return prompts_encode(p->prompts, prompt, clip_skip, out);
}

Status pipeline_encode_picture(Pipeline *p, const float *pixels, Size size, float *mean, float *std)
{
    return encode_by_tiles(p, pixels, size, 0, mean, std);
}

Status encode_by_tiles(Pipeline *p, const float *pixels, Size size, int tile, float *mean, float *std)
{
    if (!p->m->vae)
        return status_fail("%s was loaded without its VAE", p->m->name);
    const int factor = vae_factor(p->m->vae);
    if (size.height < 1 || size.width < 1 || size.height % factor || size.width % factor)
        return status_refuse("a picture of %dx%d cannot be encoded: sides must be multiples of %d",
                             size.width, size.height, factor);
    const size_t n =
        (size_t)vae_config(p->m->vae)->latent_channels * (size_t)size_area(size_divided(size, factor));
    float *moments = mem_alloc(2 * n * sizeof *moments);
    if (!moments)
        return STATUS_FAILED;
    const Status s = tile ? tiles_encode(p->stages, p->m, size_divided(size, factor), tile, pixels, moments)
                          : stage_encode(p->stages, size, pixels, moments);
    for (size_t k = 0; s == STATUS_OK && k < n; k++) {
        mean[k] = moments[k];
        const float logvar = moments[n + k]; /* clamped as diffusers does; NaN stays NaN */
        std[k] = expf(0.5f * (logvar < -30 ? -30 : logvar > 20 ? 20 : logvar));
    }
    mem_free(moments);
    return s;
}

/* Plans ------------------------------------------------------------------------------------------------ */

Status pipeline_encode_text_plan(Pipeline *p, int clip_skip, size_t *bytes)
{
    return stage_text_plan(p->stages, clip_skip, bytes);
}

Status pipeline_encode_picture_plan(Pipeline *p, Size size, size_t *bytes)
{
    return stage_encode_plan(p->stages, size, bytes);
}

double pipeline_encode_picture_flop(Pipeline *p, Size size)
{
    return stage_encode_flop(p->stages, size);
}
