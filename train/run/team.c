#include "team.h"

#include "kernels/base/buffer.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "train/pictures/hashing.h"

#include <dlfcn.h>

#define LIBRARY_MOST ((size_t)256 << 20)

/* The configuration -------------------------------------------------------------------------------------- */

static Status check_share(const Config *config, const Comm *comm)
{
    const int accumulate = config->train.accumulate;
    if (comm->size <= accumulate)
        return STATUS_OK;
    if (config->train.fused_backward)
        return status_refuse(
            "train.fused_backward goes with one process alone (%d were started): a gradient is "
            "gone before another process could add to it; remove it, or start one process",
            comm->size);
    return status_refuse(
        "%d processes for a step of %d micro-batch%s: processes share the micro-batches of a step, and do "
        "not "
        "add to it. Set train.accumulate to %d or more (and train.batch or optimizer.lr to what the larger "
        "step wants), or start at most %d. Other trainers multiply the batch by the number of GPUs in "
        "silence; train.accumulate: %d is what they do",
        comm->size, accumulate, accumulate == 1 ? "" : "es", comm->size, accumulate, accumulate * comm->size);
}

Status team_check(const Config *config, Comm *comm, bool traced)
{
    TRY(check_share(config, comm));
    if (comm->size == 1)
        return STATUS_OK;
    if (traced)
        return status_refuse("--trace goes with one process alone: the numbers are the same");
    char *text = NULL;
    Status s = config_list(config, &text);
    s = comm_agree(comm, s);
    if (s == STATUS_OK)
        s = comm_compare(comm, "configuration", text);
    mem_free(text);
    return s;
}

/* The machines ------------------------------------------------------------------------------------------- */

/* A hash of the file that this very code was loaded from. */
static Status hash_library(char hex[SHA256_HEX_SIZE])
{
    Dl_info info;
    Sha256 s;
    char *bytes = NULL;
    size_t size = 0;
    if (!dladdr((void *)team_meet, &info) || !info.dli_fname)
        return status_fail("it cannot be found out where the program's library is");
    TRY(file_read(info.dli_fname, LIBRARY_MOST, &bytes, &size));
    sha256_init(&s);
    sha256_update(&s, bytes, size);
    hash_finish(&s, hex);
    mem_free(bytes);
    return STATUS_OK;
}

Status team_meet(const Setup *s)
{
    Comm *comm = s->comm;
    char hex[SHA256_HEX_SIZE] = "";
    if (comm->size == 1)
        return STATUS_OK;
    TRY(comm_agree(comm, hash_library(hex)));
    char *text = mem_printf("the program: %s, build %.12s\nwhat it computes on: %s\ntrain.threads: %d\n",
                            ATELIER_VERSION, hex, s->device, s->c->threads);
    Status status = comm_agree(comm, text ? STATUS_OK : STATUS_FAILED);
    if (status == STATUS_OK)
        status = comm_compare(comm, "machine", text);
    mem_free(text);
    TRY(status);
    TRY(comm_attach(comm, s->dev));
    log_info("processes: %d, %d of them on this machine, over %s; sums %s", comm->size, comm->local_size,
             comm_transport_name(comm), s->config->train.reproducible == SUMS_EXACT ? "exact" : "fast");
    return STATUS_OK;
}

Status team_same_origins(const Setup *s, const Origins *origins)
{
    if (s->comm->size == 1)
        return STATUS_OK;
    Buffer b = {0};
    char *text = NULL;
    buffer_add(&b, "the model: sum %.12s\n", origins->model);
    for (int i = 0; i < origins->count; i++)
        buffer_add(&b, "dataset %d: %d pictures of sum %.12s\n", i + 1,
                   dataset_count(s->sources->items[i].dataset), origins->datasets[i]);
    Status status = comm_agree(s->comm, buffer_take(&b, &text));
    if (status == STATUS_OK)
        status = comm_compare(s->comm, "model or dataset", text);
    mem_free(text);
    return status;
}
