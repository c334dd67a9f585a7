/* `atelier bench`: how fast this machine is at the pieces of the work, on random weights of the true shapes.
 *
 * Each piece is planned as in real use, run once to warm up and then several times; the median counts. Beside
 * it stand the arithmetic that the plan counted and the speed of one large matrix product on the same
 * machine, so that a figure says how much of the machine was used. */
#include "kernels/base/clock.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/base/random.h"
#include "kernels/cpu/isa.h"
#include "kernels/devices/devices.h"
#include "train/step/optimizer.h"
#include "train/step/parameters.h"
#include "train/step/step.h"
#include "bench_models.h"
#include "bench_profile.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdlib.h>
#include <string.h>

#define PEAK_SIDE 2048 /* of the square matrices that the machine's own speed is measured with */
#define PEAK_RUNS 4
#define MAX_REPEAT 100
#define MODEL_SEED 1
#define RANK 4 /* of the LoRA in `bench train`, as in diffusers' example */

typedef struct Bench {
    double seconds[MAX_REPEAT]; /* of each run that is measured */
    const BenchModel *which;
    int resolution, repeat;
    bool checkpointing, profiling;
    const char *quantise;
    bool tf32;
    Profile profile;
    const char *against; /* a file, or NULL */
    json_t *before;      /* what it holds */
    Ctx *c;
    Model *model;
    int64_t batch;
    ConditioningShape shape; /* of text */
    Size size;               /* of the latents */
    float *latents, *noise, *text, *timesteps, *weights, *per_sample;
    float *picture; /* (B,3,resolution,resolution), for encoding alone */
    int32_t *ids;
    /* train */
    Config config;
    Parameters *parameters;
    Step step;
    int64_t done;
} Bench;

/* The pieces ------------------------------------------------------------------------------------------- */

/* One guided step: the picture with and without its prompt, as a batch of two. */
static void unet_piece(Ctx *c, void *arg)
{
    const Bench *b = arg;
    Tensor *x = from_nchw(
        c, ctx_input(c, DTYPE_F32, 4, (int64_t[]){b->batch, 4, b->size.height, b->size.width}, b->latents));
    Tensor *t = ctx_input(c, DTYPE_F32, 1, &b->batch, b->timesteps);
    const Conditioning text = conditioning_input(c, &b->shape, (int)b->batch, b->text);
    ctx_keep(c, unet_forward(c, b->model->unet, x, t, &text));
}

static void vae_piece(Ctx *c, void *arg)
{
    const Bench *b = arg;
    Tensor *z = from_nchw(
        c, ctx_input(c, DTYPE_F32, 4, (int64_t[]){b->batch, 4, b->size.height, b->size.width}, b->latents));
    ctx_keep(c, vae_decode(c, b->model->vae, z));
}

static void encode_piece(Ctx *c, void *arg)
{
    const Bench *b = arg;
    const int64_t shape[] = {b->batch, 3, b->resolution, b->resolution};
    ctx_keep(c, vae_encode(c, b->model->vae, from_nchw(c, ctx_input(c, DTYPE_F32, 4, shape, b->picture))));
}

static void clip_piece(Ctx *c, void *arg)
{
    const Bench *b = arg;
    ctx_keep(c, conditioning_encode(c, b->model, 0, (int)b->batch, b->ids).states);
}

static void train_piece(Ctx *c, void *arg)
{
    Bench *b = arg;
    train_step(c, &b->step);
}

static Status no_more(Bench *b)
{
    (void)b;
    return STATUS_OK;
}

/* What a training step does when the gradients are there. */
static Status change_weights(Bench *b)
{
    UpdateNumbers numbers;
    b->done++;
    TRY(optimizer_step(&b->config, b->parameters, b->done, MAX_REPEAT + 1, 1, NULL, &numbers));
    return parameters_zero_gradients(b->parameters);
}

static const struct Piece {
    const char *name;
    int parts; /* of the model */
    int batch;
    StepFn fn;
    Status (*after)(Bench *b);
} PIECES[] = {
    {"unet", MODEL_UNET, 2, unet_piece, no_more},
    {"vae", MODEL_VAE, 1, vae_piece, no_more},
    {"encode", MODEL_VAE, 1, encode_piece, no_more},
    {"clip", MODEL_TEXT, 1, clip_piece, no_more},
    {"train", MODEL_UNET, 1, train_piece, change_weights},
    {"full", MODEL_UNET, 1, train_piece, change_weights},
};

