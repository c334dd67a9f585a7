/* The table of samplers, and what they share: the levels that are visited, and what the model's output says.
 */
#include "sampler.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "family.h"
#include "threshold.h"

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

#define MOST_WORDS 16
#define FULL 1e-5f /* how near the largest σ is the largest */

/* A word that is none of count. */
static Status unknown(const char *what, const char *word, const char *const *words, int count)
{
    char list[256] = "";
    for (int i = 0; i < count; i++) {
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, words[i], sizeof list - strlen(list) - 1);
    }
    const char *nearest = text_nearest(word, words, count);
    if (nearest)
        return status_refuse("unknown %s `%s`; did you mean %s? (there are: %s)", what, word, nearest, list);
    return status_refuse("unknown %s `%s`; there are: %s", what, word, list);
}

static Status unknown_sampler(const char *name)
{
    const char *names[FAMILY_COUNT];
    for (int i = 0; i < FAMILY_COUNT; i++)
        names[i] = FAMILIES[i]->kind.name;
    return unknown("sampler", name, names, FAMILY_COUNT);
}

static Status unknown_schedule(const char *name)
{
    const char *names[MOST_WORDS];
    int count;
    const GridKind *kinds = grid_kinds(&count);
    for (int i = 0; i < count && i < MOST_WORDS; i++)
        names[i] = kinds[i].name;
    return unknown("schedule", name, names, count);
}

/* The model's file ------------------------------------------------------------------------------------ */

const char *sampler_of_model(const NoiseSchedule *schedule)
{
    const SamplerFamily *found = FAMILIES[0];
    JsonConfig c;
    json_config_open(&c, schedule->json, "scheduler_config.json");
    const char *scheduler = json_config_text(&c, "_class_name", "");
    const char *algorithm = json_config_text(&c, "algorithm_type", "dpmsolver++");
    for (int i = 0; i < FAMILY_COUNT; i++) {
        const SamplerFamily *f = FAMILIES[i];
        if (strcmp(f->scheduler, scheduler) == 0 && (!f->algorithm || strcmp(f->algorithm, algorithm) == 0))
            found = f;
    }
    (void)json_config_close(&c);
    return found->kind.name;
}

static bool is_auto(const char *word)
{
    return !word || strcmp(word, SAMPLER_AUTO) == 0;
}

double sampler_clip(const char *name, const NoiseSchedule *schedule)
{
    const SamplerFamily *f = family_of(is_auto(name) ? sampler_of_model(schedule) : name);
    SamplerSettings settings = {0};
    if (!f || sampler_settings_read(schedule->json, f->absent, &settings) != STATUS_OK)
        return 0;
    return settings.clip;
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
        return status_refuse("the model's scheduler_config.json sets \"%s\", which sampler %s does not know "
                             "here; take sampler %s",
                             refused, f->kind.name, FAMILIES[0]->kind.name);
    return STATUS_OK;
}

/* The grid -------------------------------------------------------------------------------------------- */

/* The user's word for a schedule, else that of the programs after k-diffusion; NULL: what the model says. */
static Status choose_schedule(const Sampler *s, const char *word, const GridKind **out)
{
    const SamplerFamily *f = s->family;
    *out = NULL;
    if (is_auto(word)) {
        if (s->convention == SAMPLER_A1111)
            *out = grid_kind(f->k_schedule ? f->k_schedule : "linspace");
        else if (s->convention == SAMPLER_COMFY)
            *out = grid_kind("linspace");
        return STATUS_OK;
    }
    if (!(*out = grid_kind(word)))
        return unknown_schedule(word);
    const bool of_its_own = f->grid == GRID_OWN && s->convention != SAMPLER_COMFY;
    if (of_its_own || (s->convention == SAMPLER_A1111 && sampler_goes_by_timesteps(s)))
        return status_refuse("sampler %s has steps of its own; no --schedule can be set", f->kind.name);
    if (f->grid == GRID_OF_TIMESTEPS && (*out)->curve != CURVE_NONE && s->convention == SAMPLER_DIFFUSERS)
        return status_refuse(
            "sampler %s goes by timesteps; its schedules are leading, linspace, trailing and "
            "sgm_uniform, not %s",
            f->kind.name, word);
    return STATUS_OK;
}

