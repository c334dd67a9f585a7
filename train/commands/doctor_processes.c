#include "doctor_processes.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/comm/transport.h"
#include "kernels/ctx.h"
#include "kernels/cuda/cuda.h"
#include "kernels/devices/devices.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is there ----------------------------------------------------------------------------------------- */

json_t *doctor_libraries(void)
{
    const char *why;
    json_t *o = json_object();
    const char *version = mpi_version(&why);
    json_object_set_new(o, "Open_MPI", version ? json_string(version) : json_null());
    json_object_set_new(o, "without_Open_MPI", why ? json_string(why) : json_null());
    return o;
}

/* Who they are ------------------------------------------------------------------------------------------ */

typedef struct Member {
    char host[64], device[96], version[24];
    int pid, cores, threads;
} Member;

static Member own_member(const Device *dev)
{
    Member m = {.pid = (int)getpid(), .cores = machine_cores(), .threads = ctx_threads(0)};
    if (gethostname(m.host, sizeof m.host - 1) != 0)
        snprintf(m.host, sizeof m.host, "unknown");
    snprintf(m.device, sizeof m.device, "%s %.*s", dev->name, (int)strcspn(dev->chip, ","), dev->chip);
    snprintf(m.version, sizeof m.version, "%s", ATELIER_VERSION);
    return m;
}

static json_t *members_json(const Member *all, int count)
{
    json_t *list = json_array();
    for (int r = 0; r < count; r++) {
        json_t *o = json_object();
        json_object_set_new(o, "rank", json_integer(r));
        json_object_set_new(o, "host", json_string(all[r].host));
        json_object_set_new(o, "pid", json_integer(all[r].pid));
        json_object_set_new(o, "cores", json_integer(all[r].cores));
        json_object_set_new(o, "threads", json_integer(all[r].threads));
        json_object_set_new(o, "device", json_string(all[r].device));
        json_object_set_new(o, "atelier", json_string(all[r].version));
        json_array_append_new(list, o);
    }
    return list;
}

static void members_print(const Member *all, int count, const char *transport)
{
    printf("rank  host                 pid  cores  threads  device\n");
    for (int r = 0; r < count; r++)
        printf("%4d  %-14.14s  %8d  %5d  %7d  %.31s\n", r, all[r].host, all[r].pid, all[r].cores,
               all[r].threads, all[r].device);
    printf("\nblocks travel by %s\n\n", transport);
}

/* A run would refuse them; here it is only told. */
static void warn_of_versions(const Member *all, int count)
{
    for (int r = 1; r < count; r++)
        if (strcmp(all[r].version, all[0].version) != 0)
            log_warn("process %d is Atelier %s, process 0 is %s: a run needs the same on all", r,
                     all[r].version, all[0].version);
}

/* What a step takes ------------------------------------------------------------------------------------- */

/* Numbers trained in Stable Diffusion 1.5: a LoRA of rank 16 on attention and MLP, and the whole UNet. */
#define LORA_COUNT 5984256
#define UNET_COUNT 859520964
#define SMALLEST 1000000 /* a whole UNet's are not measured with fewer */

typedef struct Timing {
    const char *what;
    int64_t numbers;
    double seconds;
    double per_second; /* bytes that each process sends; 0: it is not about bytes */
} Timing;

typedef struct Bench {
    Comm *comm;
    const Device *dev;
    Timing list[5];
    int count;
} Bench;

/* The same part for everybody, as nearly as can be. */
static void cut(const Comm *comm, int64_t n, int64_t *at)
{
    int64_t count;
    for (int r = 0; r < comm->size; r++)
        comm_share(n, comm->size, r, &at[r], &count);
    at[comm->size] = n;
}

/* Exact sums, as a step with one micro-batch for each process has them: everybody's part of every block to
 * its owner, and the sums to all. */
