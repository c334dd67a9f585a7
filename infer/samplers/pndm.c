/* Pseudo numerical methods on the manifold (Liu et al. 2022): DDIM's step with a better ε, one that the last
 * four outputs of the model agree on (Adams-Bashforth),
 *
 *     x' = √(ᾱ'/ᾱ) x - (ᾱ' - ᾱ) ε/(ᾱ √(1-ᾱ') + √(ᾱ (1-ᾱ) ᾱ'))
 *
 * Until there are four, it takes as many as there are, and makes the first step twice, the second time with
 * the mean of the model's outputs at both ends. Where the model's file does not say skip_prk_steps, the first
 * three steps are of Runge and Kutta instead, four calls each; not where steps are skipped, in whose middle
 * that would begin.
 *
 * With steps skipped it is the first that is done which is made twice. diffusers leaves out calls of the
 * whole walk, the one made twice among them, and makes the second that is left a repetition: from there on x
 * has the noise of the timestep before the one that it is taken for. */
#include "family.h"

#include <string.h>

#define KEPT 4
#define RUNGE_KUTTA_CALLS 12

/* The model's last outputs, the newest last; x where the step began; the sum of a Runge-Kutta step's outputs;
 * what is mixed of them, and the picture and the noise in it. (n) each */
typedef struct State {
    int known;
    float numbers[];
} State;

static size_t state_bytes(size_t n)
{
    return sizeof(State) + (KEPT + 5) * n * sizeof(float);
}

/* Levels ---------------------------------------------------------------------------------------------- */

typedef struct Calls {
    Sampler *s;
    const NoiseSchedule *schedule;
} Calls;

static void add_call(const Calls *c, int base, int asked, int to)
{
    const int last = c->schedule->train_steps - 1, i = c->s->calls++;
    c->s->base[i] = sampler_level_by_alpha(c->s, c->schedule, base < last ? base : last);
    c->s->from[i] = sampler_level_by_alpha(c->s, c->schedule, asked < last ? asked : last);
    c->s->to[i] = sampler_level_by_alpha(c->s, c->schedule, to);
}

/* Of each of the first three steps, from t to t': asked at t, twice in the middle, and at t'. */
static void add_runge_kutta(const Calls *c, int stride)
{
    for (int step = 0; step < 3; step++) {
        const int t = (int)c->s->points[step].t, next = (int)c->s->points[step + 1].t;
        const int middle = next + stride / 2;
        add_call(c, t, t, t - stride / 2);
        add_call(c, t, middle, middle);
        add_call(c, t, middle, middle - stride / 2);
        add_call(c, t, next, next);
    }
}

/* t of the i-th point, and below the last the one it goes to. */
static int point(const Sampler *s, int i, int stride)
{
    return i < s->point_count ? (int)s->points[i].t : (int)s->points[s->point_count - 1].t - stride;
}

/* As A1111's DDIM: down to timestep 1, where it ends. */
static void points_to_one(Sampler *s, const NoiseSchedule *schedule)
{
    a1111_begin(s, schedule);
    s->point_count = a1111_places(s, schedule) - 1;
    for (int i = 0; i < s->point_count; i++)
        s->points[i].t = (float)a1111_timestep(s, schedule, s->point_count - i);
}

/* Of the calls that are not skipped the first is an ordinary one, the second the first's repetition. */
static void repeat_second(const Calls *c, int stride)
{
    Sampler *s = c->s;
    const int calls = s->calls, first = sampler_first(s);
    const int at[] = {(int)s->from[first].t, (int)s->from[first + 1 < calls ? first + 1 : first].t};
    s->calls = first;
    add_call(c, at[0], at[0], at[0] - stride);
    if (first + 1 < calls)
        add_call(c, at[1] + stride, at[1], at[1]);
    s->calls = calls;
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    const Calls c = {s, schedule};
    const int stride = schedule->train_steps / s->steps;
    const bool diffusers = s->convention == SAMPLER_DIFFUSERS;
    const bool runge_kutta = s->settings.runge_kutta && diffusers && s->skipped == 0;
    if (runge_kutta && s->steps < KEPT)
        return status_refuse(
            "%d sampling steps; the model's scheduler_config.json does not set skip_prk_steps, "
            "so pndm needs %d",
            s->steps, KEPT);
    if (s->convention == SAMPLER_A1111)
        points_to_one(s, schedule);
    const int twice = diffusers ? 0 : s->skipped;
    s->calls = 0;
    if (runge_kutta)
        add_runge_kutta(&c, stride);
    for (int i = runge_kutta ? 3 : 0; i < s->point_count; i++) {
        const int t = point(s, i, stride);
        add_call(&c, t, t, t - stride);
        if (i == twice && i + 1 < s->point_count) {
            const int next = point(s, i + 1, stride);
            add_call(&c, next + stride, next, next);
        }
    }
    if (diffusers && s->skipped > 0)
        repeat_second(&c, stride);
    s->initial_scale = 1;
    return STATUS_OK;
}

