/* The safety checker's folder, what it makes of a picture, and the scores:
 *
 *     e = CLIP(picture),   score_i = round(cos(e, concept_i) - threshold_i + adjustment, 3)
 *
 * The three special ones come first; once one is above 0, adjustment is 0.01 instead of 0 for all that
 * follow. */
#include "checker.h"

#include "infer/files/json_config.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "clip_vision.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "safety_checker"
#define CONFIG_MAX ((size_t)1 << 20)
#define ADJUSTMENT 0.01f

/* What stands before CLIP: its own numbers, unless the model's feature_extractor says others. */
typedef struct Preprocessing {
    int shortest, crop;
    float mean[3], std[3];
} Preprocessing;

struct SafetyChecker {
    Ctx *c;
    ClipVision *clip;
    Plan *plan;
    Preprocessing pre;
    float *special, *concepts; /* (3,width), (17,width), each of length 1 */
    float special_weights[SAFETY_SPECIAL], concept_weights[SAFETY_CONCEPTS];
    float *rows, *embedding, *direction;
};

/* Reading ---------------------------------------------------------------------------------------------- */

static char *inside(const Model *m, const char *name)
{
    return m->folder ? path_join(m->folder, name) : NULL;
}

bool safety_checker_is_there(const Model *m)
{
    char *path = inside(m, FOLDER "/config.json");
    const bool there = path && file_exists(path);
    mem_free(path);
    return there;
}

/* A side that is a number, or an object with one of two names. */
static int side_of(JsonConfig *c, const char *key, const char *name)
{
    json_t *value = json_object_get(c->root, key);
    if (json_is_object(value))
        value = json_object_get(value, name);
    if (!value)
        return 224;
    const json_int_t side = json_integer_value(value);
    if (side < 1 || side > 1 << 12)
        json_config_fail(c, "%s is no side of a picture", key);
    return (int)side;
}

static void three_numbers(JsonConfig *c, const char *key, float out[3])
{
    const json_t *list = json_object_get(c->root, key);
    if (!list)
        return;
    for (int i = 0; i < 3; i++)
        out[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    if (json_array_size(list) != 3 ||
        (!strcmp(key, "image_std") && !(out[0] > 0 && out[1] > 0 && out[2] > 0)))
        json_config_fail(c, "%s is not one number for each colour", key);
}

static Status parse_preprocessing(const char *json, const char *origin, Preprocessing *p)
{
    static const JsonAccepted ACCEPTED[] = {{"do_resize", "true"},    {"do_center_crop", "true"},
                                            {"do_normalize", "true"}, {"do_rescale", "true"},
                                            {"resample", "3"},        {NULL, NULL}};
    JsonConfig c;
    json_config_open(&c, json, origin);
    json_config_accept(&c, ACCEPTED);
    p->shortest = side_of(&c, "size", "shortest_edge");
    p->crop = side_of(&c, "crop_size", "height");
    three_numbers(&c, "image_mean", p->mean);
    three_numbers(&c, "image_std", p->std);
    if (p->crop > p->shortest)
        json_config_fail(&c, "crop_size %d is larger than size %d", p->crop, p->shortest);
    return json_config_close(&c);
}

static Status read_preprocessing(const Model *m, Preprocessing *p)
{
    *p = (Preprocessing){
        224, 224, {0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}};
    char *path = inside(m, "feature_extractor/preprocessor_config.json"), *text = NULL;
    size_t size = 0;
    Status s = path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_exists(path)) {
        s = file_read(path, CONFIG_MAX, &text, &size);
        if (s == STATUS_OK)
            s = parse_preprocessing(text, path, p);
    }
    mem_free(text);
    mem_free(path);
    return s;
}

/* x / max(|x|, 1e-12) -> out, which may be x. */
static void to_length_one(const float *x, int64_t n, float *out)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    const double length = sqrt(sum);
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)((double)x[i] / (length > 1e-12 ? length : 1e-12));
}

