/* The table of samplers, and what they share: which timesteps are visited, and what the model's output says.
 *
 * Spacings as diffusers rounds them, for n steps out of T: leading i·⌊T/n⌋ + offset; linspace from 0 to T -
 * 1; trailing round(T - i·T/n) - 1; all from the noisy end. */
#include "sampler.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "family.h"

#include <math.h>
#include <string.h>

#define SAMPLER_ENTRY(word) &sampler_##word,
static const SamplerFamily *const FAMILIES[] = {ATL_SAMPLERS(SAMPLER_ENTRY)};
#define FAMILY_COUNT ((int)(sizeof FAMILIES / sizeof *FAMILIES))

const SamplerKind *sampler_kinds(int *count)
{
    static SamplerKind kinds[FAMILY_COUNT];
    for (int i = 0; i < FAMILY_COUNT; i++)
        kinds[i] = FAMILIES[i]->kind;
    *count = FAMILY_COUNT;
    return kinds;
}

static const SamplerFamily *family_of(const char *name)
{
    for (int i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(FAMILIES[i]->kind.name, name) == 0)
            return FAMILIES[i];
    return NULL;
}

const SamplerKind *sampler_kind(const char *name)
{
    const SamplerFamily *f = family_of(name);
    return f ? &f->kind : NULL;
}

static Status unknown(const char *name)
{
    const char *names[FAMILY_COUNT];
    char list[256] = "";
    for (int i = 0; i < FAMILY_COUNT; i++) {
        names[i] = FAMILIES[i]->kind.name;
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, names[i], sizeof list - strlen(list) - 1);
    }
    const char *nearest = text_nearest(name, names, FAMILY_COUNT);
    if (nearest)
        return status_refuse("unknown sampler `%s`; did you mean %s? (there are: %s)", name, nearest, list);
    return status_refuse("unknown sampler `%s`; there are: %s", name, list);
}

/* What the model's file asks of a scheduler of this kind, and this one does not do. */
static Status check_settings(const SamplerFamily *f, const NoiseSchedule *schedule)
{
    JsonConfig c;
    const char *refused = NULL;
    if (!f->settings)
        return STATUS_OK;
    json_config_open(&c, schedule->json, "scheduler_config.json");
    for (const SamplerSetting *s = f->settings; s->key && !refused; s++)
        if (!json_config_one_of(&c, s->key, s->values))
            refused = s->key;
    TRY(json_config_close(&c));
    if (refused)
        return status_refuse(
            "the model's scheduler_config.json sets \"%s\", which sampler %s does not know here; "
            "take sampler " SAMPLER_DEFAULT,
            refused, f->kind.name);
    return STATUS_OK;
}

/* Timesteps ------------------------------------------------------------------------------------------- */

/* Fills t of s->from (room for steps_asked + 1), and s->steps. */
static void fill_timesteps(Sampler *s, const NoiseSchedule *schedule)
{
    const int n = s->steps_asked, total = schedule->train_steps;
    const int points = n + s->family->open_end; /* the first n of them are taken */
    NoiseLevel *from = s->from;
    s->steps = n;
    switch (s->spacing) {
    case SPACING_LEADING:
        for (int i = 0; i < n; i++)
            from[i].t = (float)((points - 1 - i) * (total / points) + schedule->steps_offset);
        break;
    case SPACING_LINSPACE:
        for (int i = 0; i < n; i++) {
            /* numpy.linspace: the last is set, the others are multiples of the step */
            const double step = points > 1 ? (double)(total - 1) / (points - 1) : 0;
            const double t = points > 1 && i == 0 ? total - 1 : (points - 1 - i) * step;
            from[i].t = (float)(s->family->whole_timesteps ? rint(t) : t);
        }
        break;
    case SPACING_TRAILING: { /* numpy.arange(T, 0, -T/n) */
        const double step = -((double)total / n);
        const double delta = (total + step) - total;
        s->steps = (int)ceil(-total / step);
        for (int i = 0; i < s->steps; i++)
            from[i].t = (float)rint(total + i * delta) - 1;
        break;
    }
    }
}