static Grid grid_of(const Sampler *s, const NoiseSchedule *schedule, const GridKind *chosen)
{
    const SamplerFamily *f = s->family;
    const bool k = s->convention != SAMPLER_DIFFUSERS;
    Grid g = {.steps = s->steps,
              .spacing = schedule->has_spacing ? schedule->spacing : f->spacing,
              .curve = s->settings.curve,
              .timesteps = s->timesteps,
              .open_end = f->open_end && !k,
              .from_noise = k,
              .whole_range = f->whole_range || k,
              .log_sigma = k,
              .without_penultimate = k && f->k_without_penultimate,
              .sigma_max = s->settings.sigma_max,
              .sigma_min = s->settings.sigma_min};
    if (chosen) {
        g.curve = chosen->curve;
        g.spacing = chosen->curve == CURVE_NONE || k ? chosen->spacing : g.spacing;
        g.log_sigma = g.log_sigma || chosen->spacing == SPACING_SGM_UNIFORM;
    }
    return g;
}

static Status fill_points(Sampler *s, const NoiseSchedule *schedule, const GridKind *chosen)
{
    const Grid g = grid_of(s, schedule, chosen);
    s->spacing = schedule->has_spacing || !chosen ? g.spacing : chosen->spacing;
    if (chosen && chosen->curve == CURVE_NONE)
        s->spacing = chosen->spacing;
    s->point_count = grid_fill(schedule, &g, s->points);
    for (int i = 0; i < s->point_count; i++)
        if (s->points[i].t < 0 || s->points[i].t > (float)(schedule->train_steps - 1))
            return status_refuse(
                "%d steps do not fit into the model's schedule of %d with offset %d; take fewer", s->steps,
                schedule->train_steps, schedule->steps_offset);
    for (int i = 0; i < s->point_count; i++)
        if (!isfinite(s->points[i].sigma))
            return status_refuse("the model's noise schedule has no finite noise level at timestep %g",
                                 (double)s->points[i].t);
    s->final_sigma = s->settings.to_sigma_min ? schedule_sigma(schedule, 0) : 0;
    return STATUS_OK;
}

/* Levels ---------------------------------------------------------------------------------------------- */

/* The first x is noise times this: of those that leave the picture as it is, √(σ²+1) or σ, as programs have
 * it. */
static float first_scale(const Sampler *s, NoiseLevel first)
{
    if (s->convention == SAMPLER_A1111)
        return first.noise;
    if (s->convention == SAMPLER_COMFY)
        return sqrtf(first.signal * first.signal + first.noise * first.noise);
    return first.power == 1 || s->spacing == SPACING_LEADING ? sqrtf(first.power) : first.noise;
}

static Status levels_of_points(Sampler *s, NoiseLevel (*level)(float t, float sigma))
{
    s->calls = s->point_count;
    for (int i = 0; i < s->calls; i++) {
        s->base[i] = s->from[i] = level(s->points[i].t, s->points[i].sigma);
        s->to[i] =
            i + 1 < s->calls ? level(s->points[i + 1].t, s->points[i + 1].sigma) : level(0, s->final_sigma);
    }
    s->initial_scale = first_scale(s, s->from[0]);
    return STATUS_OK;
}

Status sampler_levels_of_sigma(Sampler *s, const NoiseSchedule *schedule)
{
    (void)schedule;
    return levels_of_points(s, level_of_sigma);
}

Status sampler_levels_shrunk(Sampler *s, const NoiseSchedule *schedule)
{
    (void)schedule;
    return levels_of_points(s, level_of_sigma_shrunk);
}

NoiseLevel sampler_level_by_alpha(const Sampler *s, const NoiseSchedule *schedule, int t)
{
    const int kept = t >= 0 ? t : 0;
    const bool clean = t < 0 && !s->settings.end_at_first;
    return level_of_alpha((float)t, clean ? 1 : (float)schedule->alphas_cumprod[kept]);
}

Status sampler_levels_in_pairs(Sampler *s, const NoiseSchedule *schedule,
                               double (*inner)(float from, float to))
{
    s->calls = 0;
    for (int i = 0; i < s->point_count; i++) {
        const bool last = i + 1 == s->point_count;
        const NoiseLevel here = level_of_sigma(s->points[i].t, s->points[i].sigma);
        const NoiseLevel next = last ? level_of_sigma(0, s->final_sigma)
                                     : level_of_sigma(s->points[i + 1].t, s->points[i + 1].sigma);
        NoiseLevel middle = next;
        if (inner && !last) {
            const double sigma = inner(here.noise, next.noise);
            middle = level_of_sigma(grid_timestep(schedule, s->timesteps, sigma), (float)sigma);
        }
        s->base[s->calls] = s->from[s->calls] = here;
        s->to[s->calls++] = middle;
        if (last)
            break;
        s->base[s->calls] = here;
        s->from[s->calls] = middle;
        s->to[s->calls++] = next;
    }
    s->initial_scale = first_scale(s, s->from[0]);
    return STATUS_OK;
}

