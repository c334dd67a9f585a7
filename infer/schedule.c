/* The noise schedule: how much of the picture is left at each of the 1,000 timesteps, ᾱ_t = Π (1 - β_s).
 *
 * ᾱ is computed as PyTorch computes it, so that the bits agree: linspace in f32 from both ends, 1 - β in f32,
 * the running product in double and rounded to f32 at each step. What a scheduler_config.json leaves out
 * takes the value that diffusers' scheduler has by default; what it says and nobody here can do is refused by
 * name. */
#include "schedule.h"

#include "../kernels/mem.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_TRAIN_STEPS 100000

/* β
 * ------------------------------------------------------------------------------------------------------------
 */

/* torch.linspace(start, end, n, dtype=float32): the second half is counted from the end. */
static void linspace(double start, double end, int n, float *out)
{
    const float first = (float)start, last = (float)end;
    if (n == 1) {
        out[0] = first;
        return;
    }
    const float step = (last - first) / (float)(n - 1);
    for (int i = 0; i < n; i++)
        out[i] = i < n / 2 ? fmaf(step, (float)i, first) : fmaf(-step, (float)(n - 1 - i), last);
}

static void betas_scaled_linear(double start, double end, int n, float *out)
{
    linspace(sqrt(start), sqrt(end), n, out);
    for (int i = 0; i < n; i++)
        out[i] *= out[i];
}

/* Nichol & Dhariwal 2021: ᾱ(t) = cos²((t + 0.008)/1.008 π/2), β at most 0.999. start and end are not used. */
static void betas_squared_cosine(double start, double end, int n, float *out)
{
    (void)start;
    (void)end;
    const double half_pi = acos(-1) / 2;
    for (int i = 0; i < n; i++) {
        const double now = cos(((double)i / n + 0.008) / 1.008 * half_pi);
        const double next = cos(((double)(i + 1) / n + 0.008) / 1.008 * half_pi);
        out[i] = (float)fmin(1 - next * next / (now * now), 0.999);
    }
}

static const struct {
    const char *name;
    void (*fill)(double start, double end, int n, float *out);
} BETAS[] = {{"linear", linspace},
             {"scaled_linear", betas_scaled_linear},
             {"squaredcos_cap_v2", betas_squared_cosine}};

static void cumulate(const float *betas, int n, double *alphas_cumprod)
{
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= (double)(1.0f - betas[i]);
        alphas_cumprod[i] = (double)(float)product;
    }
}

/* scheduler_config.json
 * ---------------------------------------------------------------------------------------- */

static Status get_number(const json_t *o, const char *key, double *value)
{
    const json_t *item = json_object_get(o, key);
    if (!item || json_is_null(item))
        return STATUS_OK;
    if (!json_is_number(item))
        return status_refuse("\"%s\" must be a number", key);
    *value = json_number_value(item);
    return STATUS_OK;
}

static Status get_whole(const json_t *o, const char *key, int min, int max, int *value)
{
    double number = *value;
    TRY(get_number(o, key, &number));
    if (number != floor(number) || number < min || number > max)
        return status_refuse("\"%s\" must be a whole number from %d to %d", key, min, max);
    *value = (int)number;
    return STATUS_OK;
}

static Status get_flag(const json_t *o, const char *key, bool *value)
{
    const json_t *item = json_object_get(o, key);
    if (!item || json_is_null(item))
        return STATUS_OK;
    if (!json_is_boolean(item))
        return status_refuse("\"%s\" must be true or false", key);
    *value = json_is_true(item);
    return STATUS_OK;
}

/* One of the words; *index stays what it is where the key is absent. *found may be NULL. */
static Status get_word(const json_t *o, const char *key, const char *const *words, int count, int *index,
                       bool *found)
{
    const json_t *item = json_object_get(o, key);
    if (found)
        *found = item && !json_is_null(item);
    if (!item || json_is_null(item))
        return STATUS_OK;
    const char *text = json_string_value(item);
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, words[i]) == 0) {
            *index = i;
            return STATUS_OK;
        }
    return status_refuse("\"%s\": %s%s%s is not supported", key, text ? "\"" : "", text ? text : "this value",
                         text ? "\"" : "");
}

static Status read_trained_betas(const json_t *list, int n, float *betas)
{
    if (!json_is_array(list) || json_array_size(list) != (size_t)n)
        return status_refuse("\"trained_betas\" must be a list of %d numbers", n);
    for (int i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        if (!json_is_number(item))
            return status_refuse("\"trained_betas\" must be a list of %d numbers", n);
        betas[i] = (float)json_number_value(item);
    }
    return STATUS_OK;
}