/* Making ready ----------------------------------------------------------------------------------------- */

static float *normal_numbers(int64_t n, uint32_t stream)
{
    float *x = mem_alloc((size_t)n * sizeof *x);
    if (x)
        random_normal((RandomKey){.seed = 1, .step = stream, .purpose = RANDOM_NOISE}, x, (size_t)n);
    return x;
}

static Status make_inputs(Bench *b, const struct Piece *piece)
{
    const int64_t latents = b->batch * 4 * size_area(b->size);
    if (piece->fn == encode_piece) {
        b->picture = normal_numbers(b->batch * 3 * b->resolution * b->resolution, 4);
        if (!b->picture)
            return STATUS_FAILED;
    }
    b->latents = normal_numbers(latents, 1);
    b->noise = normal_numbers(latents, 2);
    b->text = normal_numbers(conditioning_size(&b->shape, (int)b->batch), 3);
    b->timesteps = mem_alloc((size_t)b->batch * sizeof *b->timesteps);
    b->weights = mem_alloc((size_t)b->batch * sizeof *b->weights);
    b->per_sample = mem_alloc((size_t)b->batch * sizeof *b->per_sample);
    b->ids = mem_alloc((size_t)(b->batch * b->shape.ids) * sizeof *b->ids);
    if (!b->latents || !b->noise || !b->text || !b->timesteps || !b->weights || !b->per_sample || !b->ids)
        return STATUS_FAILED;
    for (int64_t i = 0; i < b->batch; i++) {
        b->timesteps[i] = 500;
        b->weights[i] = 1;
    }
    for (int64_t i = 0; i < b->batch * b->shape.ids; i++)
        b->ids[i] = (int32_t)(i % (b->which->shapes.clip.vocab_size - 2)); /* no BOS or EOS */
    return STATUS_OK;
}

/* The whole UNet, or a LoRA of rank 4 on diffusers' set of layers: what the other programs' figures are for.
 */
static Status make_training(Bench *b, bool full)
{
    b->config.method.kind = full ? METHOD_FULL : METHOD_LORA;
    b->config.method.targets = TARGETS_ATTENTION;
    b->config.method.rank = RANK;
    b->config.method.alpha = RANK;
    b->config.train.max_grad_norm = 1;
    b->config.optimizer.lr = 1e-4;
    b->config.optimizer.settings.weight_decay = 0.01;
    b->config.optimizer.settings.beta1 = 0.9;
    b->config.optimizer.settings.beta2 = 0.999;
    b->config.optimizer.settings.eps = 1e-8;
    TRY(parameters_new(&b->config, b->c->dev, comm_alone(), b->model, &b->parameters));
    b->step.shape = (StepShape){.model = b->model,
                                .batch = (int)b->batch,
                                .channels = 4,
                                .size = b->size,
                                .text = b->shape,
                                .backward = true,
                                .checkpointing = b->checkpointing ? CHECKPOINTING_ON : CHECKPOINTING_OFF};
    b->step.data = (StepData){.noisy = b->latents,
                              .target = b->noise,
                              .timesteps = b->timesteps,
                              .weights = b->weights,
                              .text = b->text,
                              .grad_scale = 1,
                              .per_sample = b->per_sample};
    return STATUS_OK;
}

static void free_all(Bench *b)
{
    json_decref(b->before);
    profile_free(&b->profile);
    parameters_free(b->parameters);
    model_free(b->model);
    ctx_free(b->c);
    mem_free(b->latents);
    mem_free(b->picture);
    mem_free(b->noise);
    mem_free(b->text);
    mem_free(b->timesteps);
    mem_free(b->weights);
    mem_free(b->per_sample);
    mem_free(b->ids);
}

/* Measuring -------------------------------------------------------------------------------------------- */

