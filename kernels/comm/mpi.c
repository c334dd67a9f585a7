/* Transport `mpi`: blocks travel through Open MPI, where that has started the processes. The library is
 * loaded at run time (openmpi.h), so a program needs it neither to be built nor to run.
 *
 * Nothing here blocks inside of the library: all is begun (Isend, Irecv) and asked for (Testall), so that the
 * end of another process ends the wait. Who waits gives the core away: after some turns it sleeps, which
 * costs little, since what is on its way lies in the kernel's buffers or in shared memory meanwhile. */
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "openmpi.h"
#include "transport.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Counts are ints; and a piece that has come frees what the library keeps for it. */
#define PIECE ((size_t)64 << 20)
#define TAG 1
#define TURNS_AWAKE 200
#define SLEEP_NS 50000   /* the kernel makes some 100 us of it */
#define SLEEPS_A_LOOK 20 /* comm_waiting() every 2 ms */

/* MPI is begun and ended once in a process, so this is the process's. */
static struct {
    void *library;
    OpenMpi f;
    bool begun;
    char why[512]; /* not loaded: why */
    char version[OPENMPI_TEXT];
} mpi;

/* Starting ---------------------------------------------------------------------------------------------- */

static bool find_all(OpenMpi *f)
{
    bool all = true;
#define X(name, arguments) all &= (*(void **)&f->name = dlsym(mpi.library, "MPI_" #name)) != NULL;
    OPENMPI_FUNCTIONS(X)
#undef X
#define X(name, symbol) all &= (f->name = dlsym(mpi.library, symbol)) != NULL;
    OPENMPI_OBJECTS(X)
#undef X
    return all;
}

static bool load(void)
{
    if (mpi.library)
        return true;
    mpi.library = dlopen(OPENMPI_LIBRARY, RTLD_NOW | RTLD_GLOBAL); /* its plug-ins look for its names */
    if (!mpi.library) {
        snprintf(mpi.why, sizeof mpi.why,
                 "Open MPI cannot be loaded (%s); scripts/setup --mpi installs it, and where it lies in a "
                 "folder of its own LD_LIBRARY_PATH has to name its lib folder",
                 dlerror());
        return false;
    }
    if (!find_all(&mpi.f)) {
        snprintf(mpi.why, sizeof mpi.why, OPENMPI_LIBRARY " is there, but is no Open MPI 4 or 5");
        dlclose(mpi.library);
        mpi.library = NULL;
        return false;
    }
    int length;
    if (mpi.f.Get_library_version(mpi.version, &length) != OPENMPI_SUCCESS)
        snprintf(mpi.version, sizeof mpi.version, "Open MPI");
    mpi.version[strcspn(mpi.version, ",")] = 0; /* ", package: Debian OpenMPI, ident: 4.1.4, …" */
    return true;
}

const char *mpi_version(const char **why)
{
    *why = load() ? NULL : mpi.why;
    return *why ? NULL : mpi.version;
}

bool mpi_started_us(void)
{
    /* srun with PMIx names no size; there Slurm's own variables do where Open MPI is missing */
    return getenv("OMPI_COMM_WORLD_SIZE") || (getenv("PMIX_RANK") && load());
}

static Status failed(const char *what, int error)
{
    char text[OPENMPI_TEXT] = "";
    int length;
    if (mpi.f.Error_string(error, text, &length) != OPENMPI_SUCCESS)
        snprintf(text, sizeof text, "error %d", error);
    return status_fail("%s: MPI_%s: %s", mpi.version, what, text);
}

static Status initialise(void)
{
    int already = 0, over = 0, provided;
    mpi.f.Finalized(&over);
    if (over)
        return status_refuse("MPI has been ended in this process, and cannot be begun again");
    mpi.f.Initialized(&already); /* by a host program, which ends it too */
    if (!already) {
        /* what it waits for itself, in starting and ending, gives the core away as well */
        setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
        const int error = mpi.f.Init_thread(NULL, NULL, OPENMPI_THREAD_FUNNELED, &provided);
        if (error != OPENMPI_SUCCESS)
            return failed("Init_thread", error);
    }
    const int error = mpi.f.Comm_set_errhandler(mpi.f.comm_world, mpi.f.errors_return);
    return error == OPENMPI_SUCCESS ? STATUS_OK : failed("Comm_set_errhandler", error);
}

/* A library of another version than mpirun does not find its way to it, and takes itself for alone. */
static Status check_size(int size)
{
    const char *told = getenv("OMPI_COMM_WORLD_SIZE");
    if (told && atoi(told) != size)
        return status_refuse("mpirun has started %s processes, but the library that was loaded (%s) sees %d: "
                             "they are of two versions; PATH and LD_LIBRARY_PATH have to lead to one",
                             told, mpi.version, size);
    return STATUS_OK;
}

/* mpirun gives each process a core of its own, or a few, unless it is told otherwise: with two processes all
 * other cores would stand still. Its own are those of the process above. */
static void warn_of_binding(int rank)
{
    cpu_set_t own, all;
    const char *here = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (rank > 0 || !here || sched_getaffinity(0, sizeof own, &own) != 0 ||
        sched_getaffinity(getppid(), sizeof all, &all) != 0)
        return;
    if (CPU_COUNT(&own) * atoi(here) < CPU_COUNT(&all))
        log_warn("mpirun lets each process compute on %d of %d processors: --bind-to none gives all of them "
                 "to all, --map-by slot:PE=N gives N cores to each",
                 CPU_COUNT(&own), CPU_COUNT(&all));
}

