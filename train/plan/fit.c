#include "fit.h"

#include "kernels/base/file.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "train/pictures/owned.h"
#include "largest.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

/* This process's share of what may still be taken, and what it has already. SIZE_MAX: not known. */
static size_t host_limit(int processes)
{
    const size_t available = machine_available_bytes();
    return available ? available / (size_t)processes + machine_current_bytes() : SIZE_MAX;
}

size_t fit_limit(const Device *dev, int processes)
{
    if (dev->host_memory)
        return host_limit(processes);
    return dev->memory_left ? dev->memory_left() : SIZE_MAX;
}

/* What would fit -------------------------------------------------------------------------------------- */

/* Changes from the harmless on: first those that keep every byte of the result, then those that keep what is
 * learnt, then those that do not. Each is tried on top of the ones before it. */
typedef struct Way {
    char set[64]; /* "--set train.mode=minimal" */
    void (*change)(Config *c);
    bool applies;
} Way;

/* Of sides that the model allows: its own default is one, and half of it. */
static void take_small_previews(Config *c)
{
    c->preview.width /= 2;
    c->preview.height /= 2;
}
static void take_checkpointing(Config *c)
{
    c->train.checkpointing = SWITCH_ON;
}
static void take_minimal(Config *c)
{
    c->train.mode = MODE_MINIMAL;
    c->train.checkpointing = SWITCH_AUTO;
    c->train.pack_weights = SWITCH_AUTO;
    c->train.offload = 0;
}
static void take_single_pictures(Config *c)
{
    c->train.accumulate *= c->train.batch;
    c->train.batch = 1;
}
static void take_bf16(Config *c)
{
    c->model.dtype = DTYPE_BF16;
}
/* Gradients are clipped in another way then. */
static void take_fused(Config *c)
{
    c->train.fused_backward = true;
}
static void take_half_size(Config *c)
{
    for (int i = 0; i < c->train.resolution.count; i++)
        c->train.resolution.sides[i] /= 2;
}

/* Every resolution's half has to be one that the model takes, and the datasets' own would stay. */
static bool half_is_allowed(const Setup *s)
{
    const Resolutions *r = &s->config->train.resolution;
    bool allowed = true;
    for (int i = 0; i < r->count; i++)
        allowed &= r->sides[i] / 2 > 0 && r->sides[i] / 2 % s->model->size_multiple == 0;
    return allowed;
}

