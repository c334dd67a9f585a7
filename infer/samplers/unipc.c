/* UniPC (Zhao et al. 2023), which predicts x0: each new output first corrects the step that led to it, and
 * then predicts the next,
 *
 *     x' = noise'/noise x - signal' (e⁻ʰ - 1) D0 - signal' B Σ ρᵢ Dᵢ/rᵢ
 *
 * Dᵢ is what x0 was i steps before (of the correction's last one: is at the step's end) less D0, rᵢ how far
 * off in log(signal/noise) that is over h, and ρ what makes the step exact to its order; B is e⁻ʰ - 1 (bh2)
 * or -h (bh1). */
#include "family.h"

#include <math.h>
#include <string.h>

#define MOST_ORDER 3
#define THOUSANDTH 0.001f

/* x0 of the last steps, the newest first; x where the last step began. (n) each */
typedef struct State {
    int known, order; /* order of the last step */
    float numbers[];
} State;

static size_t state_bytes(size_t n)
{
    return sizeof(State) + (MOST_ORDER + 1) * n * sizeof(float);
}

static float lambda_of(NoiseLevel l)
{
    return logf(l.signal) - logf(l.noise);
}

/* A step from `from` to `to`, with `order` terms; r of those of the past stands in r. */
typedef struct Move {
    NoiseLevel from, to;
    int order;
    float r[MOST_ORDER], rho[MOST_ORDER], phi1, B;
} Move;

/* Gauss' elimination of size rows, in double. */
static void solve(int size, double R[MOST_ORDER][MOST_ORDER], const double *b, float *rho)
{
    double right[MOST_ORDER];
    memcpy(right, b, sizeof right);
    for (int i = 0; i < size; i++)
        for (int row = i + 1; row < size; row++) {
            const double factor = R[row][i] / R[i][i];
            for (int k = i; k < size; k++)
                R[row][k] -= factor * R[i][k];
            right[row] -= factor * right[i];
        }
    for (int i = size - 1; i >= 0; i--) {
        for (int k = i + 1; k < size; k++)
            right[i] -= R[i][k] * right[k];
        right[i] /= R[i][i];
        rho[i] = (float)right[i];
    }
}

/* What makes the step exact for polynomials below its order: ρ of the past's terms, and where `ends`, of the
 * one at the step's end. */
static void weigh(Move *m, float h, bool bh1, bool ends)
{
    double R[MOST_ORDER][MOST_ORDER] = {{0}}, b[MOST_ORDER] = {0};
    const double hh = -(double)h;
    double phi = expm1(hh) / hh - 1, factorial = 1;
    m->phi1 = (float)expm1(hh);
    m->B = bh1 ? (float)hh : m->phi1;
    const int terms = ends ? m->order : m->order - 1;
    for (int i = 0; i < terms; i++) {
        for (int k = 0; k < terms; k++)
            R[i][k] = pow(k < m->order - 1 ? (double)m->r[k] : 1, i);
        b[i] = phi * factorial / (double)m->B;
        factorial *= i + 2;
        phi = phi / hh - 1 / factorial;
    }
    if (terms == 1)
        m->rho[0] = 0.5f; /* as the authors take it */
    else
        solve(terms, R, b, m->rho);
}

/* The step that begins at the call `begin`. */
static Move move_of(const SamplerStep *s, int begin, int order, bool ends)
{
    const NoiseLevel *levels = s->sampler->from;
    Move m = {.from = s->sampler->from[begin], .to = s->sampler->to[begin], .order = order};
    const float h = lambda_of(m.to) - lambda_of(m.from);
    for (int i = 1; i < order; i++)
        m.r[i - 1] = (lambda_of(levels[begin - i]) - lambda_of(m.from)) / h;
    weigh(&m, h, s->sampler->settings.bh1, ends);
    return m;
}

/* x (n), where the step began -> out. m0 and older: x0 there and before, end: at the step's end or NULL. */
static void go(const Move *m, const float *x, const float *m0, const float *end, size_t n, float *out)
{
    const float keep = m->to.noise / m->from.noise, take = m->to.signal * m->phi1, more = m->to.signal * m->B;
    for (size_t k = 0; k < n; k++) {
        float sum = 0;
        for (int i = 1; i < m->order; i++)
            sum += m->rho[i - 1] * ((m0[(size_t)i * n + k] - m0[k]) / m->r[i - 1]);
        if (end)
            sum += m->rho[m->order - 1] * (end[k] - m0[k]);
        const float begun = keep * x[k] - take * m0[k];
        out[k] = sum != 0 ? begun - more * sum : begun; /* more is infinite where no noise is left */
    }
}

