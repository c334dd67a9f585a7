#include "world.h"

#include "kernels/base/text.h"
#include "transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* *value stays where the variable is not set. */
static Status number_of(const char *name, int least, int most, int *value)
{
    const char *text = getenv(name);
    int64_t n;
    if (!text || !*text)
        return STATUS_OK;
    if (!text_to_int(text, &n) || n < least || n > most)
        return status_refuse("%s=%s in the environment: wants a number from %d to %d", name, text, least,
                             most);
    *value = (int)n;
    return STATUS_OK;
}

/* torchrun keeps MASTER_PORT for itself in some of its ways, and says so. */
static bool port_is_taken(void)
{
    const char *own = getenv("TORCHELASTIC_USE_AGENT_STORE");
    return own && strcmp(own, "True") == 0;
}

static Status find_master(World *w)
{
    const char *address = getenv("MASTER_ADDR");
    TRY(number_of("MASTER_PORT", 1, 65535, &w->port));
    TRY(number_of("ATELIER_LISTEN_FD", 0, 65535, &w->listening));
    if (!address || !*address || !w->port)
        return status_refuse("%d processes are announced, and %s is not set: MASTER_ADDR is the machine of "
                             "process 0, MASTER_PORT a port there that is free",
                             w->size, address && *address ? "MASTER_PORT" : "MASTER_ADDR");
    w->port += port_is_taken();
    snprintf(w->addresses, sizeof w->addresses, "%s", address);
    const char *token = getenv("ATELIER_TOKEN");
    if (!token)
        token = getenv("TORCHELASTIC_RUN_ID");
    snprintf(w->token, sizeof w->token, "%s", token ? token : "");
    return STATUS_OK;
}

static Status check(const World *w, const char *rank, const char *size)
{
    if (w->size < 1)
        return status_refuse("%s is set in the environment, and %s is not", rank, size);
    if (w->rank < 0)
        return status_refuse("%s is set in the environment, and %s is not", size, rank);
    if (w->rank >= w->size)
        return status_refuse("%s is %d and %s is %d in the environment: ranks count from 0", rank, w->rank,
                             size, w->size);
    return STATUS_OK;
}

/* One starter's names. *found: it was the one. */
static Status try_names(World *w, const char *rank, const char *size, const char *local_rank,
                        const char *local_size, bool *found)
{
    *found = getenv(rank) || getenv(size);
    if (!*found)
        return STATUS_OK;
    w->rank = w->size = -1;
    TRY(number_of(rank, 0, WORLD_MOST - 1, &w->rank));
    TRY(number_of(size, 1, WORLD_MOST, &w->size));
    TRY(number_of(local_rank, 0, WORLD_MOST - 1, &w->local_rank));
    TRY(number_of(local_size, 1, WORLD_MOST, &w->local_size));
    return check(w, rank, size);
}

Status world_find(World *w)
{
    bool found;
    *w = (World){.size = 1, .local_rank = -1, .local_size = -1, .listening = -1};
    TRY(try_names(w, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", &found));
    if (!found && mpi_started_us()) {
        w->mpi = true; /* what it is says the library */
        TRY(number_of("OMPI_COMM_WORLD_SIZE", 1, WORLD_MOST, &w->size));
        return number_of("OMPI_COMM_WORLD_RANK", 0, WORLD_MOST - 1, &w->rank);
    }
    /* a batch script has SLURM_PROCID too, the number of tasks of its step only what srun has started */
    if (!found && getenv("SLURM_STEP_NUM_TASKS") && getenv("SLURM_PROCID"))
        TRY(try_names(w, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "", &found));
    if (!found) /* another MPI's mpirun: it says who, not where */
        TRY(try_names(w, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", &found));
    return w->size > 1 ? find_master(w) : STATUS_OK;
}