static Status exact(Bench *b, Tensor *block, Tensor *parts, const int64_t *at)
{
    const int size = b->comm->size, rank = b->comm->rank;
    const int64_t own = at[rank + 1] - at[rank];
    CommPart *list = mem_alloc(2 * (size_t)size * sizeof *list);
    int n = 0;
    if (!list)
        return STATUS_FAILED;
    for (int r = 0; r < size; r++)
        if (r != rank) {
            list[n] = (CommPart){r, (float *)block->data + at[r], (size_t)(at[r + 1] - at[r]) * 4};
            list[size + n] = (CommPart){r, (float *)parts->data + n * own, (size_t)own * 4};
            n++;
        }
    const Status s = comm_exchange(b->comm, list, n, list + size, n);
    mem_free(list);
    return s == STATUS_OK ? comm_all_gather(b->comm, block, at) : s;
}

static Status fast(Bench *b, Tensor *block, Tensor *parts, const int64_t *at)
{
    (void)parts;
    TRY(comm_reduce_scatter(b->comm, block, at));
    return comm_all_gather(b->comm, block, at);
}

typedef Status (*Exchange)(Bench *b, Tensor *block, Tensor *parts, const int64_t *at);

/* The longest that any of them took for one. */
static Status measure(Bench *b, const char *what, Exchange run, Tensor *block, Tensor *parts,
                      const int64_t *at, int repeats)
{
    const int size = b->comm->size;
    double *took = mem_alloc((size_t)size * sizeof *took);
    Status s = comm_agree(b->comm, took ? STATUS_OK : STATUS_FAILED);
    const double begin = seconds_now();
    for (int i = 0; i < repeats && s == STATUS_OK; i++)
        s = run ? run(b, block, parts, at) : comm_agree(b->comm, STATUS_OK);
    if (s == STATUS_OK && run)
        s = b->dev->settle();
    const double mine = (seconds_now() - begin) / repeats;
    s = comm_meet(b->comm, s, &mine, sizeof mine, took);
    Timing *t = &b->list[b->count];
    *t = (Timing){.what = what, .numbers = block ? tensor_count(block) : 0};
    for (int r = 0; r < size && s == STATUS_OK; r++)
        t->seconds = took[r] > t->seconds ? took[r] : t->seconds;
    if (run && t->seconds > 0) /* twice all but its own part */
        t->per_second = 8.0 * (double)t->numbers * (size - 1) / size / t->seconds;
    b->count += s == STATUS_OK;
    mem_free(took);
    return s;
}

static Status measure_both(Bench *b, const char *what_exact, const char *what_fast, int64_t n, int repeats)
{
    int64_t *at = mem_alloc((size_t)(b->comm->size + 1) * sizeof *at);
    Tensor *block = tensor_new_on(b->dev, DTYPE_F32, 1, &n);
    Tensor *parts = tensor_new_on(b->dev, DTYPE_F32, 1, &n);
    Status s = comm_agree(b->comm, at && block && parts ? STATUS_OK : STATUS_FAILED);
    if (s == STATUS_OK) {
        cut(b->comm, n, at);
        s = exact(b, block, parts, at); /* the first one finds memory and ways that later ones have */
    }
    if (s == STATUS_OK)
        s = measure(b, what_exact, exact, block, parts, at, repeats);
    tensor_free(parts); /* a sum takes as much itself */
    if (s == STATUS_OK)
        s = measure(b, what_fast, fast, block, NULL, at, repeats);
    tensor_free(block);
    mem_free(at);
    return s;
}

/* As many numbers as take at most a quarter of the memory that all have: two blocks of them in the device's,
 * and as much in the host's where they travel through that. */
static Status whole_count(Bench *b, int64_t *n)
{
    const Comm *c = b->comm;
    int64_t *all = mem_alloc((size_t)c->size * sizeof *all), mine = UNET_COUNT;
    size_t left = machine_available_bytes() / (size_t)c->local_size;
    if (!b->dev->host_memory && b->dev->memory_left && b->dev->memory_left() < left)
        left = b->dev->memory_left();
    while (mine > SMALLEST && left && (size_t)mine * 8 * 4 > left)
        mine /= 2;
    Status s = comm_meet(b->comm, all ? STATUS_OK : STATUS_FAILED, &mine, sizeof mine, all);
    for (int r = 0; r < c->size && s == STATUS_OK; r++)
        mine = all[r] < mine ? all[r] : mine;
    *n = mine;
    mem_free(all);
    return s;
}