Status mpi_begin(int *rank, int *size)
{
    if (!load())
        return status_refuse("%s", mpi.why);
    const bool first = !mpi.begun;
    if (first)
        TRY(initialise());
    mpi.begun = true;
    int error = mpi.f.Comm_rank(mpi.f.comm_world, rank);
    if (error == OPENMPI_SUCCESS)
        error = mpi.f.Comm_size(mpi.f.comm_world, size);
    if (error != OPENMPI_SUCCESS)
        return failed("Comm_size", error);
    if (first)
        warn_of_binding(*rank);
    return check_size(*size);
}

Status mpi_share(void *data, size_t bytes)
{
    const int error = mpi.f.Bcast(data, (int)bytes, mpi.f.byte, 0, mpi.f.comm_world);
    return error == OPENMPI_SUCCESS ? STATUS_OK : failed("Bcast", error);
}

void mpi_end(bool broken)
{
    if (mpi.begun && !broken) /* MPI_Finalize waits for all */
        mpi.f.Finalize();
    mpi.begun = false;
}

/* Blocks ------------------------------------------------------------------------------------------------ */

/* What is on its way. */
typedef struct Requests {
    void **list;
    OpenMpiStatus *statuses;
    int count;
} Requests;

static const char *hindrance(const Comm *c)
{
    (void)c;
    return mpi.begun ? NULL : "Open MPI has not started these processes";
}

static Status open_transport(Comm *c, const Device *dev, void **own, char *version, size_t size)
{
    (void)c;
    (void)dev;
    (void)own; /* the library keeps all there is */
    snprintf(version, size, "mpi (%s)", mpi.version);
    return STATUS_OK;
}

static void close_transport(void *own, bool broken)
{
    (void)own;
    (void)broken; /* requests that are left belong to the library */
}

static int pieces_of(const CommPart *parts, int count)
{
    size_t pieces = 0;
    for (int i = 0; i < count; i++)
        pieces += (parts[i].bytes + PIECE - 1) / PIECE;
    return (int)pieces;
}

static void free_requests(Requests *r)
{
    if (!r)
        return;
    mem_free(r->list);
    mem_free(r->statuses);
    mem_free(r);
}

static Requests *new_requests(int count)
{
    Requests *r = mem_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->list = mem_calloc((size_t)count + 1, sizeof *r->list);
    r->statuses = mem_calloc((size_t)count + 1, sizeof *r->statuses);
    if (r->list && r->statuses)
        return r;
    free_requests(r);
    return NULL;
}

/* Pieces between two processes are told apart by their order alone: MPI keeps it. */
static Status begin_part(Requests *r, const CommPart *p, bool sends)
{
    for (size_t done = 0; done < p->bytes; done += PIECE) {
        const int bytes = (int)(p->bytes - done < PIECE ? p->bytes - done : PIECE);
        char *at = (char *)p->at + done;
        void **request = &r->list[r->count];
        const int error = sends ? mpi.f.Isend(at, bytes, mpi.f.byte, p->rank, TAG, mpi.f.comm_world, request)
                                : mpi.f.Irecv(at, bytes, mpi.f.byte, p->rank, TAG, mpi.f.comm_world, request);
        if (error != OPENMPI_SUCCESS)
            return failed(sends ? "Isend" : "Irecv", error);
        r->count++;
    }
    return STATUS_OK;
}

static Status test_failed(const Requests *r, int error)
{
    for (int i = 0; error == OPENMPI_ERR_IN_STATUS && i < r->count; i++)
        if (r->statuses[i].error != OPENMPI_SUCCESS)
            error = r->statuses[i].error;
    return failed("Testall", error);
}

static Status wait_for_all(Comm *c, Requests *r)
{
    const double since = seconds_now();
    for (int64_t turn = 0;; turn++) {
        int done = 0;
        const int error = mpi.f.Testall(r->count, r->list, &done, r->statuses);
        if (error != OPENMPI_SUCCESS)
            return test_failed(r, error);
        if (done)
            return STATUS_OK;
        if (turn < TURNS_AWAKE) {
            sched_yield();
            continue;
        }
        if (turn % SLEEPS_A_LOOK == 0)
            TRY(comm_waiting(c, since));
        nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
    }
}

static Status begin_exchange(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                             int receives, void **pending)
{
    (void)c;
    (void)own;
    Requests *r = new_requests(pieces_of(send, sends) + pieces_of(receive, receives));
    *pending = r;
    Status s = r ? STATUS_OK : STATUS_FAILED;
    for (int i = 0; i < receives && s == STATUS_OK; i++)
        s = begin_part(r, &receive[i], false);
    for (int i = 0; i < sends && s == STATUS_OK; i++)
        s = begin_part(r, &send[i], true);
    return s;
}

/* The library moves what it has under way whenever it is called. */
static Status progress_exchange(Comm *c, void *own, void *pending)
{
    (void)c;
    (void)own;
    Requests *r = pending;
    int done;
    const int error = mpi.f.Testall(r->count, r->list, &done, r->statuses);
    return error == OPENMPI_SUCCESS ? STATUS_OK : test_failed(r, error);
}

static Status end_exchange(Comm *c, void *own, void *pending)
{
    (void)own;
    Requests *r = pending;
    const Status s = r->count ? wait_for_all(c, r) : STATUS_OK;
    free_requests(r);
    return s;
}

static Status exchange(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                       int receives)
{
    void *pending;
    TRY(begin_exchange(c, own, send, sends, receive, receives, &pending));
    return end_exchange(c, own, pending);
}

/* all_gather and reduce_scatter are made of exchange: Open MPI's own that do not block (Iallgatherv) send the
 * same messages, and its Ireduce_scatter sums everything at process 0 first. */
const CommTransport transport_mpi = {
    .name = "mpi",
    .host_memory = true,
    .hindrance = hindrance,
    .open = open_transport,
    .close = close_transport,
    .exchange = exchange,
    .begin = begin_exchange,
    .progress = progress_exchange,
    .end = end_exchange,
};
