/* The noise schedule: how much of the picture is left at each of the 1,000 timesteps, ᾱ_t = Π (1 - β_s).
 *
 * ᾱ is computed as PyTorch computes it, so that the bits agree: linspace in f32 from both ends, 1 - β in f32,
 * the running product in double and rounded to f32 at each step. What a scheduler_config.json leaves out
 * takes the value that diffusers' scheduler has by default. */
#include "schedule.h"

#include "infer/files/json_config.h"
#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

#define MAX_TRAIN_STEPS 100000

/* β ---------------------------------------------------------------------------------------------------- */

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

/* Lin et al. 2024, algorithm 1: √ᾱ is shifted and stretched so that its last is 0 and its first unchanged;
 * the β of that. In f32, as PyTorch does it; alphas_cumprod is room for the old ones. */
static void end_in_noise(float *betas, int n, double *alphas_cumprod)
{
    cumulate(betas, n, alphas_cumprod);
    const float first = sqrtf((float)alphas_cumprod[0]), last = sqrtf((float)alphas_cumprod[n - 1]);
    const float stretch = first / (first - last);
    float before = 1;
    for (int i = 0; i < n && first > last; i++) {
        const float root = (sqrtf((float)alphas_cumprod[i]) - last) * stretch;
        betas[i] = 1 - root * root / before;
        before = root * root;
    }
}

/* scheduler_config.json -------------------------------------------------------------------------------- */

/* Which of the words the key has; absent: `absent`. */
static int read_word(JsonConfig *c, const char *key, const char *const *words, int count, int absent)
{
    const char *text = json_config_text(c, key, words[absent]);
    for (int i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    json_config_fail(c, "%s: \"%s\" is not supported", key, text);
    return absent;
}

static void read_trained_betas(JsonConfig *c, int n, float *betas)
{
    const json_t *list = json_config_get(c, "trained_betas");
    if (json_array_size(list) != (size_t)n) {
        json_config_fail(c, "trained_betas is not a list of %d numbers", n);
        return;
    }
    for (int i = 0; i < n; i++) {
        const json_t *beta = json_array_get(list, (size_t)i);
        betas[i] = (float)json_number_value(beta);
        if (!json_is_number(beta) || !(betas[i] >= 0 && betas[i] < 1))
            json_config_fail(c, "trained_betas holds something else than numbers from 0 to 1");
    }
}

static void read_betas(JsonConfig *c, int n, float *betas)
{
    const char *names[] = {BETAS[0].name, BETAS[1].name, BETAS[2].name};
    if (json_config_get(c, "trained_betas")) {
        read_trained_betas(c, n, betas);
        return;
    }
    const double start = json_config_float(c, "beta_start", 0.0001, 0, 1);
    const double end = json_config_float(c, "beta_end", 0.02, 0, 1);
    const int kind = read_word(c, "beta_schedule", names, 3, 0);
    if (start > 0 && start < 1 && end > 0 && end < 1)
        BETAS[kind].fill(start, end, n, betas);
    else
        json_config_fail(c, "beta_start and beta_end must lie between 0 and 1");
}

static void read_settings(JsonConfig *c, NoiseSchedule *s)
{
    static const char *const PREDICTIONS[] = {"epsilon", "v_prediction", "sample"};
    static const char *const SPACINGS[] = {"leading", "linspace", "trailing"};
    s->train_steps = json_config_int(c, "num_train_timesteps", 1000, 1, MAX_TRAIN_STEPS);
    s->prediction = (PredictionType)read_word(c, "prediction_type", PREDICTIONS, 3, PREDICT_EPSILON);
    s->has_spacing = json_config_get(c, "timestep_spacing") != NULL;
    s->spacing = (TimestepSpacing)read_word(c, "timestep_spacing", SPACINGS, 3, SPACING_LEADING);
    s->steps_offset = json_config_int(c, "steps_offset", 0, 0, MAX_TRAIN_STEPS);
}

static Status make_alphas(JsonConfig *c, NoiseSchedule *s)
{
    float *betas = mem_calloc((size_t)s->train_steps, sizeof *betas);
    s->alphas_cumprod = mem_alloc((size_t)s->train_steps * sizeof *s->alphas_cumprod);
    const Status made = betas && s->alphas_cumprod ? STATUS_OK : STATUS_FAILED;
    if (made == STATUS_OK) {
        read_betas(c, s->train_steps, betas);
        if (json_config_bool(c, "rescale_betas_zero_snr", false))
            end_in_noise(betas, s->train_steps, s->alphas_cumprod);
        cumulate(betas, s->train_steps, s->alphas_cumprod);
    }
    mem_free(betas);
    return made;
}

Status schedule_parse(const char *json, const char *origin, NoiseSchedule *out)
{
    JsonConfig c;
    *out = (NoiseSchedule){0};
    json_config_open(&c, json, origin);
    if (c.status == STATUS_OK)
        read_settings(&c, out);
    Status s = STATUS_OK;
    if (c.status == STATUS_OK)
        s = make_alphas(&c, out);
    const Status read = json_config_close(&c);
    s = s != STATUS_OK ? s : read;
    if (s == STATUS_OK && !(out->json = mem_strdup(json)))
        s = STATUS_FAILED;
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
    mem_free(s->json);
    s->alphas_cumprod = NULL;
    s->json = NULL;
}

/* σ ---------------------------------------------------------------------------------------------------- */

#define LEAST_ALPHA 0x1p-24f /* for one of 0: f16's smallest, so that σ is a number */

static float sigma_of(const NoiseSchedule *s, int t)
{
    const float kept = (float)s->alphas_cumprod[t], a = kept > 0 ? kept : LEAST_ALPHA;
    return sqrtf((1 - a) / a);
}

float schedule_sigma(const NoiseSchedule *s, float t)
{
    const int low = (int)floorf(t);
    if (low >= s->train_steps - 1)
        return sigma_of(s, s->train_steps - 1);
    const double a = (double)sigma_of(s, low), b = (double)sigma_of(s, low + 1);
    return (float)((b - a) * ((double)t - low) + a);
}

float schedule_sigma_log(const NoiseSchedule *s, float t)
{
    const int low = (int)floorf(t);
    if (low >= s->train_steps - 1)
        return sigma_of(s, s->train_steps - 1);
    const float w = t - (float)low;
    return expf((1 - w) * logf(sigma_of(s, low)) + w * logf(sigma_of(s, low + 1)));
}

double schedule_timestep(const NoiseSchedule *s, double sigma)
{
    int low = 0, high = s->train_steps - 1;
    if (high == 0)
        return 0;
    const double wanted = log(fmax(sigma, 1e-10));
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if ((double)logf(sigma_of(s, middle)) <= wanted)
            low = middle;
        else
            high = middle;
    }
    const float a = logf(sigma_of(s, low)), b = logf(sigma_of(s, low + 1));
    const double w = a < b ? ((double)a - wanted) / (double)(a - b) : 0;
    return low + fmin(fmax(w, 0), 1);
}

int schedule_nearest(const NoiseSchedule *s, float sigma)
{
    const int low = (int)schedule_timestep(s, (double)sigma);
    if (low >= s->train_steps - 1)
        return s->train_steps - 1;
    const float at = logf(sigma), above = logf(sigma_of(s, low + 1)) - at,
                below = at - logf(sigma_of(s, low));
    return fabsf(below) <= fabsf(above) ? low : low + 1;
}
