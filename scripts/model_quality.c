/* model_quality [--model M] [--names FILE.h5] [--every N] [--grid FILE.png]
 *
 * Says in numbers how well a model knows the pictures it was trained on, and whether it puts known words
 * together. It is how builtin:tiny is judged (docs/builtin-model.md); it is not installed.
 *
 * Names: each of the dataset's captions is sampled with 20 DDIM steps, guidance scale 4, seed 1000 + its
 * index. The picture and all of the dataset's are averaged to 16×16, the sampled one shifted by −6…6 pixels
 * in steps of 2 each way (white comes in), and the distance is the least sum of squares over the shifts.
 * Counted is how often the named picture is the nearest, and how often one of the five nearest.
 *
 * Colours: 20 pairs of colour and thing that are not in the training set (scripts/builtin/held_out.txt),
 * sampled in the same way. A colour rules when it is the commonest of eleven named ones among the pixels that
 * are at least 0.25 from white (Euclidean, RGB from 0 to 1). */
#include "data/dataset/dataset.h"
#include "infer/pipeline/pipeline.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/progress.h"
#include "kernels/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CELLS = 16, NUMBERS = CELLS * CELLS * 3, REACH = 6, STRIDE = 2, NEAREST = 5, SEED = 1000, GRID = 8 };

typedef struct Quality {
    const char *model, *names, *grid;
    int every, threads;
    Dataset *dataset;
    Ctx *c;
    Model *m;
    Pipeline *pipeline;
    int count, side;
    float *known; /* (count,16,16,3): the dataset's pictures */
} Quality;

/* Names ------------------------------------------------------------------------------------------------ */

/* picture shifted by (dx,dy) over white, averaged to 16×16: out (16,16,3) in [0,1]. */
static void average(const Picture *p, int dx, int dy, float *out)
{
    const int side = p->size.width, cell = side / CELLS;
    memset(out, 0, NUMBERS * sizeof *out);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const int from_x = x - dx, from_y = y - dy;
            const bool inside = from_x >= 0 && from_x < side && from_y >= 0 && from_y < side;
            const uint8_t *rgb =
                inside ? p->rgb + 3 * ((size_t)from_y * (size_t)side + (size_t)from_x) : NULL;
            float *sum = out + 3 * (y / cell * CELLS + x / cell);
            for (int k = 0; k < 3; k++)
                sum[k] += rgb ? (float)rgb[k] : 255.0f;
        }
    for (int i = 0; i < NUMBERS; i++)
        out[i] /= 255.0f * (float)(cell * cell);
}

