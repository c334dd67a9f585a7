/* Grids of noise levels (grid.h).
 *
 * Spacings as diffusers rounds them, for n steps out of T: leading i·⌊T/n⌋ + offset; linspace from 0 to T -
 * 1; trailing round(T - i·T/n) - 1; SGM-uniform is linspace with n + 1 points and without the last. Curves
 * are computed in double, as numpy does. */
#include "grid.h"

#include "beta_quantile.h"

#include <math.h>
#include <string.h>

#define KARRAS_RHO 7.0
#define BETA_SHAPE 0.6

const GridKind *grid_kinds(int *count)
{
    static const GridKind KINDS[] = {
        {"leading", NULL, "whole timesteps counted from the clean end", SPACING_LEADING, CURVE_NONE},
        {"linspace", "Uniform", "evenly from the noisy end to the clean one", SPACING_LINSPACE, CURVE_NONE},
        {"trailing", NULL, "whole timesteps counted from the noisy end, for few steps", SPACING_TRAILING,
         CURVE_NONE},
        {"sgm_uniform", "SGM Uniform", "evenly, and from the last but one straight to the picture",
         SPACING_SGM_UNIFORM, CURVE_NONE},
        {"karras", "Karras", "smaller steps where little noise is left, for detail", SPACING_LINSPACE,
         CURVE_KARRAS},
        {"exponential", "Exponential", "evenly in the noise's logarithm: smaller still at the end",
         SPACING_LINSPACE, CURVE_EXPONENTIAL},
        {"beta", "Beta", "smaller steps at both ends", SPACING_LINSPACE, CURVE_BETA},
    };
    *count = (int)(sizeof KINDS / sizeof *KINDS);
    return KINDS;
}

const GridKind *grid_kind(const char *name)
{
    int count;
    const GridKind *kinds = grid_kinds(&count);
    for (int i = 0; i < count; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

/* Timesteps ------------------------------------------------------------------------------------------- */

static void leading(const NoiseSchedule *s, const Grid *g, int n, GridPoint *p)
{
    const int points = n + g->open_end;
    for (int i = 0; i < n; i++)
        p[i].t = (float)((points - 1 - i) * (s->train_steps / points) + s->steps_offset);
}

/* numpy.linspace from the clean end: the last is set, the others are multiples of the step. torch.linspace
 * from the noisy end is the same but where it has one point. */
static void linspace(const NoiseSchedule *s, const Grid *g, int n, int points, GridPoint *p)
{
    const double last = s->train_steps - 1, step = points > 1 ? last / (points - 1) : 0;
    for (int i = 0; i < n; i++) {
        const bool end = i == 0 && (points > 1 || g->from_noise);
        const double t = end ? last : (points - 1 - i) * step;
        p[i].t = (float)(g->timesteps == TIMESTEP_WHOLE ? rint(t) : t);
    }
}

/* numpy.arange(T, 0, -T/n) */
static int trailing(const NoiseSchedule *s, int n, GridPoint *p)
{
    const double total = s->train_steps, step = -(total / n), delta = (total + step) - total;
    const int count = (int)ceil(-total / step);
    for (int i = 0; i < count; i++)
        p[i].t = (float)rint(total + i * delta) - 1;
    return count;
}

static int space(const NoiseSchedule *s, const Grid *g, int n, GridPoint *p)
{
    switch (g->spacing) {
    case SPACING_LEADING:
        leading(s, g, n, p);
        return n;
    case SPACING_LINSPACE:
        linspace(s, g, n, n + g->open_end, p);
        return n;
    case SPACING_TRAILING:
        return trailing(s, n, p);
    case SPACING_SGM_UNIFORM:
        linspace(s, g, n, n + 1, p);
        return n;
    }
    return n;
}

/* Curves ---------------------------------------------------------------------------------------------- */

/* The i-th of n σ from max to min. */
static double on_curve(SigmaCurve curve, int i, int n, double max, double min)
{
    const double way = n > 1 ? (double)i / (n - 1) : 0;
    switch (curve) {
    case CURVE_KARRAS: {
        const double a = pow(max, 1 / KARRAS_RHO), b = pow(min, 1 / KARRAS_RHO);
        return pow(a + way * (b - a), KARRAS_RHO);
    }
    case CURVE_BETA:
        return min + beta_quantile(1 - way, BETA_SHAPE, BETA_SHAPE) * (max - min);
    case CURVE_EXPONENTIAL:
    case CURVE_LU:
    case CURVE_NONE:
        break;
    }
    return exp(log(max) + way * (log(min) - log(max)));
}

float grid_timestep(const NoiseSchedule *s, TimestepKind kind, double sigma)
{
    return kind == TIMESTEP_NEAREST ? (float)schedule_nearest(s, (float)sigma)
                                    : (float)schedule_timestep(s, sigma);
}

static float curve_timestep(const NoiseSchedule *s, const Grid *g, double sigma)
{
    const double t = schedule_timestep(s, sigma);
    const bool even = g->curve == CURVE_KARRAS || g->curve == CURVE_LU;
    if (g->timesteps == TIMESTEP_WHOLE)
        return (float)(even ? rint(t) : floor(t));
    if (g->timesteps == TIMESTEP_KARRAS_WHOLE && g->curve == CURVE_KARRAS)
        return (float)rint(t);
    return grid_timestep(s, g->timesteps, sigma);
}

static void bend(const NoiseSchedule *s, const Grid *g, int n, GridPoint *p, int spaced)
{
    const float last = (float)(s->train_steps - 1);
    double max = (double)schedule_sigma(s, g->whole_range ? last : p[0].t);
    double min = (double)schedule_sigma(s, g->whole_range ? 0 : p[spaced - 1].t);
    max = g->sigma_max > 0 ? g->sigma_max : max;
    min = g->sigma_min > 0 ? g->sigma_min : min;
    for (int i = 0; i < n; i++) {
        const double sigma = on_curve(g->curve, i, n, max, min);
        p[i] = (GridPoint){curve_timestep(s, g, sigma), (float)sigma};
    }
}

/* The grid -------------------------------------------------------------------------------------------- */

int grid_room(int steps)
{
    return steps + 2;
}

int grid_fill(const NoiseSchedule *s, const Grid *g, GridPoint *points)
{
    const int n = g->steps + g->without_penultimate;
    int count = space(s, g, n, points);
    if (g->curve != CURVE_NONE) {
        bend(s, g, n, points, count);
        count = n;
    } else {
        for (int i = 0; i < count; i++) {
            const float t = points[i].t;
            points[i].sigma = g->log_sigma ? schedule_sigma_log(s, t) : schedule_sigma(s, t);
            if (g->timesteps == TIMESTEP_NEAREST)
                points[i].t = (float)schedule_nearest(s, points[i].sigma);
        }
    }
    if (g->without_penultimate)
        count--; /* what comes after the last point is σ = 0: of the points it is the last that goes */
    return count;
}