static Status read_concepts(SafetyChecker *s, const ClipVisionConfig *k, Weights *w)
{
    const int64_t W = k->projection, special = SAFETY_SPECIAL, concepts = SAFETY_CONCEPTS;
    s->special = mem_alloc((size_t)(special * W) * sizeof *s->special);
    s->concepts = mem_alloc((size_t)(concepts * W) * sizeof *s->concepts);
    s->embedding = mem_alloc((size_t)W * sizeof *s->embedding);
    s->direction = mem_alloc((size_t)W * sizeof *s->direction);
    s->rows = mem_alloc((size_t)((1 + clip_vision_patches(k)) * 3 * k->patch * k->patch) * sizeof *s->rows);
    if (!s->special || !s->concepts || !s->embedding || !s->direction || !s->rows)
        return STATUS_FAILED;
    weights_numbers(w, "special_care_embeds", 2, (int64_t[]){special, W}, s->special);
    weights_numbers(w, "special_care_embeds_weights", 1, &special, s->special_weights);
    weights_numbers(w, "concept_embeds", 2, (int64_t[]){concepts, W}, s->concepts);
    weights_numbers(w, "concept_embeds_weights", 1, &concepts, s->concept_weights);
    TRY(weights_status(w));
    for (int i = 0; i < SAFETY_SPECIAL; i++)
        to_length_one(s->special + i * W, W, s->special + i * W);
    for (int i = 0; i < SAFETY_CONCEPTS; i++)
        to_length_one(s->concepts + i * W, W, s->concepts + i * W);
    return STATUS_OK;
}

static Status read_weights(SafetyChecker *s, const ClipVisionConfig *k, const char *folder, bool described)
{
    static const char *const UNNEEDED[] = {"position_ids", NULL};
    Weights *w = NULL;
    TRY(weights_open_folder(folder, "model", s->c->dtype, &w));
    if (described)
        weights_describe(w);
    else
        weights_show(w, FOLDER);
    Status status = clip_vision_new(k, w, &s->clip);
    if (status == STATUS_OK)
        status = read_concepts(s, k, w);
    if (status == STATUS_OK && !described)
        weights_warn_unused(w, UNNEEDED);
    weights_close(w);
    return status;
}

static void look_step(Ctx *c, void *arg)
{
    SafetyChecker *s = arg;
    ctx_read(c, clip_vision_forward(c, s->clip, s->rows), s->embedding);
}

static Status read_folder(SafetyChecker *s, const Model *m, const char *folder, bool described)
{
    ClipVisionConfig k;
    char *path = path_join(folder, "config.json"), *json = NULL;
    size_t size = 0;
    Status status = path ? file_read(path, CONFIG_MAX, &json, &size) : STATUS_FAILED;
    if (status == STATUS_OK)
        status = clip_vision_config_parse(json, path, &k);
    mem_free(json);
    mem_free(path);
    TRY(status);
    TRY(read_preprocessing(m, &s->pre));
    if (s->pre.crop != k.image)
        return status_refuse("%s: feature_extractor makes pictures of %d pixels, the safety checker takes %d",
                             m->folder, s->pre.crop, k.image);
    TRY(read_weights(s, &k, folder, described));
    TRY(layerset_place(clip_vision_layers(s->clip), s->c->dev,
                       m->offload == OFFLOAD_OFF ? PLACED_RESIDENT : PLACED_STREAMED));
    return STATUS_OK;
}

Status safety_checker_open(const Model *m, Ctx *c, bool described, SafetyChecker **out)
{
    *out = NULL;
    if (!safety_checker_is_there(m))
        return status_refuse("%s has no safety checker (a folder " FOLDER
                             "/ with config.json and weights, as "
                             "diffusers keeps it): copy one there, with feature_extractor/, or turn it off",
                             m->name);
    SafetyChecker *s = mem_calloc(1, sizeof *s);
    char *folder = s ? inside(m, FOLDER) : NULL;
    Status status = folder ? STATUS_OK : STATUS_FAILED;
    if (s)
        s->c = c;
    if (status == STATUS_OK)
        status = status_in(read_folder(s, m, folder, described), "safety checker");
    mem_free(folder);
    if (status == STATUS_OK)
        *out = s;
    else
        safety_checker_free(s);
    return status;
}

void safety_checker_free(SafetyChecker *s)
{
    if (!s)
        return;
    plan_free(s->plan);
    clip_vision_free(s->clip);
    mem_free(s->special);
    mem_free(s->concepts);
    mem_free(s->rows);
    mem_free(s->embedding);
    mem_free(s->direction);
    mem_free(s);
}

