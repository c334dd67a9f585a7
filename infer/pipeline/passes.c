/* A picture's passes: one, or with a second over the picture enlarged ("hires fix"): there the composition is
 * made at the size that the model knows, and detail at a larger one. The second begins from the first one's
 * latents or its picture, with noise of the same seed. */
#include "kernels/base/mem.h"
#include "hires.h"
#include "walk.h"

/* Steps of both passes are counted together. */
typedef struct Count {
    SampleProgress progress;
    void *arg;
    int before, all;
} Count;

static bool count_step(int step, int steps, const SampleView *view, void *arg)
{
    const Count *c = arg;
    (void)steps;
    return !c->progress || c->progress(c->before + step, c->all, view, c->arg);
}

static Status enlarge_latents(const Tensor *from, Size to, float **out)
{
    const Size size = {(int)from->shape[3], (int)from->shape[2]};
    *out = mem_alloc(LATENT_CHANNELS * (size_t)size_area(to) * sizeof **out);
    if (!*out)
        return STATUS_FAILED;
    hires_enlarge(from->data, size, LATENT_CHANNELS, to, *out);
    return STATUS_OK;
}

/* The second pass over what the first has made. */
static Status second_pass(Pipeline *p, const SampleRequest *r, const SampleResult *first, Count *count,
                          SampleResult *out)
{
    SampleRequest second;
    Picture picture = {0};
    float *latents = NULL;
    TRY(hires_pass(p->m, r, 1, &second));
    Status s = r->hires.pixels ? picture_resize(&first->picture, second.size, &picture)
                               : enlarge_latents(first->latents,
                                                 size_divided(second.size, vae_factor(p->m->vae)), &latents);
    second.begin.picture = picture.rgb ? &picture : NULL;
    second.begin.latents = latents;
    if (s == STATUS_OK)
        s = pass_sample(p, &second, true, count_step, count, out);
    picture_free(&picture);
    mem_free(latents);
    return s;
}

static Status all_passes(Pipeline *p, const SampleRequest *r, SampleProgress progress, void *arg,
                         SampleResult *out)
{
    SampleRequest first;
    Count count = {progress, arg, 0, 0};
    TRY(hires_pass(p->m, r, 0, &first));
    if (hires_passes(r) == 1)
        return pass_sample(p, &first, true, progress, arg, out);
    TRY(pipeline_steps(p->m, r, &count.all));
    SampleResult small;
    TRY(pass_sample(p, &first, r->hires.pixels, count_step, &count, &small));
    Status s = pass_steps(p->m, &first, &count.before);
    if (s == STATUS_OK)
        s = second_pass(p, r, &small, &count, out);
    sample_result_free(&small);
    return s;
}

Status pipeline_final_size(const Model *m, const SampleRequest *r, Size *size)
{
    SampleRequest last;
    TRY(hires_pass(m, r, hires_passes(r) - 1, &last));
    TRY(pipeline_choose_size(m, &last));
    *size = last.size;
    return STATUS_OK;
}

static Status admit(const Pipeline *p, const SampleRequest *r)
{
    Size size;
    TRY(pipeline_final_size(p->m, r, &size));
    if (r->prompt_2)
        TRY(guard_prompt(p->guard, r->prompt_2));
    return guard_admit(p->guard, r->prompt, r->unmarked ? NULL : &size);
}

Status pipeline_sample(Pipeline *p, const SampleRequest *r, SampleProgress progress, void *arg,
                       SampleResult *out)
{
    *out = (SampleResult){0};
    Status s = p->guard ? admit(p, r) : STATUS_OK;
    if (s == STATUS_OK)
        s = all_passes(p, r, progress, arg, out);
    if (s == STATUS_OK && p->guard)
        s = guard_picture(p->guard, r->seed, compat_of(r->compat)->checks_pictures, !r->unmarked,
                          &out->picture, &out->flagged);
    if (s != STATUS_OK)
        sample_result_free(out);
    return s;
}

/* A pass of r as far as its shapes go: the second begins from latents of nobody. */
static Status shaped_pass(const Model *m, const SampleRequest *r, int pass, SampleRequest *out)
{
    static const float nobody[1];
    static const Picture nothing;
    TRY(hires_pass(m, r, pass, out));
    if (pass == 1 && r->hires.pixels)
        out->begin.picture = &nothing;
    else if (pass == 1)
        out->begin.latents = nobody;
    return STATUS_OK;
}

Status pipeline_plan(Pipeline *p, const SampleRequest *r, size_t *bytes)
{
    *bytes = 0;
    for (int i = 0; i < hires_passes(r); i++) {
        SampleRequest pass;
        size_t needed;
        TRY(shaped_pass(p->m, r, i, &pass));
        TRY(pass_plan(p, &pass, &needed));
        *bytes = *bytes > needed ? *bytes : needed;
    }
    return STATUS_OK;
}

double pipeline_flop(Pipeline *p, const SampleRequest *r)
{
    double flop = 0;
    for (int i = 0; i < hires_passes(r); i++) {
        SampleRequest pass;
        if (shaped_pass(p->m, r, i, &pass) == STATUS_OK)
            flop += pass_flop(p, &pass);
    }
    return flop;
}

Status pipeline_steps(const Model *m, const SampleRequest *r, int *steps)
{
    *steps = 0;
    for (int i = 0; i < hires_passes(r); i++) {
        SampleRequest pass;
        int more;
        TRY(shaped_pass(m, r, i, &pass));
        TRY(pass_steps(m, &pass, &more));
        *steps += more;
    }
    return STATUS_OK;
}