static Status measure_all(Bench *b)
{
    int64_t whole;
    TRY(measure(b, "agreeing", NULL, NULL, NULL, NULL, 200));
    TRY(measure_both(b, "LoRA of rank 16, exact", "LoRA of rank 16, fast", LORA_COUNT, 10));
    TRY(whole_count(b, &whole));
    const bool all = whole == UNET_COUNT;
    return measure_both(b, all ? "whole UNet, exact" : "part of a UNet, exact",
                        all ? "whole UNet, fast" : "part of a UNet, fast", whole, 1);
}

static json_t *timings_json(const Bench *b)
{
    json_t *list = json_array();
    for (int i = 0; i < b->count; i++) {
        const Timing *t = &b->list[i];
        json_t *o = json_object();
        json_object_set_new(o, "what", json_string(t->what));
        json_object_set_new(o, "block_bytes", json_integer(t->numbers * 4));
        json_object_set_new(o, "seconds", json_real(t->seconds));
        json_object_set_new(o, "bytes_per_second",
                            t->per_second > 0 ? json_real(t->per_second) : json_null());
        json_array_append_new(list, o);
    }
    return list;
}

static void timings_print(const Bench *b)
{
    printf("%-26s  %12s  %10s  %15s\n", "of a step of SD 1.5", "gradients", "time", "each sends");
    for (int i = 0; i < b->count; i++) {
        const Timing *t = &b->list[i];
        char bytes[24] = "", rate[32] = "";
        if (t->numbers)
            snprintf(bytes, sizeof bytes, "%.1f MB", (double)t->numbers * 4 / 1e6);
        if (t->per_second > 0)
            snprintf(rate, sizeof rate, "%12.2f GB/s", t->per_second / 1e9);
        const bool brief = t->seconds < 1;
        printf("%-26s  %12s  %7.2f %s%s%s\n", t->what, bytes, t->seconds * (brief ? 1e3 : 1),
               brief ? "ms" : "s", *rate && !brief ? " " : "", rate);
    }
}

/* All of it --------------------------------------------------------------------------------------------- */

static Status choose_device(const Comm *comm, const char *word, const Device **dev)
{
    char own[24];
    DType any = DTYPE_F32;
    const bool one_each = comm->size > 1 && device_cuda_count() >= comm->local_size;
    snprintf(own, sizeof own, "cuda:%d", comm->local_rank);
    if (one_each && (strcmp(word, DEVICE_AUTO) == 0 || strcmp(word, "cuda") == 0))
        word = own;
    return status_in(device_choose(word, &any, dev), "doctor: --device");
}

static Status print(Bench *b, const Member *all, bool as_json)
{
    const char *transport = comm_transport_name(b->comm);
    warn_of_versions(all, b->comm->size);
    if (!as_json) {
        members_print(all, b->comm->size, transport);
        timings_print(b);
        return STATUS_OK;
    }
    json_t *facts = json_object();
    json_object_set_new(facts, "processes", members_json(all, b->comm->size));
    json_object_set_new(facts, "transport", json_string(transport));
    json_object_set_new(facts, "exchanges", timings_json(b));
    return facts_print(facts, true);
}

Status doctor_together(Comm *comm, const char *device, bool as_json)
{
    if (comm->size == 1)
        return status_refuse("doctor --mpi is for several processes: mpirun -np 2 atelier doctor --mpi, or "
                             "atelier doctor --mpi --processes 2");
    Bench b = {.comm = comm};
    Member *all = mem_calloc((size_t)comm->size, sizeof *all), own;
    Status s = all ? choose_device(comm, device, &b.dev) : STATUS_FAILED;
    if (s == STATUS_OK)
        own = own_member(b.dev);
    s = comm_meet(comm, s, &own, sizeof own, all);
    if (s == STATUS_OK)
        s = comm_attach(comm, b.dev);
    if (s == STATUS_OK)
        s = measure_all(&b);
    if (s == STATUS_OK && comm->rank == 0)
        s = print(&b, all, as_json);
    mem_free(all);
    return s;
}