/* "train.resolution=256", "'train.resolution=[256, 384]'". */
static void half_text(const Setup *s, char *out, size_t size)
{
    const Resolutions *r = &s->config->train.resolution;
    size_t at = (size_t)snprintf(out, size, r->count > 1 ? "'train.resolution=[" : "train.resolution=");
    for (int i = 0; i < r->count && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%d", i ? ", " : "", r->sides[i] / 2);
    if (r->count > 1 && at < size)
        snprintf(out + at, size - at, "]'");
}

enum { WAYS = 7 };

static void list_ways(const Setup *s, Way ways[WAYS])
{
    const Config *c = s->config;
    const int pictures = c->train.batch * c->train.accumulate;
    const bool forced =
        s->asked.train.checkpointing == SWITCH_OFF || s->asked.train.pack_weights == SWITCH_ON;
    const Size preview = largest_preview(s), small = {preview.width / 2, preview.height / 2};
    const int multiple = s->model->size_multiple;
    const bool drawn = c->preview.every > 0 && c->preview.prompt_count > 0;
    const Way all[WAYS] = {
        {"preview.width", take_small_previews,
         drawn && small.width >= multiple && small.height >= multiple && small.width % multiple == 0 &&
             small.height % multiple == 0},
        {"train.checkpointing=on", take_checkpointing, c->train.checkpointing != SWITCH_ON},
        {"train.fused_backward=true", take_fused,
         c->method.kind == METHOD_FULL && !c->train.fused_backward && c->train.accumulate == 1 &&
             c->model.dtype != DTYPE_F16},
        {"train.mode=minimal", take_minimal, c->train.mode != MODE_MINIMAL && !forced},
        {"train.batch=1", take_single_pictures, c->train.batch > 1},
        {"model.dtype=bf16", take_bf16, c->model.dtype == DTYPE_F32},
        {"train.resolution", take_half_size, half_is_allowed(s)},
    };
    memcpy(ways, all, sizeof all);
    snprintf(ways[0].set, sizeof ways[0].set, "preview.width=%d --set preview.height=%d", small.width,
             small.height);
    snprintf(ways[4].set, sizeof ways[4].set, "train.batch=1 --set train.accumulate=%d", pictures);
    half_text(s, ways[6].set, sizeof ways[6].set);
}

/* Adds " --set WHAT" to text. */
static void add_set(char *text, size_t size, const char *what)
{
    char *more = mem_printf("%s%s--set %s", text, *text ? " " : "", what);
    if (more && strlen(more) < size)
        strcpy(text, more);
    mem_free(more);
}

typedef struct Advice {
    char text[1024]; /* one line a way that fits */
    size_t least;    /* the least that all of them together take */
    int found;
} Advice;

static void advise(Advice *a, const char *sets, size_t need)
{
    char bytes[32];
    const size_t used = strlen(a->text);
    a->found++;
    snprintf(a->text + used, sizeof a->text - used, "\n  %s: %s", sets,
             bytes_text(need, bytes, sizeof bytes));
}

/* What has been tried so far: settings that each made it less. */
typedef struct Together {
    Config config;
    char sets[320], others[64]; /* others: without those of train.mode */
    size_t bytes;
} Together;

/* Adds the way to what has been tried, if it makes the need less. */
static Status try_way(const Setup *s, const Way *way, Together *t)
{
    Together more = *t;
    /* minimal is checkpointing and more: the shorter request takes the other's place */
    if (way->change == take_minimal) {
        more.config.train = s->asked.train;
        memcpy(more.sets, t->others, sizeof t->others);
    }
    way->change(&more.config);
    add_set(more.sets, sizeof more.sets, way->set);
    if (way->change == take_small_previews)
        add_set(more.others, sizeof more.others, way->set);
    Config settled = more.config;
    MemoryNeed need;
    TRY(setup_try(s, &settled, &need));
    more.bytes = memory_total(&need);
    if (more.bytes < t->bytes - t->bytes / 100) /* less would be no help to anybody */
        *t = more;
    return STATUS_OK;
}

/* Tries the ways, each together with those before it that helped, until two fit. */
static Status find_ways(const Setup *s, size_t limit, Advice *a)
{
    Way ways[WAYS];
    Together t = {.config = s->asked, .bytes = memory_total(&s->memory)};
    const Size preview = largest_preview(s);
    t.config.train.resolution = s->config->train.resolution;
    t.config.preview.width = preview.width;
    t.config.preview.height = preview.height;
    list_ways(s, ways);
    for (int i = 0; i < WAYS && a->found < 2; i++) {
        const size_t before = t.bytes;
        if (!ways[i].applies || (a->found && ways[i].change == take_half_size))
            continue;
        TRY(try_way(s, &ways[i], &t));
        if (t.bytes < before && t.bytes <= limit)
            advise(a, t.sets, t.bytes);
    }
    a->least = t.bytes;
    return STATUS_OK;
}

/* The host's own part of a run on a device with memory of its own. */
static Status fit_host(const Setup *s)
{
    const size_t limit = host_limit(s->comm->local_size);
    char wanted[32], there[32];
    if (s->memory.host <= limit)
        return STATUS_OK;
    return status_refuse(
        "this run needs about %s of the machine's own memory besides the GPU's, and %s can be had; "
        "nothing was loaded. Close other programs%s, or let the pictures be encoded before the run "
        "(train.cache_latents: on)",
        bytes_text(s->memory.host, wanted, sizeof wanted), bytes_text(limit, there, sizeof there),
        s->parameters->steps_on && !s->fused ? ", keep no gradients there (train.fused_backward: true)" : "");
}

Status fit_memory(const Setup *s)
{
    const size_t need = memory_total(&s->memory), limit = fit_limit(s->dev, s->comm->local_size);
    const char *whose = s->dev->host_memory ? "memory" : "GPU memory";
    char wanted[32], there[32], least[32];
    Advice a = {.least = 0};
    if (need <= limit)
        return fit_host(s);
    TRY(find_ways(s, limit, &a));
    bytes_text(need, wanted, sizeof wanted);
    bytes_text(limit, there, sizeof there);
    if (a.found)
        return status_refuse(
            "this run needs about %s of %s, and %s can be had; nothing was loaded. What would fit:%s", wanted,
            whose, there, a.text);
    return status_refuse(
        "this run needs about %s of %s, and %s can be had; nothing was loaded. No setting makes it "
        "fit (the least is %s)%s: close other programs, or take a %s with more memory",
        wanted, whose, there, bytes_text(a.least ? a.least : need, least, sizeof least),
        s->config->method.kind == METHOD_FULL ? ", but method.kind: lora may" : "",
        s->dev->host_memory ? "machine" : "GPU");
}

/* Disk ------------------------------------------------------------------------------------------------- */

/* Free bytes where path is or will be; SIZE_MAX: not known. */
static size_t disk_free(const char *path)
{
    char *at = mem_strdup(path);
    struct statvfs v;
    size_t bytes = SIZE_MAX;
    while (at && *at) {
        if (statvfs(at, &v) == 0) {
            bytes = (size_t)v.f_bavail * (size_t)v.f_frsize;
            break;
        }
        char *slash = strrchr(at, '/');
        if (!slash)
            break;
        slash[slash == at] = 0;
    }
    mem_free(at);
    return bytes;
}

/* What it has written already counts for what it will have. */
static size_t run_bytes(const char *folder)
{
    char *checkpoints = path_in(folder, "checkpoints");
    const size_t bytes =
        owned_bytes(folder) + (checkpoints && owned_any(folder) ? path_bytes(checkpoints) : 0);
    mem_free(checkpoints);
    return bytes;
}

Status fit_disk(const Setup *s, const char *folder)
{
    char wanted[32], there[32], one[32];
    const size_t left = disk_free(folder), has = run_bytes(folder);
    const size_t need = s->disk.total > has ? s->disk.total - has : 0;
    if (need <= left)
        return STATUS_OK;
    return status_refuse(
        "%s: this run needs about %s of disk%s, and %s is free there; nothing was loaded. A checkpoint "
        "is %s: keep fewer (output.keep, now %d), save only at the end (output.save_every: 0), or set "
        "another output.dir",
        folder, bytes_text(need, wanted, sizeof wanted), has ? " more" : "",
        bytes_text(left, there, sizeof there), bytes_text(s->disk.checkpoint, one, sizeof one),
        s->config->output.keep);
}