/* FLOP per second of one large matrix product, in what this machine multiplies fastest for such weights. */
static Status measure_peak(Bench *b, double *flops)
{
    const bool narrow = b->c->dtype == DTYPE_BF16 && cpu_has_bf16();
    const DType type = !b->c->dev->host_memory ? b->c->dtype : narrow ? DTYPE_BF16 : DTYPE_F32;
    const int64_t shape[] = {PEAK_SIDE, PEAK_SIDE};
    Product p = {
        .m = PEAK_SIDE, .n = PEAK_SIDE, .k = PEAK_SIDE, .trans_b = true, .alpha = 1, .tf32 = b->c->tf32};
    Tensor *a = tensor_new_on(b->c->dev, type, 2, shape), *w = tensor_new_on(b->c->dev, type, 2, shape);
    p.a = a;
    p.b = w;
    p.y = tensor_new_on(b->c->dev, type, 2, shape);
    size_t bytes = 0;
    Status s = p.a && p.b && p.y ? b->c->dev->product_scratch(&p, &bytes) : STATUS_FAILED;
    void *scratch = b->c->dev->memory_new(bytes);
    if (!scratch)
        s = STATUS_FAILED;
    double best = 0;
    for (int i = 0; i <= PEAK_RUNS && s == STATUS_OK; i++) { /* the first warms up */
        const double began = seconds_now();
        s = b->c->dev->product(&p, scratch);
        if (s == STATUS_OK)
            s = b->c->dev->settle();
        const double seconds = seconds_now() - began;
        if (i && (best == 0 || seconds < best))
            best = seconds;
    }
    tensor_free(a);
    tensor_free(w);
    tensor_free(p.y);
    b->c->dev->memory_free(scratch, bytes);
    *flops = best > 0 ? 2.0 * PEAK_SIDE * PEAK_SIDE * (double)PEAK_SIDE / best : 0;
    return s;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of b->repeat runs after one that warms up. */
static Status measure_piece(Bench *b, const struct Piece *piece, double *median, double *flop)
{
    Plan *plan = NULL;
    double *seconds = b->seconds;
    Progress p;
    TRY(ctx_rehearse(b->c, piece->fn, b, &plan));
    *flop = plan_flop(plan);
    if (b->profiling)
        ctx_set_profile(b->c, &b->profile);
    progress_begin(&p, piece->name, "run", 0, b->repeat + 1);
    Status s = STATUS_OK;
    for (int i = 0; i <= b->repeat && s == STATUS_OK; i++) {
        const double began = seconds_now();
        s = ctx_run(b->c, plan, piece->fn, b);
        if (s == STATUS_OK)
            s = piece->after(b);
        if (i)
            seconds[i - 1] = seconds_now() - began;
        progress_update(&p, i + 1, NULL);
    }
    progress_clear(&p);
    plan_free(plan);
    qsort(seconds, (size_t)b->repeat, sizeof *seconds, by_value);
    *median = seconds[b->repeat / 2];
    return s;
}

static Status run_bench(Bench *b, const struct Piece *piece, const char *device, DType dtype, int threads,
                        json_t *facts)
{
    double peak, median, flop;
    const Device *dev;
    TRY(status_in(device_choose(device, &dtype, &dev), "bench: --device"));
    TRY(status_in(device_choose_tf32(dev, dtype, &b->tf32), "bench: --tf32"));
    const int factor = 1 << (b->which->shapes.vae.levels - 1);
    b->batch = b->batch ? b->batch : piece->batch;
    b->size = size_square(b->resolution / factor);
    b->shape = (ConditioningShape){.ids = b->which->shapes.clip.positions,
                                   .tokens = b->which->shapes.clip.positions,
                                   .width = b->which->shapes.unet.cross_attention_dim};
    b->c = ctx_new(dev, &(CtxOptions){.dtype = dtype, .tf32 = b->tf32, .threads = threads});
    if (!b->c)
        return STATUS_FAILED;
    ctx_set_recording(b->c, piece->fn == train_piece);
    json_object_set_new(facts, "work", json_string(piece->name));
    if (b->checkpointing)
        json_object_set_new(facts, "checkpointing", json_true());
    json_object_set_new(facts, "size", json_string(b->which->name));
    json_object_set_new(facts, "resolution", json_integer(b->resolution));
    json_object_set_new(facts, "batch", json_integer(b->batch));
    json_object_set_new(facts, "dtype", json_string(dtype_name(dtype)));
    if (b->tf32)
        json_object_set_new(facts, "tf32", json_true());
    if (strcmp(b->quantise, "none") != 0)
        json_object_set_new(facts, "quantise", json_string(b->quantise));
    json_object_set_new(facts, "device", json_sprintf("%s (%s)", dev->name, dev->chip));
    json_object_set_new(facts, "threads", json_integer(b->c->threads));
    if (b->against)
        TRY(bench_before(b->against, facts, &b->before));
    TRY(measure_peak(b, &peak));
    const bool full = strcmp(piece->name, "full") == 0; /* trained weights are f32 */
    TRY(make_inputs(b, piece));
    TRY(model_make(b->which->name, &b->which->shapes, piece->parts,
                   strcmp(b->quantise, "none") != 0 ? MODEL_UNET : 0, full ? DTYPE_F32 : dtype, MODEL_SEED,
                   &b->model));
    if (b->model->unet && !strcmp(b->quantise, "int8-dynamic"))
        layerset_narrow(unet_layers(b->model->unet));
    if (piece->fn == train_piece)
        TRY(make_training(b, full));
    TRY(measure_piece(b, piece, &median, &flop));
    json_t *runs = json_array();
    for (int i = 0; i < b->repeat; i++)
        json_array_append_new(runs, json_real(b->seconds[i]));
    json_object_set_new(facts, "runs_s", runs);
    json_object_set_new(facts, "median_s", json_real(median));
    json_object_set_new(facts, "flop", json_real(flop));
    json_object_set_new(facts, "peak_flops", json_real(peak));
    json_object_set_new(facts, "share_of_peak", json_real(flop / median / peak));
    json_object_set_new(facts, "peak_bytes", json_integer((json_int_t)machine_peak_bytes()));
    if (b->profiling)
        json_object_set_new(facts, "operations", bench_operations(&b->profile));
    return STATUS_OK;
}

/* What was measured, beside what was before, if anything. */
static Status print_bench(Bench *b, json_t *facts, bool as_json)
{
    json_t *operations = as_json ? NULL : json_incref(json_object_get(facts, "operations"));
    const double was = json_number_value(json_object_get(b->before, "median_s"));
    if (b->before) {
        json_object_set_new(facts, "median_s_before", json_real(was));
        json_object_set_new(facts, "ratio",
                            json_real(json_number_value(json_object_get(facts, "median_s")) / was));
    }
    if (operations)
        json_object_del(facts, "operations"); /* the table below has them */
    const Status s = facts_print(json_incref(facts), as_json);
    if (s == STATUS_OK && operations) {
        json_object_set(facts, "operations", operations);
        bench_print_operations(facts, b->before);
    }
    json_decref(operations);
    return s;
}

/* The command ------------------------------------------------------------------------------------------ */

static Status check_resolution(const BenchModel *model, int resolution)
{
    const int multiple = 1 << (model->shapes.vae.levels - 1 + model->shapes.unet.levels - 1);
    if (resolution % multiple == 0)
        return STATUS_OK;
    return status_refuse("bench: --res %d: %s takes multiples of %d", resolution, model->name, multiple);
}

static const struct Piece *find_piece(const char *name)
{
    for (size_t i = 0; i < sizeof PIECES / sizeof *PIECES; i++)
        if (strcmp(PIECES[i].name, name) == 0)
            return &PIECES[i];
    return NULL;
}

static Status bench(int argc, char **argv)
{
    const char *size = "sd15", *dtype_word = "bf16", *quantise = "none", *device = DEVICE_AUTO;
    int resolution = 0, batch = 0, repeat = 0, threads = 0;
    const char *against = NULL;
    bool as_json = false, checkpointing = false, profiling = false, tf32 = false, done;
    OptionList works = {0};
    const Option options[] = {
        {.name = "size",
         .kind = OPTION_TEXT,
         .out = &size,
         .value = "SIZE",
         .choices = "tiny|sd15",
         .shown = "sd15",
         .help = "The model's shapes: the built-in one's (tiny) or Stable Diffusion 1.5's (sd15)."},
        {.name = "res",
         .kind = OPTION_INT,
         .out = &resolution,
         .value = "N",
         .min = 8,
         .max = 4096,
         .shown = "the size the model was made for",
         .help = "Side of the picture in pixels."},
        {.name = "batch",
         .kind = OPTION_INT,
         .out = &batch,
         .value = "N",
         .min = 1,
         .max = 256,
         .shown = "2 for unet, else 1",
         .help = "Pictures at once."},
        {.name = "dtype",
         .kind = OPTION_TEXT,
         .out = &dtype_word,
         .value = "D",
         .choices = DTYPE_CHOICES,
         .shown = "bf16",
         .help = "What weights and activations are stored in."},
        {.name = "tf32",
         .kind = OPTION_FLAG,
         .out = &tf32,
         .help = "With --dtype f32: products are rounded to TF32, as `sample` and `train` can, on GPUs that "
                 "have it."},
        {.name = "quantise",
         .kind = OPTION_TEXT,
         .out = &quantise,
         .value = "HOW",
         .choices = "none|int8|int8-dynamic",
         .shown = "none",
         .help = "For unet and train: stores the UNet's weights in 8 bits, as `sample` and `train` can."},
        {.name = "device",
         .kind = OPTION_TEXT,
         .out = &device,
         .value = DEVICE_VALUES,
         .shown = DEVICE_AUTO,
         .help = DEVICE_HELP},
        {.name = "threads",
         .kind = OPTION_INT,
         .out = &threads,
         .value = "N",
         .min = 0,
         .max = 1024,
         .shown = "0",
         .help = "Threads that compute. 0: as many as there are physical cores."},
        {.name = "repeat",
         .kind = OPTION_INT,
         .out = &repeat,
         .value = "N",
         .min = 1,
         .max = MAX_REPEAT,
         .shown = "3, with --size tiny 20",
         .help = "Runs that are measured, after one that is not."},
        {.name = "checkpointing",
         .kind = OPTION_FLAG,
         .out = &checkpointing,
         .help = "For train and full: computes most activations again instead of keeping them."},
        {.name = "profile",
         .kind = OPTION_FLAG,
         .out = &profiling,
         .help =
             "Prints where the time goes: operations by kind and size of weight, with calls, time (of each "
             "the fastest of the runs), share, arithmetic, its rate and the rate's share of the machine's "
             "peak, bytes read and written, and their rate."},
        {.name = "against",
         .kind = OPTION_TEXT,
         .out = &against,
         .value = "FILE",
         .help = "Compares with FILE, which --json of the same work wrote: of another build, or before a "
                 "change."},
        {.name = "json", .kind = OPTION_FLAG, .out = &as_json, .help = "Prints JSON."},
    };
    const Command command = {
        .name = "bench",
        .usage = "[unet|vae|encode|clip|train|full] [options]",
        .summary = "Measures how fast this machine is, on random weights; no model is needed. unet, which is "
                   "measured where nothing is said: one guided sampling step (a batch of two). vae: decoding "
                   "one picture. encode: encoding one. clip: encoding one prompt. train: one LoRA step of "
                   "rank 4. full: one step that trains all of the UNet's weights.",
        .example = "atelier bench unet --size tiny\n"
                   "atelier bench train --size sd15 --res 512 --dtype bf16\n"
                   "atelier bench unet --size tiny --profile --json > before.json\n"
                   "atelier bench unet --size tiny --profile --against before.json",
        .options = options,
        .option_count = sizeof options / sizeof *options,
        .positional = &works,
        .max_positional = 1,
        .positional_name = "a piece of work",
    };
    DType dtype;
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    const struct Piece *piece = find_piece(works.count ? works.items[0] : "unet");
    if (!piece)
        return status_refuse("bench: %s: it is one of unet, vae, encode, clip, train, full", works.items[0]);
    Bench b = {.which = bench_model(size),
               .checkpointing = checkpointing,
               .profiling = profiling,
               .quantise = quantise,
               .tf32 = tf32,
               .against = against};
    b.batch = batch;
    b.resolution = resolution ? resolution : b.which->resolution;
    b.repeat = repeat ? repeat : strcmp(size, "tiny") == 0 ? 20 : 3;
    TRY(check_resolution(b.which, b.resolution));
    TRY(dtype_parse(dtype_word, &dtype));
    json_t *facts = json_object();
    Status s = run_bench(&b, piece, device, dtype, threads, facts);
    if (s == STATUS_OK)
        s = print_bench(&b, facts, as_json);
    json_decref(facts);
    free_all(&b);
    return s;
}

int command_bench(int argc, char **argv)
{
    return command_end(bench(argc, argv));
}