static int order_of(const SamplerStep *s, int known)
{
    const SamplerSettings *settings = &s->sampler->settings;
    const int left = s->count - s->index;
    int order = settings->order < known + 1 ? settings->order : known + 1;
    if (settings->lower_order_final && order > left)
        order = left;
    return s->to.noise == 0 ? 1 : order;
}

static void step(const SamplerStep *s, void *memory)
{
    State *state = memory;
    const size_t n = s->n;
    float *past = state->numbers, *began = past + MOST_ORDER * n;
    if (s->index > 0 && state->known > 0) {
        const Move m = move_of(s, s->index - 1, state->order, true);
        go(&m, began, past, s->x0, n, s->x);
    }
    memmove(past + n, past, (MOST_ORDER - 1) * n * sizeof *past);
    memcpy(past, s->x0, n * sizeof *past);
    memcpy(began, s->x, n * sizeof *began);
    state->order = order_of(s, state->known);
    const Move m = move_of(s, s->index, state->order, false);
    go(&m, began, past, NULL, n, s->x);
    state->known++;
}

/* As the authors' code has it that A1111 took over: levels evenly in t from the noisy end (or from where a
 * picture is begun) to timestep 0, with log √ᾱ on a line between two; order 3, with B = -h. */
static NoiseLevel level_between(const NoiseSchedule *schedule, double t)
{
    const int before = (int)floor(t), last = schedule->train_steps - 1,
              after = before < last ? before + 1 : last;
    const double share = t - before, a = log(schedule->alphas_cumprod[before]),
                 b = log(schedule->alphas_cumprod[after]);
    return level_of_alpha((float)t, (float)exp(share > 0 ? a + share * (b - a) : a));
}

static Status levels_of_authors(Sampler *s, const NoiseSchedule *schedule)
{
    const int done = a1111_begin(s, schedule), skipped = s->begins_apart ? s->skipped : 0;
    const double top = s->begins_apart ? a1111_timestep(s, schedule, done - 1) : schedule->train_steps - 1;
    s->settings.order = MOST_ORDER;
    s->settings.bh1 = s->settings.lower_order_final = true;
    s->calls = skipped + done;
    for (int i = 0; i < s->calls; i++) {
        const int k = i > skipped ? i - skipped : 0;
        s->base[i] = s->from[i] = level_between(schedule, top * (done - k) / done);
        s->to[i] = level_between(schedule, top * (done - k - 1) / done);
    }
    s->initial_scale = 1;
    return STATUS_OK;
}

/* As ComfyUI: order 3 or what the steps allow, with B = -h, to σ = 0.001. */
static Status levels_to_thousandth(Sampler *s, const NoiseSchedule *schedule)
{
    s->settings.order = s->point_count > MOST_ORDER ? MOST_ORDER
                        : s->point_count > 1        ? s->point_count - 1
                                                    : 1;
    s->settings.bh1 = s->settings.lower_order_final = true;
    s->final_sigma = THOUSANDTH;
    return sampler_levels_shrunk(s, schedule);
}

static Status levels(Sampler *s, const NoiseSchedule *schedule)
{
    return s->convention == SAMPLER_A1111   ? levels_of_authors(s, schedule)
           : s->convention == SAMPLER_COMFY ? levels_to_thousandth(s, schedule)
                                            : sampler_levels_shrunk(s, schedule);
}

static const SettingsDefaults ABSENT = {
    .curves = true, .final_sigma = true, .solver = true, .thresholds = true};
/* Names of other schedulers' solvers diffusers takes for bh2. */
static const SamplerSetting SETTINGS[] = {
    {"solver_type", "[\"bh1\", \"bh2\", \"midpoint\", \"heun\", \"logrho\"]"},
    {"predict_x0", "[true]"},
    {"disable_corrector", "[[]]"},
    {"solver_p", "[]"},
    {"use_flow_sigmas", "[false]"},
    {NULL, NULL}};

const SamplerFamily sampler_unipc = {
    .kind = {"unipc", "UniPC", "corrects each step by the next evaluation: good from 8 steps on"},
    .scheduler = "UniPCMultistepScheduler",
    .spacing = SPACING_LINSPACE,
    .timesteps = TIMESTEP_WHOLE,
    .open_end = true,
    .whole_range = true,
    .k_without_penultimate = true,
    .a1111_by_timesteps = true,
    .absent = &ABSENT,
    .settings = SETTINGS,
    .state_bytes = state_bytes,
    .levels = levels,
    .step = step,
};
