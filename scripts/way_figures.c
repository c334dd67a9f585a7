/* way_figures [--dtype TYPE] [--repeat N] [--size tiny|sd15]
 *
 * The figures of docs/pictures.md, to be measured again: what the UNet's evaluations take of which some can
 * be left out, and several pictures in one; what tiles of the VAE change, take and need. Random weights of
 * true shapes. Times are the shortest of N, taken in turn, so that what else the machine does counts for all
 * alike. Then how far the latents of 20 steps of builtin:tiny go from those of every evaluation, in the L2
 * norm. Not installed. */
#include "infer/pipeline/pipeline.h"
#include "infer/pipeline/stages.h"
#include "infer/pipeline/tiles.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/random.h"
#include "kernels/device.h"
#include "train/commands/bench_models.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 4, STEPS = 20 };

typedef struct Figures {
    const char *dtype, *size;
    int repeat;
    Model *m;
    Ctx *c;
    Stages *s;
    float *x, *text, *deep, *out[2];
} Figures;

static void noise(uint64_t seed, float *out, size_t n)
{
    TorchRandom g;
    torch_seed(&g, seed);
    torch_randn(&g, out, n);
}

static double l2(const float *a, const float *b, size_t n)
{
    double away = 0, whole = 0;
    for (size_t i = 0; i < n; i++) {
        away += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        whole += (double)b[i] * (double)b[i];
    }
    return sqrt(away / whole);
}

static Status timed_unet(Figures *f, UNetCall *call, double *best)
{
    const double start = seconds_now();
    TRY(stage_unet(f->s, call));
    const double took = seconds_now() - start;
    *best = *best < took ? *best : took;
    return STATUS_OK;
}

static Status evaluations(Figures *f, Size size)
{
    static const struct {
        const char *what;
        int batch;
        DeepUse use;
    } KINDS[] = {{"guided", 2, DEEP_FORGOTTEN},
                 {"the prompt alone", 1, DEEP_FORGOTTEN},
                 {"guided, deep part kept", 2, DEEP_KEPT},
                 {"guided, deep part taken", 2, DEEP_TAKEN},
                 {"the prompt alone, deep part taken", 1, DEEP_TAKEN},
                 {"two pictures, guided", 4, DEEP_FORGOTTEN}};
    const int kinds = (int)(sizeof KINDS / sizeof *KINDS);
    double best[6] = {1e9, 1e9, 1e9, 1e9, 1e9, 1e9};
    for (int r = 0; r < f->repeat + 1; r++) /* the first packs weights */
        for (int i = 0; i < kinds; i++) {
            double first = 1e9;
            UNetCall call = {.batch = KINDS[i].batch,
                             .size = size,
                             .shape = conditioning_shape(f->m),
                             .x = f->x,
                             .text = f->text,
                             .timestep = 500,
                             .use = KINDS[i].use,
                             .deep = f->deep,
                             .out = f->out[KINDS[i].batch == MOST]};
            TRY(timed_unet(f, &call, r ? &best[i] : &first));
        }
    for (int i = 0; i < kinds; i++)
        printf("%-36s %7.3f s  %.2f of a guided one\n", KINDS[i].what, best[i], best[i] / best[0]);
    return STATUS_OK;
}

/* The first two of a batch of four against the same two alone. */
static Status batches(Figures *f, Size size)
{
    const size_t n = 2 * 4 * (size_t)size_area(size);
    const ConditioningShape shape = conditioning_shape(f->m);
    float *text = mem_alloc((size_t)conditioning_size(&shape, 2) * sizeof *text);
    if (!text)
        return STATUS_FAILED;
    for (int part = 0; part < CONDITIONING_PARTS; part++)
        for (int i = 0; i < 2; i++) {
            int64_t count;
            const float *from = f->text + conditioning_part(&shape, MOST, i, part, &count);
            memcpy(text + conditioning_part(&shape, 2, i, part, &count), from, (size_t)count * sizeof *text);
        }
    const UNetCall call = {
        .batch = 2, .size = size, .shape = shape, .x = f->x, .text = text, .timestep = 500, .out = f->out[0]};
    const Status s = stage_unet(f->s, &call);
    mem_free(text);
    printf("of two pictures in one evaluation the first is %s as alone\n",
           memcmp(f->out[0], f->out[1], n * sizeof(float)) ? "not the same bytes" : "the same bytes");
    return s;
}

static Status tiles(Figures *f, Size size)
{
    const int factor = vae_factor(f->m->vae), side = size.width / 2;
    const size_t n = 3 * (size_t)size_area(size_multiplied(size, factor));
    float *whole = mem_alloc(n * sizeof *whole), *tiled = mem_alloc(n * sizeof *tiled);
    double best[2] = {1e9, 1e9};
    size_t bytes[2];
    Status s = whole && tiled ? STATUS_OK : STATUS_FAILED;
    for (int r = 0; r < f->repeat && s == STATUS_OK; r++)
        for (int i = 0; i < 2 && s == STATUS_OK; i++) {
            const double start = seconds_now();
            s = i ? tiles_decode(f->s, f->m, size, side, f->x, tiled) : stage_decode(f->s, size, f->x, whole);
            best[i] = fmin(best[i], seconds_now() - start);
        }
    if (s == STATUS_OK)
        s = stage_decode_plan(f->s, size, &bytes[0]);
    if (s == STATUS_OK)
        s = tiles_decode_plan(f->s, f->m, size, side, &bytes[1]);
    if (s == STATUS_OK)
        printf("VAE %dx%d: %.2f s, %.0f MB; by tiles of %d: %.2f s, %.0f MB, away by %.4f\n",
               size.width * factor, size.height * factor, best[0], (double)bytes[0] / 1e6, side * factor,
               best[1], (double)bytes[1] / 1e6, l2(tiled, whole, n));
    mem_free(whole);
    mem_free(tiled);
    return s;
}