/* The sampler ----------------------------------------------------------------------------------------- */

static Status allocate(Sampler *s)
{
    const size_t n = s->n ? s->n : 1,
                 points = (size_t)grid_room(2 * s->steps); /* A1111's are more (a1111.c) */
    const size_t room = 2 * points + SAMPLER_SPARE_CALLS;
    s->points = mem_calloc(points, sizeof *s->points);
    s->base = mem_calloc(3 * room, sizeof *s->base);
    s->x0 = mem_alloc(3 * n * sizeof *s->x0);
    if (s->family->state_bytes)
        s->state = mem_calloc(1, s->family->state_bytes(n));
    if (!s->points || !s->base || !s->x0 || (!s->state && s->family->state_bytes))
        return STATUS_FAILED;
    s->from = s->base + room;
    s->to = s->from + room;
    s->noise = s->x0 + n;
    s->scratch = s->noise + n;
    return STATUS_OK;
}

/* The motion's ends are the largest σ and the least above 0. */
static Status set_in_motion(Sampler *s, const SamplerChoice *choice)
{
    const NoiseOverSigma when = s->family->motion;
    if (when == MOTION_NEVER || (when == MOTION_AS_K_DIFFUSION && s->convention == SAMPLER_DIFFUSERS))
        return STATUS_OK;
    const uint64_t seed = s->settings.has_noise_seed ? s->settings.noise_seed : choice->seed;
    const float least = s->points[s->point_count - 1].sigma;
    return brownian_new((double)least, (double)s->points[0].sigma, seed, choice->noise, s->n, &s->motion);
}

/* ComfyUI lays as much noise over a picture at full strength as over none. */
static void begin_in_full(Sampler *s, const NoiseSchedule *schedule)
{
    const float most = schedule_sigma(schedule, (float)(schedule->train_steps - 1));
    if (s->convention != SAMPLER_COMFY || sampler_first(s) > 0 || sampler_sigma(s, 0) < most * (1 - FULL))
        return;
    s->begun = s->from[0];
    s->begun.noise = s->initial_scale;
    s->begins_apart = true;
}

static Status prepare(Sampler *s, const SamplerChoice *choice, const NoiseSchedule *schedule)
{
    const GridKind *chosen;
    TRY(sampler_settings_read(schedule->json, s->family->absent, &s->settings));
    TRY(choose_schedule(s, choice->schedule, &chosen));
    TRY(allocate(s));
    TRY(fill_points(s, schedule, chosen));
    TRY(s->family->levels(s, schedule));
    begin_in_full(s, schedule);
    if (s->from[0].signal == 0 && s->prediction == PREDICT_EPSILON)
        return status_refuse(
            "the model's schedule ends in pure noise (rescale_betas_zero_snr), where a "
            "prediction of the noise says nothing of the picture; the model has to predict v");
    return set_in_motion(s, choice);
}

static TimestepKind timesteps_of(const SamplerFamily *f, SamplerConvention convention)
{
    return convention == SAMPLER_DIFFUSERS ? f->timesteps
           : convention == SAMPLER_COMFY   ? TIMESTEP_NEAREST
                                           : TIMESTEP_FLOAT;
}

Status sampler_new(const SamplerChoice *choice, const NoiseSchedule *schedule, int steps, size_t n,
                   Sampler **out)
{
    const char *name = is_auto(choice->name) ? sampler_of_model(schedule) : choice->name;
    const SamplerFamily *family = family_of(name);
    *out = NULL;
    if (!family)
        return unknown_sampler(name);
    TRY(check_settings(family, schedule));
    if (choice->eta > 0 && !family->takes_eta)
        return status_refuse("sampler %s takes no eta; ddim does", family->kind.name);
    const int most = schedule->train_steps - family->open_end;
    if (steps < 1 || steps > most)
        return status_refuse("%d sampling steps; the model's schedule allows 1 to %d", steps, most);
    Sampler *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->family = family;
    s->prediction = schedule->prediction;
    s->convention = choice->convention;
    s->eta = choice->eta;
    s->timesteps = timesteps_of(family, choice->convention);
    s->steps = steps;
    s->skipped = choice->skipped;
    s->from_picture = choice->from_picture;
    s->n = n;
    const Status status = prepare(s, choice, schedule);
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
    brownian_free(s->motion);
    mem_free(s->points);
    mem_free(s->base);
    mem_free(s->x0);
    mem_free(s->state);
    mem_free(s);
}