static Status read_betas(const json_t *o, int n, float *betas)
{
    double start = 0.0001, end = 0.02;
    int kind = 0;
    const char *names[] = {BETAS[0].name, BETAS[1].name, BETAS[2].name};
    const json_t *trained = json_object_get(o, "trained_betas");
    if (trained && !json_is_null(trained))
        return read_trained_betas(trained, n, betas);
    TRY(get_number(o, "beta_start", &start));
    TRY(get_number(o, "beta_end", &end));
    TRY(get_word(o, "beta_schedule", names, 3, &kind, NULL));
    if (!(start > 0 && start < 1 && end > 0 && end < 1))
        return status_refuse("\"beta_start\" and \"beta_end\" must lie between 0 and 1");
    BETAS[kind].fill(start, end, n, betas);
    return STATUS_OK;
}

static Status make_alphas(const json_t *o, NoiseSchedule *s)
{
    float *betas = mem_alloc((size_t)s->train_steps * sizeof *betas);
    s->alphas_cumprod = mem_alloc((size_t)s->train_steps * sizeof *s->alphas_cumprod);
    Status status = betas && s->alphas_cumprod ? read_betas(o, s->train_steps, betas) : STATUS_FAILED;
    if (status == STATUS_OK)
        cumulate(betas, s->train_steps, s->alphas_cumprod);
    mem_free(betas);
    return status;
}

/* Settings that change every sampler's result are refused; Euler's own are remembered for when it is asked
 * for. */
static Status check_unsupported(const json_t *o, NoiseSchedule *s)
{
    static const char *const EVERY[] = {"thresholding", "rescale_betas_zero_snr"};
    static const char *const EULER[] = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"};
    static const char *const EULER_WORDS[][2] = {
        {"interpolation_type", "linear"}, {"timestep_type", "discrete"}, {"final_sigmas_type", "zero"}};
    for (size_t i = 0; i < sizeof EVERY / sizeof *EVERY; i++)
        if (json_is_true(json_object_get(o, EVERY[i])))
            return status_refuse("\"%s\" is not supported", EVERY[i]);
    for (size_t i = 0; i < sizeof EULER / sizeof *EULER; i++)
        if (json_is_true(json_object_get(o, EULER[i])))
            snprintf(s->euler_refuses, sizeof s->euler_refuses, "%s", EULER[i]);
    for (size_t i = 0; i < sizeof EULER_WORDS / sizeof *EULER_WORDS; i++) {
        const char *word = json_string_value(json_object_get(o, EULER_WORDS[i][0]));
        if (word && strcmp(word, EULER_WORDS[i][1]) != 0)
            snprintf(s->euler_refuses, sizeof s->euler_refuses, "%s", EULER_WORDS[i][0]);
    }
    return STATUS_OK;
}

static Status fill(const json_t *o, NoiseSchedule *s)
{
    static const char *const PREDICTIONS[] = {"epsilon", "v_prediction", "sample"};
    static const char *const SPACINGS[] = {"leading", "linspace", "trailing"};
    int prediction = PREDICT_EPSILON, spacing = SPACING_LEADING;
    if (!json_is_object(o))
        return status_refuse("a JSON object is expected");
    TRY(get_whole(o, "num_train_timesteps", 1, MAX_TRAIN_STEPS, &s->train_steps));
    TRY(get_word(o, "prediction_type", PREDICTIONS, 3, &prediction, NULL));
    TRY(get_word(o, "timestep_spacing", SPACINGS, 3, &spacing, &s->has_spacing));
    TRY(get_whole(o, "steps_offset", 0, MAX_TRAIN_STEPS, &s->steps_offset));
    TRY(get_flag(o, "set_alpha_to_one", &s->set_alpha_to_one));
    TRY(get_flag(o, "clip_sample", &s->clip_sample));
    TRY(get_number(o, "clip_sample_range", &s->clip_sample_range));
    TRY(check_unsupported(o, s));
    s->prediction = (PredictionType)prediction;
    s->spacing = (TimestepSpacing)spacing;
    return make_alphas(o, s);
}

Status schedule_parse(const char *json, const char *origin, NoiseSchedule *out)
{
    *out = (NoiseSchedule){
        .train_steps = 1000, .set_alpha_to_one = true, .clip_sample = true, .clip_sample_range = 1};
    json_error_t error;
    json_t *o = json_loads(json, 0, &error);
    if (!o)
        return status_refuse("%s:%d:%d: %s", origin, error.line, error.column, error.text);
    const Status s = status_in(fill(o, out), "%s", origin);
    json_decref(o);
    if (s != STATUS_OK)
        schedule_free(out);
    return s;
}

Status schedule_default(NoiseSchedule *out)
{
    return schedule_parse(
        "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","
        " \"steps_offset\": 1, \"set_alpha_to_one\": false, \"clip_sample\": false}",
        "SD1.5's schedule", out);
}

void schedule_free(NoiseSchedule *s)
{
    mem_free(s->alphas_cumprod);
    s->alphas_cumprod = NULL;
}
