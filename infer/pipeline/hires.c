#include "hires.h"

#include <math.h>

#define STRENGTH_DEFAULT 0.7 /* A1111's */

int hires_passes(const SampleRequest *r)
{
    return r->hires.scale > 1 ? 2 : 1;
}

double hires_strength(const SampleHires *h)
{
    return h->strength > 0 ? h->strength : STRENGTH_DEFAULT;
}

static int scaled(int side, double scale, int multiple)
{
    return (int)rint(side * scale / multiple) * multiple;
}

Status hires_pass(const Model *m, const SampleRequest *r, int pass, SampleRequest *out)
{
    *out = *r;
    out->hires = (SampleHires){0};
    if (hires_passes(r) == 1)
        return STATUS_OK;
    TRY(pipeline_choose_size(m, out));
    if (r->begin.picture || r->begin.latents)
        return status_refuse(
            "a second pass goes with a picture drawn from noise; from a picture ask for the size that "
            "it is to have");
    if (pass == 0)
        return STATUS_OK;
    const int multiple = vae_factor(m->vae);
    out->size = (Size){scaled(out->size.width, r->hires.scale, multiple),
                       scaled(out->size.height, r->hires.scale, multiple)};
    out->steps_before = r->steps;
    out->steps = r->hires.steps ? r->hires.steps : r->steps;
    out->begin.strength = hires_strength(&r->hires);
    return pipeline_check_size(m, &out->size);
}

/* Where place i of `to` lies among `from`: the place before it, and the share of the one after. */
static int place_before(int i, int from, int to, float *share)
{
    const float at = fmaxf(0, ((float)i + 0.5f) * ((float)from / (float)to) - 0.5f);
    const int before = (int)at;
    *share = at - (float)before;
    return before;
}

void hires_enlarge(const float *in, Size from, int channels, Size to, float *out)
{
    for (int c = 0; c < channels; c++, in += size_area(from))
        for (int y = 0; y < to.height; y++)
            for (int x = 0; x < to.width; x++) {
                float u, v;
                const int j = place_before(y, from.height, to.height, &v),
                          i = place_before(x, from.width, to.width, &u);
                const int below = j + (j < from.height - 1), right = i + (i < from.width - 1);
                const float *a = in + (int64_t)j * from.width, *b = in + (int64_t)below * from.width;
                *out++ = (1 - v) * ((1 - u) * a[i] + u * a[right]) + v * ((1 - u) * b[i] + u * b[right]);
            }
}