static float distance(const float *a, const float *b)
{
    float sum[8] = {0};
    for (int i = 0; i < NUMBERS; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += (a[i + k] - b[i + k]) * (a[i + k] - b[i + k]);
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* How many of the known pictures are nearer to p than the named one; least is scratch for count numbers. */
static int rank_of(const Quality *q, const Picture *p, int named, float *least)
{
    float shifted[NUMBERS];
    for (int i = 0; i < q->count; i++)
        least[i] = INFINITY;
    for (int dy = -REACH; dy <= REACH; dy += STRIDE)
        for (int dx = -REACH; dx <= REACH; dx += STRIDE) {
            average(p, dx, dy, shifted);
            for (int i = 0; i < q->count; i++)
                least[i] = fminf(least[i], distance(shifted, q->known + (size_t)i * NUMBERS));
        }
    int nearer = 0;
    for (int i = 0; i < q->count; i++)
        nearer += least[i] < least[named];
    return nearer;
}

static Status read_known(Quality *q)
{
    TRY(dataset_open(q->names, &q->dataset));
    q->count = dataset_count(q->dataset);
    q->known = mem_alloc((size_t)q->count * NUMBERS * sizeof *q->known);
    if (!q->known)
        return STATUS_FAILED;
    for (int i = 0; i < q->count; i++) {
        uint8_t *bytes;
        size_t size;
        Picture p = {0};
        TRY(dataset_bytes(q->dataset, i, &bytes, &size));
        const Status s = picture_decode(bytes, size, &p);
        mem_free(bytes);
        TRY(s);
        const bool fits = size_equal(p.size, size_square(q->side));
        if (fits)
            average(&p, 0, 0, q->known + (size_t)i * NUMBERS);
        picture_free(&p);
        if (!fits)
            return status_refuse("%s: %s is no %d×%d picture, which is the model's size", q->names,
                                 dataset_name(q->dataset, i), q->side, q->side);
    }
    return STATUS_OK;
}

/* Sampling --------------------------------------------------------------------------------------------- */

static Status sample(Quality *q, const char *prompt, int index, Picture *out)
{
    SampleRequest r = sample_request_default();
    r.sampler = "ddim";
    SampleResult result = {0};
    r.prompt = prompt;
    r.steps = 20;
    r.guidance = 4;
    r.seed = SEED + (uint64_t)index;
    TRY(pipeline_sample(q->pipeline, &r, NULL, NULL, &result));
    *out = result.picture;
    result.picture = (Picture){0};
    sample_result_free(&result);
    return STATUS_OK;
}

/* Names of the grid lie evenly among all: place of index i in it, or -1. */
static int grid_place(const Quality *q, int i)
{
    const int place = (int)(((int64_t)i * GRID * GRID + q->count - 1) / q->count);
    return place < GRID * GRID && (int64_t)place * q->count / (GRID * GRID) == i ? place : -1;
}

static Status judge_name(Quality *q, int i, float *least, Picture *grid, int *nearest, int *among)
{
    Picture p = {0};
    TRY(sample(q, dataset_caption(q->dataset, i), i, &p));
    const int nearer = rank_of(q, &p, i, least);
    *nearest += nearer == 0;
    *among += nearer < NEAREST;
    const int place = grid_place(q, i);
    if (q->grid && place >= 0) {
        printf("grid row %d column %d: %s\n", place / GRID + 1, place % GRID + 1,
               dataset_caption(q->dataset, i));
        grid[place] = p;
    } else {
        picture_free(&p);
    }
    return STATUS_OK;
}

static Status write_grid(const Quality *q, Picture *pictures)
{
    Picture whole = {0};
    TRY(picture_grid(pictures, GRID * GRID, GRID, &whole));
    const Status s = picture_write_png(q->grid, &whole, NULL, 0);
    picture_free(&whole);
    return s;
}

static Status judge_names(Quality *q)
{
    Picture grid[GRID * GRID] = {{.rgb = NULL}};
    float *least = mem_alloc((size_t)q->count * sizeof *least);
    int nearest = 0, among = 0, sampled = 0;
    Status s = least ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; s == STATUS_OK && i < q->count; i++)
        if (i % q->every == 0 || (q->grid && grid_place(q, i) >= 0)) {
            s = judge_name(q, i, least, grid, &nearest, &among);
            sampled++;
        }
    if (s == STATUS_OK && q->grid)
        s = write_grid(q, grid);
    if (s == STATUS_OK)
        printf(
            "names: %d sampled; the nearest picture is the named one for %d (%.1f %%), one of the %d nearest "
            "for %d (%.1f %%)\n",
            sampled, nearest, 100.0 * nearest / sampled, NEAREST, among, 100.0 * among / sampled);
    for (int i = 0; i < GRID * GRID; i++)
        picture_free(&grid[i]);
    mem_free(least);
    return s;
}

/* Colours ---------------------------------------------------------------------------------------------- */

enum { RED, ORANGE, YELLOW, GREEN, BLUE, PURPLE, PINK, BROWN, BLACK, GRAY, WHITE, COLOURS };
static const char *const COLOUR_NAMES[COLOURS] = {"red",  "orange", "yellow", "green", "blue", "purple",
                                                  "pink", "brown",  "black",  "gray",  "white"};
static const struct Pair {
    int colour;
    const char *thing;
} PAIRS[] = {{BLUE, "apple"},    {PURPLE, "banana"},     {GREEN, "pig"},    {RED, "frog"},
             {RED, "dolphin"},   {PURPLE, "automobile"}, {ORANGE, "whale"}, {YELLOW, "coat"},
             {GREEN, "balloon"}, {BLUE, "rose"},         {RED, "bird"},     {PURPLE, "pear"},
             {ORANGE, "dress"},  {GREEN, "key"},         {BLUE, "crab"},    {PINK, "turtle"},
             {RED, "umbrella"},  {YELLOW, "octopus"},    {BROWN, "fish"},   {PINK, "guitar"}};
enum { PAIR_COUNT = sizeof PAIRS / sizeof *PAIRS };

/* Hue in degrees, saturation and value of r, g, b in [0,1]. */
static void to_hsv(float r, float g, float b, float *hue, float *saturation, float *value)
{
    const float high = fmaxf(r, fmaxf(g, b)), chroma = high - fminf(r, fminf(g, b));
    float h = 0;
    if (chroma > 0)
        h = high == r ? (g - b) / chroma : high == g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
    *hue = 60 * (h < 0 ? h + 6 : h);
    *saturation = high > 0 ? chroma / high : 0;
    *value = high;
}

/* The everyday name of a colour. Limits lie halfway between the colours that variants.py paints with. */
static int colour_of(float r, float g, float b)
{
    float hue, saturation, value;
    to_hsv(r, g, b, &hue, &saturation, &value);
    if (value < .28f)
        return BLACK;
    if (saturation < .15f)
        return value < .76f ? GRAY : WHITE;
    if ((hue >= 295 || hue < 15) && saturation < .6f && value > .75f)
        return PINK;
    if (hue >= 8 && hue < 46 && value < .72f)
        return BROWN;
    return hue < 12    ? RED
           : hue < 39  ? ORANGE
           : hue < 68  ? YELLOW
           : hue < 165 ? GREEN
           : hue < 247 ? BLUE
           : hue < 312 ? PURPLE
           : hue < 343 ? PINK
                       : RED;
}

static int ruling_colour(const Picture *p)
{
    int pixels[COLOURS] = {0}, best = 0;
    for (size_t i = 0; i < (size_t)size_area(p->size); i++) {
        const float r = (float)p->rgb[3 * i] / 255, g = (float)p->rgb[3 * i + 1] / 255,
                    b = (float)p->rgb[3 * i + 2] / 255;
        if (sqrtf((1 - r) * (1 - r) + (1 - g) * (1 - g) + (1 - b) * (1 - b)) >= .25f)
            pixels[colour_of(r, g, b)]++;
    }
    for (int k = 1; k < COLOURS; k++)
        if (pixels[k] > pixels[best])
            best = k;
    return best;
}

static Status judge_colours(Quality *q)
{
    int right = 0;
    for (int i = 0; i < PAIR_COUNT; i++) {
        char prompt[64];
        Picture p = {0};
        snprintf(prompt, sizeof prompt, "%s %s", COLOUR_NAMES[PAIRS[i].colour], PAIRS[i].thing);
        TRY(sample(q, prompt, i, &p));
        const int rules = ruling_colour(&p);
        picture_free(&p);
        right += rules == PAIRS[i].colour;
        printf("%-18s %s\n", prompt, COLOUR_NAMES[rules]);
    }
    printf("colours: the named colour rules in %d of %d pairs (%.0f %%)\n", right, PAIR_COUNT,
           100.0 * right / PAIR_COUNT);
    return STATUS_OK;
}

/* The program ------------------------------------------------------------------------------------------ */

static Status judge(Quality *q)
{
    TRY(model_load(q->model, MODEL_ALL, DTYPE_F32, &q->m));
    q->side = q->m->default_size;
    q->c = ctx_new(device_cpu(), &(CtxOptions){.dtype = DTYPE_F32, .threads = q->threads});
    if (!q->c)
        return STATUS_FAILED;
    TRY(pipeline_new(q->c, q->m, &q->pipeline));
    TRY(read_known(q));
    TRY(judge_colours(q));
    return judge_names(q);
}

static Status run(int argc, char **argv)
{
    Quality q = {.model = "builtin:tiny", .names = ATELIER_SOURCE_DIR "/data/builtin/emoji.h5", .every = 1};
    const Option options[] = {
        {.name = "model",
         .kind = OPTION_TEXT,
         .out = &q.model,
         .value = "M",
         .shown = "builtin:tiny",
         .help = "what is judged"},
        {.name = "names",
         .kind = OPTION_TEXT,
         .out = &q.names,
         .value = "FILE.h5",
         .shown = "data/builtin/emoji.h5",
         .help = "the pictures that it should know, with their names"},
        {.name = "every",
         .kind = OPTION_INT,
         .out = &q.every,
         .value = "N",
         .min = 1,
         .max = 1e6,
         .shown = "1",
         .help = "samples every Nth name only"},
        {.name = "grid",
         .kind = OPTION_TEXT,
         .out = &q.grid,
         .value = "FILE.png",
         .help = "writes 64 of the names' pictures"},
        {.name = "threads",
         .kind = OPTION_INT,
         .out = &q.threads,
         .value = "N",
         .min = 1,
         .max = 1024,
         .shown = "physical cores",
         .help = "threads that compute"},
    };
    const Command command = {
        .name = "model_quality",
        .usage = "[options]",
        .summary =
            "Counts for how many names a model draws the picture that it learnt under that name, and for how "
            "many new pairs of colour and thing the colour is right.",
        .example = "build/model_quality --grid grid.png",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    bool done;
    Status s = options_parse(&command, argc, argv, &done);
    if (s == STATUS_OK && !done)
        s = judge(&q);
    mem_free(q.known);
    dataset_close(q.dataset);
    pipeline_free(q.pipeline);
    ctx_free(q.c);
    model_free(q.m);
    return s;
}

int main(int argc, char **argv)
{
    log_to(log_terminal, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const Status s = run(argc, argv);
    if (s != STATUS_OK)
        log_error("%s", status_message());
    return (int)s;
}
