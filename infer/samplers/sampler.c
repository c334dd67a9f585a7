/* The table of samplers, and what they share: which timesteps are visited.
 *
 * Spacings as diffusers rounds them, for n steps out of T: leading i·⌊T/n⌋ + offset; linspace from 0 to T -
 * 1; trailing round(T - i·T/n) - 1; all from the noisy end. Linspace is rounded to whole steps where the
 * sampler looks ᾱ up by step (DDIM) and not where it interpolates σ (Euler). */
#include "sampler.h"

#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <math.h>
#include <string.h>

static const SamplerFamily *const FAMILIES[] = {&sampler_ddim, &sampler_euler};
#define FAMILY_COUNT ((int)(sizeof FAMILIES / sizeof *FAMILIES))

const SamplerKind *sampler_kinds(int *count)
{
    static SamplerKind kinds[FAMILY_COUNT];
    for (int i = 0; i < FAMILY_COUNT; i++)
        kinds[i] = FAMILIES[i]->kind;
    *count = FAMILY_COUNT;
    return kinds;
}

static Status find_family(const char *name, const SamplerFamily **out)
{
    const char *names[FAMILY_COUNT];
    for (int i = 0; i < FAMILY_COUNT; i++) {
        names[i] = FAMILIES[i]->kind.name;
        if (strcmp(names[i], name) == 0) {
            *out = FAMILIES[i];
            return STATUS_OK;
        }
    }
    const char *nearest = text_nearest(name, names, FAMILY_COUNT);
    char list[256] = "";
    for (int i = 0; i < FAMILY_COUNT; i++) {
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, names[i], sizeof list - strlen(list) - 1);
    }
    if (nearest)
        return status_refuse("unknown sampler `%s`; did you mean %s? (there are: %s)", name, nearest, list);
    return status_refuse("unknown sampler `%s`; there are: %s", name, list);
}

/* Fills s->timesteps (room for steps_asked + 1) and s->steps. */
static void fill_timesteps(Sampler *s, const NoiseSchedule *schedule)
{
    const int n = s->steps_asked, total = schedule->train_steps;
    float *t = s->timesteps;
    s->steps = n;
    switch (s->spacing) {
    case SPACING_LEADING:
        for (int i = 0; i < n; i++)
            t[i] = (float)((n - 1 - i) * (total / n) + schedule->steps_offset);
        break;
    case SPACING_LINSPACE:
        for (int i = 0; i < n;
             i++) { /* numpy.linspace: the last is set, the others are multiples of the step */
            const double step = n > 1 ? (double)(total - 1) / (n - 1) : 0;
            t[i] = n > 1 && i == 0 ? (float)(total - 1) : (float)((n - 1 - i) * step);
        }
        break;
    case SPACING_TRAILING: { /* numpy.arange(T, 0, -T/n) */
        const double step = -((double)total / n);
        const double delta = (total + step) - total;
        s->steps = (int)ceil(-total / step);
        for (int i = 0; i < s->steps; i++)
            t[i] = (float)rint(total + i * delta) - 1;
        break;
    }
    }
}

static Status prepare(Sampler *s, const NoiseSchedule *schedule)
{
    const size_t room = (size_t)s->steps_asked + 1;
    s->timesteps = mem_calloc(room, sizeof *s->timesteps);
    s->from = mem_calloc(room, sizeof *s->from);
    s->to = mem_calloc(room, sizeof *s->to);
    if (!s->timesteps || !s->from || !s->to)
        return STATUS_FAILED;
    s->prediction = schedule->prediction;
    s->spacing = schedule->has_spacing ? schedule->spacing : s->family->spacing;
    fill_timesteps(s, schedule);
    for (int i = 0; i < s->steps; i++)
        if (s->timesteps[i] < 0 || s->timesteps[i] > (float)(schedule->train_steps - 1))
            return status_refuse(
                "%d steps do not fit into the model's schedule of %d with offset %d; take fewer",
                s->steps_asked, schedule->train_steps, schedule->steps_offset);
    return s->family->init(s, schedule);
}

Status sampler_new(const char *name, const NoiseSchedule *schedule, int steps, Sampler **out)
{
    const SamplerFamily *family = NULL;
    *out = NULL;
    TRY(find_family(name, &family));
    if (steps < 1 || steps > schedule->train_steps)
        return status_refuse("%d sampling steps; the model's schedule allows 1 to %d", steps,
                             schedule->train_steps);
    Sampler *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->family = family;
    s->steps_asked = steps;
    const Status status = prepare(s, schedule);
    if (status != STATUS_OK)
        sampler_free(s);
    else
        *out = s;
    return status;
}

void sampler_free(Sampler *s)
{
    if (!s)
        return;
    mem_free(s->timesteps);
    mem_free(s->from);
    mem_free(s->to);
    mem_free(s);
}

int sampler_steps(const Sampler *s)
{
    return s->steps;
}

float sampler_timestep(const Sampler *s, int i)
{
    return s->timesteps[i];
}

float sampler_initial_scale(const Sampler *s)
{
    return s->initial_scale;
}

void sampler_scale_input(const Sampler *s, int i, const float *x, float *out, size_t n)
{
    if (s->family->scale_input)
        s->family->scale_input(s, i, x, out, n);
    else
        memmove(out, x, n * sizeof *x);
}

void sampler_step(Sampler *s, int i, const float *output, float *x, size_t n)
{
    s->family->step(s, i, output, x, n);
}

void sampler_add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out, size_t n)
{
    s->family->add_noise(s, start, x0, noise, out, n);
}
