/* Grids: at which noise levels of a schedule the steps of a picture stand.
 *
 * A grid is spaced by timesteps (leading, linspace, trailing, SGM-uniform) or runs along a curve of σ
 * (Karras, exponential, beta, Lu). Schedulers and programs read the same word differently; each difference is
 * a field of Grid. */
#ifndef ATL_GRID_H
#define ATL_GRID_H

#include "schedule.h"

/* How σ runs from the largest to the least; CURVE_NONE: it follows the timesteps. */
typedef enum SigmaCurve {
    CURVE_NONE = 0,
    CURVE_KARRAS,      /* evenly in σ^(1/7), Karras et al. 2022 */
    CURVE_EXPONENTIAL, /* evenly in log σ */
    CURVE_BETA,        /* at the quantiles of Beta(0.6, 0.6), Lee et al. 2024 */
    CURVE_LU           /* evenly in log(signal/noise), Lu et al. 2022 */
} SigmaCurve;

/* Schedules by the word that users choose one by: the spacing of the timesteps, or a curve of σ. */
typedef struct GridKind {
    const char *name;
    const char *label;       /* A1111's, as it stands in pictures; NULL: it has none of the kind */
    const char *description; /* in few words */
    TimestepSpacing spacing; /* where there is no curve */
    SigmaCurve curve;
} GridKind;
#define SCHEDULE_AUTO "auto" /* what the model's file says, else the sampler's own */
#define SCHEDULE_WORDS "auto|leading|linspace|trailing|sgm_uniform|karras|exponential|beta"
const GridKind *grid_kinds(int *count);      /* in that order, without auto */
const GridKind *grid_kind(const char *name); /* NULL: there is none of this name */

/* What a timestep may be. */
typedef enum TimestepKind {
    TIMESTEP_FLOAT = 0,
    TIMESTEP_WHOLE,        /* rounded; of the exponential and the beta curve cut off, as diffusers has it */
    TIMESTEP_KARRAS_WHOLE, /* float, but rounded on Karras' curve */
    TIMESTEP_NEAREST       /* the whole one whose σ is nearest in log */
} TimestepKind;

typedef struct Grid {
    int steps;
    TimestepSpacing spacing;
    SigmaCurve curve;
    TimestepKind timesteps;
    bool open_end;               /* leading and linspace: with a last point, at the clean end, left out */
    bool from_noise;             /* linspace begins at the noisy end even if it has one point */
    bool whole_range;            /* a curve runs over all of the schedule, not from the first timestep's σ to
                                  * the last one's */
    bool log_sigma;              /* σ between whole timesteps is interpolated in log */
    bool without_penultimate;    /* one point more, and the last but one left out */
    double sigma_max, sigma_min; /* of a curve; 0: as whole_range says */
} Grid;

typedef struct GridPoint {
    float t, sigma;
} GridPoint;

/* Room for grid_room(steps) points, from the noisy end; returns how many came of it: trailing spacing rounds
 * to one more than asked for a few counts. */
int grid_room(int steps);
int grid_fill(const NoiseSchedule *s, const Grid *g, GridPoint *points);
/* What the model is told at a σ that lies between two points. */
float grid_timestep(const NoiseSchedule *s, TimestepKind kind, double sigma);

#endif
