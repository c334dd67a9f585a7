/* DPM-Solver++'s multistep solvers (multistep.h), in diffusers' order. */
#include "multistep.h"

#include <math.h>
#include <string.h>

#define FEW_STEPS 15 /* below that, the last steps are of lower order */

/* x0 of the last step and of the one before it, what is to become D1 and D2, and ε, (n) each */
typedef struct State {
    int known;
    float numbers[];
} State;

size_t multistep_state_bytes(size_t n)
{
    return sizeof(State) + 5 * n * sizeof(float);
}

static float lambda_of(NoiseLevel l)
{
    return logf(l.signal) - logf(l.noise);
}

static int order_of(const SamplerStep *s, int known)
{
    const SamplerSettings *settings = &s->sampler->settings;
    const bool lower = settings->lower_order_final && s->count < FEW_STEPS;
    const int left = s->count - s->index;
    int order = settings->order < known + 1 ? settings->order : known + 1;
    if (left == 1 && (settings->euler_at_final || lower || s->to.noise == 0))
        order = 1;
    if (left == 2 && lower && order > 2)
        order = 2;
    return order;
}

/* D1 and D2 from the x0 of three steps. */
static void differences(const SamplerStep *s, float h, int order, const float *last, const float *before,
                        float *D1, float *D2)
{
    const NoiseLevel *from = s->sampler->from + s->index;
    const float r0 = (lambda_of(from[0]) - lambda_of(from[-1])) / h;
    const float r1 = order > 2 ? (lambda_of(from[-1]) - lambda_of(from[-2])) / h : 1;
    for (size_t k = 0; k < s->n; k++) {
        const float first = 1 / r0 * (s->x0[k] - last[k]);
        D1[k] = first;
        if (order > 2) {
            const float bend = first - 1 / r1 * (last[k] - before[k]);
            D1[k] = first + r0 / (r0 + r1) * bend;
            D2[k] = 1 / (r0 + r1) * bend;
        }
    }
}

static void draw(const SamplerStep *s, float *out)
{
    const Sampler *w = s->sampler;
    const bool last = s->index + 1 == w->point_count;
    sampler_fresh(s, w->points[s->index].sigma, last ? w->final_sigma : w->points[s->index + 1].sigma, out);
}

void multistep_step(const SamplerStep *s, void *state, MultistepRule rule)
{
    State *before = state;
    const size_t n = s->n;
    float *last = before->numbers, *older = last + n, *D1 = older + n, *D2 = D1 + n, *fresh = D2 + n;
    const int order = order_of(s, before->known);
    const float h = lambda_of(s->to) - lambda_of(s->from);
    const MultistepWeights w = rule(s, h, order);
    if (order > 1)
        differences(s, h, order, last, older, D1, D2);
    if (w.noise > 0)
        draw(s, fresh);
    for (size_t k = 0; k < n; k++) {
        float x = w.keep * s->x[k] + w.a * s->x0[k];
        if (order > 1)
            x += w.b * D1[k];
        if (order > 2)
            x += w.c * D2[k];
        s->x[k] = w.noise > 0 ? x + w.noise * fresh[k] : x;
    }
    memcpy(older, last, n * sizeof *older);
    memcpy(last, s->x0, n * sizeof *last);
    before->known++;
}

const SettingsDefaults MULTISTEP_ABSENT = {
    .curves = true, .final_sigma = true, .solver = true, .thresholds = true};

/* Names of other schedulers' solvers diffusers takes for midpoint. */
const SamplerSetting MULTISTEP_SETTINGS[] = {
    {"algorithm_type", "[\"dpmsolver++\", \"sde-dpmsolver++\", \"deis\"]"},
    {"solver_type", "[\"midpoint\", \"heun\", \"logrho\", \"bh1\", \"bh2\"]"},
    {"use_flow_sigmas", "[false]"},
    {"lambda_min_clipped", "[]"},
    {"variance_type", "[]"},
    {NULL, NULL}};