/* Steps ----------------------------------------------------------------------------------------------- */

/* x (n), at base -> s->x, at to, by what the mixed output says is in x. */
static void go(const SamplerStep *s, State *state, const float *x, const float *mixed)
{
    float *x0 = state->numbers + (KEPT + 3) * s->n, *noise = x0 + s->n;
    const NoiseLevel base = s->base, to = s->to;
    level_split(base, s->sampler->prediction, x, mixed, x0, noise, s->n);
    const float keep = to.signal / base.signal;
    const float take = (to.signal - base.signal) * (to.signal + base.signal) /
                       (base.signal * (base.signal * to.noise + base.noise * to.signal));
    for (size_t k = 0; k < s->n; k++)
        s->x[k] = keep * x[k] - take * noise[k];
}

static void runge_kutta(const SamplerStep *s, State *state)
{
    static const float SHARES[4] = {1 / 6.0f, 1 / 3.0f, 1 / 3.0f, 1 / 6.0f};
    const size_t n = s->n;
    float *began = state->numbers + KEPT * n, *sum = began + n;
    const int part = s->index % 4;
    if (part == 0) {
        memcpy(state->numbers + (size_t)(s->index / 4 + 1) * n, s->output, n * sizeof *sum);
        memcpy(began, s->x, n * sizeof *began);
        memset(sum, 0, n * sizeof *sum);
        state->known++;
    }
    for (size_t k = 0; k < n; k++)
        sum[k] += SHARES[part] * s->output[k];
    go(s, state, began, part == 3 ? sum : s->output);
}

static void mix(const float *outputs, int known, size_t n, float *mixed)
{
    const float *a = outputs + 3 * n, *b = outputs + 2 * n, *c = outputs + n, *d = outputs;
    for (size_t k = 0; k < n; k++)
        mixed[k] = known < 2    ? a[k]
                   : known == 2 ? (3 * a[k] - b[k]) / 2
                   : known == 3 ? (23 * a[k] - 16 * b[k] + 5 * c[k]) / 12
                                : (1 / 24.0f) * (55 * a[k] - 59 * b[k] + 37 * c[k] - 9 * d[k]);
}

static void step(const SamplerStep *s, void *memory)
{
    State *state = memory;
    const size_t n = s->n;
    float *outputs = state->numbers, *began = outputs + KEPT * n, *mixed = began + 2 * n;
    const bool rk = s->count > s->sampler->point_count + 1;
    if (rk && s->index < RUNGE_KUTTA_CALLS) {
        runge_kutta(s, state);
        return;
    }
    if (!rk && s->index == sampler_first(s->sampler) + 1) { /* the first step once more */
        for (size_t k = 0; k < n; k++)
            mixed[k] = (s->output[k] + outputs[3 * n + k]) / 2;
        go(s, state, began, mixed);
        return;
    }
    memmove(outputs, outputs + n, (KEPT - 1) * n * sizeof *outputs);
    memcpy(outputs + (KEPT - 1) * n, s->output, n * sizeof *outputs);
    state->known++;
    memcpy(began, s->x, n * sizeof *began);
    mix(outputs, state->known, n, mixed);
    go(s, state, began, mixed);
}

static const SettingsDefaults ABSENT = {0};

const SamplerFamily sampler_pndm = {
    .kind = {"pndm", "PLMS", "fourth order over the last steps, one evaluation more than steps: SD1.5's own"},
    .scheduler = "PNDMScheduler",
    .spacing = SPACING_LEADING,
    .timesteps = TIMESTEP_WHOLE,
    .grid = GRID_OF_TIMESTEPS,
    .absent = &ABSENT,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