const char *sampler_name(const Sampler *s)
{
    return s->family->kind.name;
}

int sampler_steps(const Sampler *s)
{
    return s->calls;
}

int sampler_order(const Sampler *s)
{
    return s->family->kind.twice ? 2 : 1;
}

int sampler_first(const Sampler *s)
{
    const int last = s->calls - 1, asked = s->skipped * sampler_order(s);
    return asked < last ? asked : last;
}

float sampler_timestep(const Sampler *s, int i)
{
    return s->from[i].t;
}

float sampler_sigma(const Sampler *s, int i)
{
    return s->from[i].noise / s->from[i].signal;
}

float sampler_initial_scale(const Sampler *s)
{
    return s->initial_scale;
}

void sampler_input(const Sampler *s, int i, const float *x, float *out)
{
    level_input(s->from[i], x, out, s->n);
}

/* x0 alone: diffusers does not derive the noise again. */
static void limit(const Sampler *s)
{
    const float clip = (float)s->settings.clip;
    if (s->settings.threshold)
        threshold_to_quantile(s->x0, s->n, (float)s->settings.threshold_ratio,
                              (float)s->settings.threshold_most, s->scratch);
    for (size_t k = 0; k < s->n && clip > 0; k++)
        s->x0[k] = s->x0[k] < -clip ? -clip : s->x0[k] > clip ? clip : s->x0[k];
}

void sampler_step(Sampler *s, int i, const float *output, const NoiseSource *noise, float *x)
{
    level_split(s->from[i], s->prediction, x, output, s->x0, s->noise, s->n);
    limit(s);
    const SamplerStep step = {.base = s->base[i],
                              .from = s->from[i],
                              .to = s->to[i],
                              .index = i,
                              .count = s->calls,
                              .output = output,
                              .x0 = s->x0,
                              .noise = s->noise,
                              .x = x,
                              .n = s->n,
                              .sampler = s,
                              .source = noise};
    s->family->step(&step, s->state);
}

void sampler_picture(Sampler *s, int i, const float *x, const float *output, float *x0)
{
    level_split(s->from[i], s->prediction, x, output, x0, s->noise, s->n);
}

void sampler_output(const Sampler *s, int i, const float *x, const float *x0, float *output)
{
    level_output(s->from[i], s->prediction, x, x0, output, s->n);
}

bool sampler_goes_by_timesteps(const Sampler *s)
{
    return s->family->grid == GRID_OF_TIMESTEPS ||
           (s->family->a1111_by_timesteps && s->convention == SAMPLER_A1111);
}

const float *sampler_x0(const Sampler *s)
{
    return s->x0;
}

void sampler_add_noise(const Sampler *s, int i, const float *x0, const float *noise, float *out)
{
    level_mix(s->from[i], x0, noise, out, s->n);
}

void sampler_begin(const Sampler *s, const float *x0, const float *noise, float *out)
{
    level_mix(s->begins_apart ? s->begun : s->from[sampler_first(s)], x0, noise, out, s->n);
}

/* Fresh noise ----------------------------------------------------------------------------------------- */

void sampler_fresh(const SamplerStep *s, float from, float to, float *out)
{
    if (!s->sampler->motion) {
        s->source->draw(s->source->arg, out, s->n);
        return;
    }
    brownian_increment(s->sampler->motion, (double)to, (double)from, out);
    const float size = -sqrtf(from - to); /* the motion runs towards the noise, the walk away from it */
    for (size_t k = 0; k < s->n; k++)
        out[k] /= size;
}

/* σ_down² = σ'² - σ_up² is σ'⁴/σ², without the difference of two numbers that are nearly equal. */
Ancestral sampler_ancestral(float from, float to)
{
    const float square = to * to;
    return (Ancestral){.down = square / from, .up = sqrtf(square * (from * from - square) / (from * from))};
}