static Status shapes(Figures *f, DType dtype)
{
    const BenchModel *b = bench_model(f->size);
    if (!b)
        return status_refuse("--size: tiny or sd15");
    TRY(model_make(b->name, &b->shapes, MODEL_ALL & ~MODEL_TOKENIZER, 0, dtype, 1, &f->m));
    TRY(stages_new(f->c, f->m, &f->s));
    const Size size = size_square(b->resolution / vae_factor(f->m->vae));
    const ConditioningShape shape = conditioning_shape(f->m);
    const size_t n = MOST * 4 * (size_t)size_area(size), text = (size_t)conditioning_size(&shape, MOST),
                 deep = MOST * (size_t)size_area(size) * (size_t)unet_deep_channels(f->m->unet);
    f->x = mem_alloc((3 * n + text + deep) * sizeof *f->x);
    if (!f->x)
        return STATUS_FAILED;
    f->out[0] = f->x + n;
    f->out[1] = f->out[0] + n;
    f->text = f->out[1] + n;
    f->deep = f->text + text;
    noise(1, f->x, n);
    noise(2, f->text, text);
    TRY(evaluations(f, size));
    TRY(batches(f, size));
    return size.width / 2 < TILE_LEAST ? STATUS_OK : tiles(f, size);
}

/* How far the latents go with each choice, over some prompts. */
static Status distances(Figures *f)
{
    static const char *const PROMPTS[] = {"red heart", "panda", "rocket", "pizza"};
    static const struct {
        const char *what;
        SampleFewer fewer;
    } CHOICES[] = {{"--cfg-interval 0.3:5", {.guided_above = 0.3f, .guided_below = 5}},
                   {"--cfg-interval 0:8", {.guided_below = 8}},
                   {"--cfg-every 2", {.guide_every = 2}},
                   {"--cfg-every 3", {.guide_every = 3}},
                   {"--deepcache 2", {.deep_every = 2}},
                   {"--deepcache 3", {.deep_every = 3}},
                   {"--deepcache 2 --cfg-every 2", {.deep_every = 2, .guide_every = 2}}};
    Model *m;
    Pipeline *p;
    TRY(model_load("builtin:tiny", MODEL_ALL, DTYPE_F32, &m));
    TRY(pipeline_new(f->c, m, &p));
    for (size_t i = 0; i < sizeof CHOICES / sizeof *CHOICES; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++) {
            SampleResult all, some;
            SampleRequest r = sample_request_default();
            r.prompt = PROMPTS[k];
            r.steps = STEPS;
            r.guidance = 4;
            r.sampler = "ddim";
            TRY(pipeline_sample(p, &r, NULL, NULL, &all));
            r.fewer = CHOICES[i].fewer;
            TRY(pipeline_sample(p, &r, NULL, NULL, &some));
            sum += l2(some.latents->data, all.latents->data, (size_t)tensor_count(all.latents));
            sample_result_free(&all);
            sample_result_free(&some);
        }
        printf("%-30s latents away by %.3f\n", CHOICES[i].what, sum / 4);
    }
    pipeline_free(p);
    model_free(m);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    Figures f = {.dtype = "f32", .size = "sd15", .repeat = 3};
    bool done = false;
    const Option table[] = {{"dtype", OPTION_TEXT, &f.dtype, .value = "TYPE", .choices = DTYPE_CHOICES},
                            {"size", OPTION_TEXT, &f.size, .value = "SIZE", .choices = "tiny|sd15"},
                            {"repeat", OPTION_INT, &f.repeat, .value = "N", .min = 1, .max = 100}};
    const Command command = {
        .name = "way_figures", .usage = "[options]", .options = table, .option_count = 3};
    DType dtype = DTYPE_F32;
    Status s = options_parse(&command, argc, argv, &done);
    if (s == STATUS_OK && !done)
        s = dtype_parse(f.dtype, &dtype);
    if (s == STATUS_OK && !done) {
        f.c = ctx_new(device_cpu(), &(CtxOptions){.dtype = dtype});
        s = f.c ? shapes(&f, dtype) : STATUS_FAILED;
        if (s == STATUS_OK) {
            ctx_set_dtype(f.c, DTYPE_F32);
            s = distances(&f);
        }
    }
    mem_free(f.x);
    stages_free(f.s);
    ctx_free(f.c);
    model_free(f.m);
    if (s != STATUS_OK)
        log_error("%s", status_message());
    return (int)s;
}