/* Looking ---------------------------------------------------------------------------------------------- */

Status safety_checker_pixels(const SafetyChecker *s, const Picture *picture, int *side, float **pixels)
{
    const Preprocessing *p = &s->pre;
    const int w = picture->size.width, h = picture->size.height, shorter = w < h ? w : h;
    const Size whole = {w <= h ? p->shortest : (int)((int64_t)p->shortest * w / shorter),
                        w <= h ? (int)((int64_t)p->shortest * h / shorter) : p->shortest};
    Picture small = {0};
    *side = p->crop;
    *pixels = NULL;
    TRY(picture_resize_cubic(picture,
                             &(PictureWindow){.whole = whole,
                                              .x = (whole.width - p->crop) / 2,
                                              .y = (whole.height - p->crop) / 2,
                                              .size = size_square(p->crop)},
                             &small));
    const size_t n = 3 * (size_t)size_area(small.size);
    float *out = mem_alloc(n * sizeof *out);
    for (size_t i = 0; out && i < n; i++)
        out[i] = ((float)(small.rgb[i] / 255.0) - p->mean[i % 3]) / p->std[i % 3];
    picture_free(&small);
    *pixels = out;
    return out ? STATUS_OK : STATUS_FAILED;
}

static float cosine(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

static float rounded(float score)
{
    return rintf(score * 1000) / 1000;
}

static void score(const SafetyChecker *s, SafetyScores *out)
{
    const int64_t W = clip_vision_config(s->clip)->projection;
    float adjustment = 0;
    *out = (SafetyScores){.width = (int)W, .embedding = s->embedding};
    to_length_one(s->embedding, W, s->direction);
    for (int i = 0; i < SAFETY_SPECIAL; i++) {
        out->special_cosine[i] = cosine(s->direction, s->special + i * W, W);
        out->special[i] = rounded(out->special_cosine[i] - s->special_weights[i] + adjustment);
        adjustment = out->special[i] > 0 ? ADJUSTMENT : adjustment;
    }
    for (int i = 0; i < SAFETY_CONCEPTS; i++) {
        out->concept_cosine[i] = cosine(s->direction, s->concepts + i * W, W);
        out->concept[i] = rounded(out->concept_cosine[i] - s->concept_weights[i] + adjustment);
        out->flagged = out->flagged || out->concept[i] > 0;
        out->worst = out->concept[i] > out -> concept[out->worst] ? i : out->worst;
    }
}

/* Plans a look, and does it if there is work. */
static Status perform(SafetyChecker *s, bool work)
{
    const bool recording = s->c->recording;
    ctx_set_recording(s->c, false);
    Status status = s->plan ? STATUS_OK : ctx_rehearse(s->c, look_step, s, &s->plan);
    if (status == STATUS_OK && work)
        status = ctx_run(s->c, s->plan, look_step, s);
    ctx_set_recording(s->c, recording);
    return status;
}

size_t safety_checker_bytes(const SafetyChecker *s)
{
    const LayerSet *set = clip_vision_layers(s->clip);
    size_t bytes = 0;
    for (int i = 0; i < set->count; i++)
        bytes += tensor_bytes(set->items[i]->weight) +
                 (set->items[i]->bias ? tensor_bytes(set->items[i]->bias) : 0);
    return bytes;
}

Status safety_checker_plan(SafetyChecker *s, size_t *bytes)
{
    TRY(perform(s, false));
    *bytes = plan_peak_bytes(s->plan);
    return STATUS_OK;
}

static Status embed(SafetyChecker *s)
{
    TRY(perform(s, true));
    for (int i = 0; i < clip_vision_config(s->clip)->projection; i++)
        if (!isfinite(s->embedding[i]))
            return status_fail("its result holds %g: in f16 it overflows, in bf16 or f32 it does not",
                               (double)s->embedding[i]);
    return STATUS_OK;
}

Status safety_checker_look(SafetyChecker *s, const Picture *picture, SafetyScores *out)
{
    int side;
    float *pixels;
    TRY(safety_checker_pixels(s, picture, &side, &pixels));
    clip_vision_cut(clip_vision_config(s->clip), pixels, s->rows);
    mem_free(pixels);
    TRY(status_in(embed(s), "safety checker"));
    score(s, out);
    return STATUS_OK;
}
