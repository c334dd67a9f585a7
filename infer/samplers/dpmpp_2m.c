/* DPM-Solver++(2M) (Lu et al. 2022, algorithm 2, midpoint): the curve that x0 runs along is told by this
 * step's and the last one's. With λ = log(signal/noise), h = λ' - λ, and r the last step's h over this one's,
 *
 *     D = x0 + (x0 - x0_before)/(2 r),   x' = noise'/noise x - signal' (e⁻ʰ - 1) D
 *
 * The first step knows no other, and the last one, to no noise at all (h infinite), is x' = x0. */
#include "family.h"

#include <math.h>

typedef struct State {
    bool known; /* of the step before: */
    float lambda;
    float x0[];
} State;

static size_t state_bytes(size_t n)
{
    return sizeof(State) + n * sizeof(float);
}

static void levels(Sampler *s, const NoiseSchedule *schedule)
{
    for (int i = 0; i < s->steps; i++)
        s->from[i] = level_of_sigma_shrunk(s->from[i].t, schedule_sigma(schedule, s->from[i].t));
    for (int i = 0; i < s->steps; i++)
        s->to[i] = i + 1 < s->steps ? s->from[i + 1] : level_of_sigma_shrunk(0, 0);
    s->initial_scale = 1;
}

static float lambda_of(NoiseLevel l)
{
    return logf(l.signal) - logf(l.noise);
}

static void step(const SamplerStep *s, void *state)
{
    State *before = state;
    const float lambda = lambda_of(s->from), h = lambda_of(s->to) - lambda;
    const float keep = s->to.noise / s->from.noise, take = s->to.signal * (expf(-h) - 1);
    const bool second = before->known && !s->last;
    const float ratio = second ? 1 / ((lambda - before->lambda) / h) : 0;
    for (size_t k = 0; k < s->n; k++) {
        const float x0 = s->x0[k];
        float x = keep * s->x[k] - take * x0;
        if (second)
            x -= 0.5f * take * (ratio * (x0 - before->x0[k]));
        s->x[k] = x;
        before->x0[k] = x0;
    }
    before->lambda = lambda;
    before->known = true;
}

/* Others of diffusers' DPMSolverMultistepScheduler; names of other schedulers' solvers it takes for midpoint.
 */
static const SamplerSetting SETTINGS[] = {{"algorithm_type", "[\"dpmsolver++\", \"deis\"]"},
                                          {"solver_order", "[2]"},
                                          {"solver_type", "[\"midpoint\", \"logrho\", \"bh1\", \"bh2\"]"},
                                          {"use_karras_sigmas", "[false]"},
                                          {"use_exponential_sigmas", "[false]"},
                                          {"use_beta_sigmas", "[false]"},
                                          {"use_lu_lambdas", "[false]"},
                                          {"use_flow_sigmas", "[false]"},
                                          {"final_sigmas_type", "[\"zero\"]"},
                                          {"lambda_min_clipped", "[]"},
                                          {"variance_type", "[]"},
                                          {NULL, NULL}};

const SamplerFamily sampler_dpmpp_2m = {
    .kind = {"dpmpp_2m", "DPM++ 2M", "second order and deterministic: good from 10 steps on"},
    .spacing = SPACING_LINSPACE,
    .whole_timesteps = true,
    .open_end = true,
    .settings = SETTINGS,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