void sampler_levels_of_sigma(Sampler *s, const NoiseSchedule *schedule)
{
    for (int i = 0; i < s->steps; i++)
        s->from[i] = level_of_sigma(s->from[i].t, schedule_sigma(schedule, s->from[i].t));
    for (int i = 0; i < s->steps; i++)
        s->to[i] = i + 1 < s->steps ? s->from[i + 1] : level_of_sigma(0, 0);
    const NoiseLevel first = s->from[0];
    s->initial_scale = s->spacing == SPACING_LEADING ? sqrtf(first.power) : first.noise;
}

/* The sampler ----------------------------------------------------------------------------------------- */

static Status allocate(Sampler *s)
{
    const size_t room = (size_t)s->steps_asked + 1, n = s->n ? s->n : 1;
    s->from = mem_calloc(room, sizeof *s->from);
    s->to = mem_calloc(room, sizeof *s->to);
    s->x0 = mem_alloc(n * sizeof *s->x0);
    s->noise = mem_alloc(n * sizeof *s->noise);
    if (s->family->state_bytes)
        s->state = mem_calloc(1, s->family->state_bytes(n));
    return s->from && s->to && s->x0 && s->noise && (s->state || !s->family->state_bytes) ? STATUS_OK
                                                                                          : STATUS_FAILED;
}

static Status prepare(Sampler *s, const NoiseSchedule *schedule)
{
    TRY(allocate(s));
    s->prediction = schedule->prediction;
    s->spacing = schedule->has_spacing ? schedule->spacing : s->family->spacing;
    s->clip = s->family->kind.clips && schedule->clip_sample ? (float)schedule->clip_sample_range : 0;
    fill_timesteps(s, schedule);
    for (int i = 0; i < s->steps; i++)
        if (s->from[i].t < 0 || s->from[i].t > (float)(schedule->train_steps - 1))
            return status_refuse(
                "%d steps do not fit into the model's schedule of %d with offset %d; take fewer",
                s->steps_asked, schedule->train_steps, schedule->steps_offset);
    s->family->levels(s, schedule);
    return STATUS_OK;
}

Status sampler_new(const char *name, const NoiseSchedule *schedule, int steps, size_t n, Sampler **out)
{
    const SamplerFamily *family = family_of(name);
    *out = NULL;
    if (!family)
        return unknown(name);
    TRY(check_settings(family, schedule));
    const int most = schedule->train_steps - family->open_end;
    if (steps < 1 || steps > most)
        return status_refuse("%d sampling steps; the model's schedule allows 1 to %d", steps, most);
    Sampler *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->family = family;
    s->steps_asked = steps;
    s->n = n;
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
    mem_free(s->from);
    mem_free(s->to);
    mem_free(s->x0);
    mem_free(s->noise);
    mem_free(s->state);
    mem_free(s);
}

int sampler_steps(const Sampler *s)
{
    return s->steps;
}

float sampler_timestep(const Sampler *s, int i)
{
    return s->from[i].t;
}

float sampler_initial_scale(const Sampler *s)
{
    return s->initial_scale;
}

void sampler_input(const Sampler *s, int i, const float *x, float *out)
{
    level_input(s->from[i], x, out, s->n);
}

void sampler_step(Sampler *s, int i, const float *output, const NoiseSource *noise, float *x)
{
    level_split(s->from[i], s->prediction, x, output, s->x0, s->noise, s->n);
    for (size_t k = 0; k < s->n && s->clip > 0; k++) /* x0 alone: diffusers does not derive the noise again */
        s->x0[k] = s->x0[k] < -s->clip ? -s->clip : s->x0[k] > s->clip ? s->clip : s->x0[k];
    const SamplerStep step = {.from = s->from[i],
                              .to = s->to[i],
                              .last = i == s->steps - 1,
                              .x0 = s->x0,
                              .noise = s->noise,
                              .x = x,
                              .n = s->n,
                              .source = noise};
    s->family->step(&step, s->state);
}

void sampler_add_noise(const Sampler *s, int start, const float *x0, const float *noise, float *out)
{
    level_mix(s->from[start], x0, noise, out, s->n);
}

/* Noise ------------------------------------------------------------------------------------------------ */

static void draw_torch(void *arg, float *out, size_t n)
{
    torch_randn(arg, out, n);
}

NoiseSource noise_from_torch(TorchRandom *g)
{
    return (NoiseSource){draw_torch, g};
}
