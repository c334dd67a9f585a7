#include "capacity.h"

#include "infer/pipeline/memory_limit.h"
#include "kernels/base/mem.h"
#include "setup.h"

#include <string.h>

#define BUS 12e9         /* bytes a second from the machine's memory to a GPU's: what PCIe 3.0 x16 reaches */
#define HOST_MEMORY 20e9 /* and of the machine's memory: what two channels of DDR4 reach */
#define UPDATE_BYTES 28  /* a weight's update reads and writes: itself, its gradient, two moments */

/* The ways ---------------------------------------------------------------------------------------------- */

#define SETS 3

typedef struct TrainWay {
    const char *settings; /* with spaces between them */
    bool gpu_only;        /* says nothing on the processor */
} TrainWay;

static const TrainWay LORA_WAYS[] = {
    {"train.mode=speed", false},
    {"train.mode=balanced", false},
    {"train.mode=balanced model.quantise=int8", true},
    {"train.mode=minimal", false},
    {"train.mode=minimal model.quantise=int8", false},
};
static const TrainWay FULL_WAYS[] = {
    {"train.mode=balanced", false},
    {"train.mode=balanced optimizer.kind=adamw8bit", true},
    {"train.mode=balanced optimizer.kind=adamw8bit train.fused_backward=true", true},
    {"train.mode=minimal", false},
    {"train.mode=minimal optimizer.kind=adamw8bit", false},
    {"train.mode=minimal optimizer.kind=adamw8bit train.fused_backward=true", false},
};

typedef struct DrawWay {
    const char *settings;
    MemoryWay way;
} DrawWay;

static const DrawWay DRAW_WAYS[] = {
    {"--dtype bf16", {DTYPE_BF16, false, 0, OFFLOAD_IDLE}},
    {"--dtype bf16 --vae-tile 512", {DTYPE_BF16, false, 512, OFFLOAD_IDLE}},
    {"--dtype f16 --vae-tile 512", {DTYPE_F16, false, 512, OFFLOAD_IDLE}}, /* mapped, as files mostly are */
    {"--dtype bf16 --vae-tile 512 --quantise int8", {DTYPE_BF16, true, 512, OFFLOAD_IDLE}},
    {"--dtype bf16 --vae-tile 512 --offload all", {DTYPE_BF16, false, 512, OFFLOAD_ALL}},
    {"--dtype bf16 --vae-tile 512 --quantise int8 --offload all", {DTYPE_BF16, true, 512, OFFLOAD_ALL}},
};

/* A way that takes no less of either memory than the one before it is none. */
static void add_way(Capacity *c, CapacityWork work, const CapacityWay *way)
{
    const int n = c->count[work];
    const CapacityWay *before = n > 0 ? &c->ways[work][n - 1] : NULL;
    if (!before || way->bytes < before->bytes || way->host < before->host)
        c->ways[work][c->count[work]++] = *way;
}

/* Training ---------------------------------------------------------------------------------------------- */

/* A configuration of the model with these settings. Its pictures are not looked at. */
static Status config_of(const char *model, const char *method, const char *settings, Config **out)
{
    char *sets[SETS + 2] = {mem_printf("model.base=%s", model), mem_printf("method.kind=%s", method)};
    char *rest = mem_strdup(settings), *save = NULL;
    int n = 2;
    Status s = sets[0] && sets[1] && rest ? STATUS_OK : STATUS_FAILED;
    for (char *set = rest ? strtok_r(rest, " ", &save) : NULL; set; set = strtok_r(NULL, " ", &save))
        sets[n++] = set;
    if (s == STATUS_OK)
        s = config_read_text("dataset: {path: pictures}\noutput: {dir: run}\n", NULL,
                             (const char *const *)sets, n, out);
    mem_free(rest);
    mem_free(sets[1]);
    mem_free(sets[0]);
    return s;
}

/* *base: SetupNeed's. */
static Status train_way(const char *model, const Device *dev, bool full, const TrainWay *w, size_t *base,
                        CapacityWay *out)
{
    Config *config = NULL;
    SetupNeed need = {.base = *base};
    Status s = config_of(model, full ? "full" : "lora", w->settings, &config);
    if (s == STATUS_OK)
        s = setup_need(config, dev, &need);
    config_free(config);
    TRY(s);
    *base = need.base;
    const double weights = (double)need.trained * sizeof(float);
    *out = (CapacityWay){.settings = w->settings,
                         .bytes = memory_total(&need.memory),
                         .host = need.memory.host,
                         .flop = need.flop,
                         .moved = (need.recomputed ? 3 : 2) * (double)need.waiting +
                                  (need.updates_on_host ? weights : 0) + /* and the gradients back */
                                  2 * (double)need.reached,
                         .updated = need.updates_on_host ? UPDATE_BYTES * (double)need.trained : 0};
    return STATUS_OK;
}

static Status train_ways(const char *model, const Device *dev, bool full, size_t *base, Capacity *c)
{
    const TrainWay *ways = full ? FULL_WAYS : LORA_WAYS;
    const int count =
        full ? (int)(sizeof FULL_WAYS / sizeof *FULL_WAYS) : (int)(sizeof LORA_WAYS / sizeof *LORA_WAYS);
    for (int i = 0; i < count; i++) {
        CapacityWay way;
        if (ways[i].gpu_only && dev->host_memory)
            continue;
        TRY(train_way(model, dev, full, &ways[i], base, &way));
        add_way(c, full ? CAPACITY_FULL : CAPACITY_LORA, &way);
    }
    return STATUS_OK;
}

/* Drawing ----------------------------------------------------------------------------------------------- */

static Status draw_ways(const char *model, const Device *dev, Capacity *c)
{
    SampleRequest r = sample_request_default();
    r.prompt = "";
    const MemoryPicture picture = {.request = &r};
    const MemoryChoice choice = {.model = model, .dev = dev, .pictures = &picture, .count = 1};
    for (size_t i = 0; i < sizeof DRAW_WAYS / sizeof *DRAW_WAYS; i++) {
        const DrawWay *w = &DRAW_WAYS[i];
        MemoryUse use;
        if (dev->host_memory && w->way.offload == OFFLOAD_ALL)
            continue;
        TRY(memory_use(&choice, &w->way, &use));
        add_way(c, CAPACITY_DRAW,
                &(CapacityWay){.settings = w->settings,
                               .bytes = use.bytes,
                               .host = use.host,
                               .flop = use.flop,
                               .moved = use.moved});
    }
    return STATUS_OK;
}

/* The whole --------------------------------------------------------------------------------------------- */

Status capacity_of(const char *model, const Device *dev, Capacity *out)
{
    size_t base = 0;
    *out = (Capacity){0};
    TRY(train_ways(model, dev, false, &base, out)); /* first: nothing else has been in the process */
    TRY(train_ways(model, dev, true, &base, out));
    return draw_ways(model, dev, out);
}

const CapacityWay *capacity_within(const Capacity *c, CapacityWork work, size_t bytes, size_t host)
{
    for (int i = 0; i < c->count[work]; i++)
        if (c->ways[work][i].bytes <= bytes && c->ways[work][i].host <= host)
            return &c->ways[work][i];
    return NULL;
}

const CapacityWay *capacity_least(const Capacity *c, CapacityWork work)
{
    return &c->ways[work][c->count[work] - 1];
}

double capacity_seconds(const CapacityWay *w, double flop_per_second)
{
    const double computing = w->flop / flop_per_second, moving = w->moved / BUS; /* at the same time */
    return (computing > moving ? computing : moving) + w->updated / HOST_MEMORY;
}
