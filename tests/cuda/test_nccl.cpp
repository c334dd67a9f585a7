/* What NCCL's stand-in must see: each mistake here is one that NCCL would answer with wrong numbers, by
 * hanging, or not at all, and the stand-in must end the process and say what it is. And what is right must go
 * through. Breaks if a test on the host can pass with calls that GPUs would hang in. */
#include "planted.h"

#include "kernels/cuda/nccl.h"

#include <sys/prctl.h>

extern "C" {
#define DECLARE(type, name, parameters) type name parameters;
NCCL_FUNCTIONS(DECLARE)
}

/* Two processes ------------------------------------------------------------------------------------------ */

static ncclUniqueId id;
static pid_t other; /* rank 0's: the process of rank 1 */
static cudaStream_t stream;

/* Runs what(0) here and what(1) in a process beside it; the end of one is the other's. */
static void two(void (*what)(int rank))
{
    int status;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    fflush(stderr);
    other = fork();
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        what(1);
        _exit(0);
    }
    what(0);
    if (waitpid(other, &status, 0) == other && (WIFSIGNALED(status) || WEXITSTATUS(status)))
        abort();
}

static void rest()
{
    int status;
    if (other && waitpid(other, &status, WNOHANG) == other && WIFSIGNALED(status) &&
        WTERMSIG(status) == SIGABRT)
        abort();
    usleep(200);
}

static void taken_up(ncclComm_t comm)
{
    ncclResult_t state;
    while (ncclCommGetAsyncError(comm, &state) == ncclSuccess && state == ncclInProgress)
        rest();
    if (state != ncclSuccess) {
        fprintf(stderr, "state %d\n", (int)state);
        abort();
    }
}

static ncclComm_t join(int rank)
{
    ncclComm_t comm;
    ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0};
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
        ncclCommInitRankConfig(&comm, 2, id, rank, &config) != ncclInProgress)
        _exit(3);
    taken_up(comm);
    return comm;
}

static void done(ncclComm_t comm)
{
    do {
        taken_up(comm);
        rest();
    } while (cudaStreamQuery(stream) == cudaErrorNotReady);
}

static void leave(ncclComm_t comm)
{
    ncclCommFinalize(comm);
    taken_up(comm);
    ncclCommDestroy(comm);
}

static float *numbers(int count)
{
    float *p;
    if (cudaMalloc((void **)&p, (size_t)count * sizeof *p) != cudaSuccess)
        _exit(3);
    return p;
}

static void need(bool good)
{
    if (!good) {
        fprintf(stderr, "is not as it should be\n");
        _exit(4);
    }
}

/* `body` runs as each of two processes, with rank and a communicator that has just been made. */
#define CAUGHT(words, ...)                                                                                   \
    fails_with(                                                                                              \
        [] {                                                                                                 \
            two([](int rank) {                                                                               \
                ncclComm_t comm = join(rank);                                                                \
                float *x = numbers(64);                                                                      \
                (void)x, (void)comm;                                                                         \
                __VA_ARGS__                                                                                  \
            });                                                                                              \
        },                                                                                                   \
        words)

/* What is right ------------------------------------------------------------------------------------------ */

enum { COUNT = 50000 };

static void set(float *at, float first, int count)
{
    static float host[2 * COUNT];
    for (int i = 0; i < count; i++)
        host[i] = first + (float)i;
    need(cudaMemcpyAsync(at, host, (size_t)count * sizeof *host, cudaMemcpyHostToDevice, stream) ==
         cudaSuccess);
}

static void are(const float *at, float first, float step, int count)
{
    static float host[2 * COUNT];
    need(cudaMemcpyAsync(host, at, (size_t)count * sizeof *host, cudaMemcpyDeviceToHost, stream) ==
         cudaSuccess);
    for (int i = 0; i < count; i++)
        need(host[i] == first + step * (float)i);
}

/* Each kind, in the order of the stream, larger than what a socket takes at once. */
static void all_kinds(int rank)
{
    ncclComm_t comm = join(rank);
    float *x = numbers(2 * COUNT), *y = numbers(COUNT), *z = numbers(COUNT);
    set(x, 1000.0F * (float)rank, COUNT);
    ncclGroupStart();
    ncclSend(x, COUNT, ncclFloat32, 1 - rank, comm, stream);
    ncclRecv(y, COUNT, ncclFloat32, 1 - rank, comm, stream);
    ncclSend(x + 1, 1, ncclFloat32, rank, comm, stream); /* to itself */
    ncclRecv(z, 1, ncclFloat32, rank, comm, stream);
    need(ncclGroupEnd() == ncclInProgress);
    done(comm);
    are(y, 1000.0F * (float)(1 - rank), 1, COUNT);
    are(z, 1000.0F * (float)rank + 1, 1, 1);
    if (rank == 0)
        set(y, 7, COUNT);
    ncclGroupStart();
    ncclBroadcast(y, y, COUNT, ncclFloat32, 0, comm, stream);
    ncclReduce(x, z, COUNT, ncclFloat32, ncclSum, 1, comm, stream);
    ncclGroupEnd();
    done(comm);
    are(y, 7, 1, COUNT);
    if (rank == 1)
        are(z, 1000, 2, COUNT);
    set(x + (rank ? COUNT : 0), (float)rank * COUNT, COUNT);
    ncclAllGather(x + (rank ? COUNT : 0), x, COUNT, ncclFloat32, comm, stream);
    done(comm);
    are(x, 0, 1, 2 * COUNT);
    ncclReduceScatter(x, x + (rank ? COUNT : 0), COUNT, ncclFloat32, ncclSum, comm, stream);
    done(comm);
    are(x + (rank ? COUNT : 0), 2.0F * (float)rank * COUNT, 2, COUNT);
    leave(comm);
}

static void right(void **state)
{
    (void)state;
    for (int seed = 1; seed < 5; seed++) {
        int status;
        const pid_t child = fork();
        if (child == 0) {
            char text[16];
            snprintf(text, sizeof text, "%d", seed);
            setenv("ATELIER_STAND_IN_SEED", text, 1);
            two(all_kinds);
            _exit(0);
        }
        waitpid(child, &status, 0);
        assert_int_equal(status, 0);
    }
}

/* What is not the same on both --------------------------------------------------------------------------- */

static void unlike(void **state)
{
    (void)state;
    CAUGHT("rank 0 calls ncclBroadcast(4 float32, root 0)|rank 1 calls ncclReduce(4 float32, root 0)", {
        if (rank == 0)
            ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        else
            ncclReduce(x, x, 4, ncclFloat32, ncclSum, 0, comm, stream);
        done(comm);
    });
    CAUGHT("group 1: |ncclBroadcast(4 float32, root 0)|ncclBroadcast(5 float32, root 0)", {
        ncclBroadcast(x, x, 4 + (size_t)rank, ncclFloat32, 0, comm, stream);
        done(comm);
    });
    CAUGHT("ncclBroadcast(4 float32, root 0)|ncclBroadcast(4 float32, root 1)", {
        ncclBroadcast(x, x, 4, ncclFloat32, rank, comm, stream);
        done(comm);
    });
    CAUGHT("ncclAllGather(4 float32)|ncclAllGather(4 int8)", {
        ncclAllGather(x, x + 16, 4, rank ? ncclFloat32 : ncclInt8, comm, stream);
        done(comm);
    });
    CAUGHT("group 1: |ncclBroadcast(4 float32, root 0)|ncclBroadcast(8 float32, root 0)", {
        for (int i = 0; i < 2; i++) {
            ncclBroadcast(x, x, i == rank ? 4 : 8, ncclFloat32, 0, comm, stream);
            done(comm);
        }
    });
    CAUGHT("calls nothing|ncclBroadcast(8 float32, root 0)", {
        ncclGroupStart();
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        if (rank)
            ncclBroadcast(x + 8, x + 8, 8, ncclFloat32, 0, comm, stream);
        ncclGroupEnd();
        done(comm);
    });
    CAUGHT("has left the communicator|still calls", {
        if (rank)
            leave(comm);
        else {
            ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
            done(comm);
        }
    });
}

static void unlike_sends(void **state)
{
    (void)state;
    CAUGHT("ncclSend(4 float32, to 1)|ncclRecv(5 float32, from 0)", {
        if (rank == 0)
            ncclSend(x, 4, ncclFloat32, 1, comm, stream);
        else
            ncclRecv(x, 5, ncclFloat32, 0, comm, stream);
        done(comm);
    });
    CAUGHT("ncclSend(16 int8, to 1)|ncclRecv(4 float32, from 0)", {
        if (rank == 0)
            ncclSend(x, 16, ncclInt8, 1, comm, stream);
        else
            ncclRecv(x, 4, ncclFloat32, 0, comm, stream);
        done(comm);
    });
    /* both would wait for the other to receive */
    CAUGHT("calls nothing|ncclSend(4 float32, to ", {
        ncclSend(x, 4, ncclFloat32, 1 - rank, comm, stream);
        done(comm);
        ncclRecv(x + 8, 4, ncclFloat32, 1 - rank, comm, stream);
        done(comm);
    });
    /* between two processes the order of the calls counts */
    CAUGHT("ncclSend(4 float32, to 1)|ncclRecv(8 float32, from 0)", {
        ncclGroupStart();
        for (int i = 0; i < 2; i++)
            if (rank == 0)
                ncclSend(x + 16 * i, i ? 8 : 4, ncclFloat32, 1, comm, stream);
            else
                ncclRecv(x + 16 * i, i ? 4 : 8, ncclFloat32, 0, comm, stream);
        ncclGroupEnd();
        done(comm);
    });
}

/* Memory ------------------------------------------------------------------------------------------------- */

static void memory(void **state)
{
    (void)state;
    CAUGHT("no device memory|that it reads", {
        static float host[4];
        ncclSend(host, 4, ncclFloat32, 1 - rank, comm, stream);
    });
    CAUGHT("ncclRecv(65 float32|260 bytes that it writes|not all inside of one allocation|256 bytes",
           ncclRecv(x, 65, ncclFloat32, 1 - rank, comm, stream););
    CAUGHT("ncclAllGather(40 float32)|320 bytes that it writes|not all inside",
           ncclAllGather(x, x, 40, ncclFloat32, comm, stream););
    CAUGHT("not aligned", ncclSend((char *)x + 2, 4, ncclFloat32, 1 - rank, comm, stream););
    CAUGHT("has been freed", {
        float *y = numbers(4);
        cudaFree(y);
        ncclSend(y, 4, ncclFloat32, 1 - rank, comm, stream);
    });
    CAUGHT("has been freed", {
        float *y = numbers(4);
        ncclBroadcast(y, y, 4, ncclFloat32, 0, comm, stream);
        cudaFree(y); /* before NCCL's own thread has put it into the stream */
        done(comm);
    });
    CAUGHT("ncclRecv(4 float32|writes what ncclSend(4 float32", {
        ncclGroupStart();
        ncclSend(x, 4, ncclFloat32, 1 - rank, comm, stream);
        ncclRecv(x + 3, 4, ncclFloat32, 1 - rank, comm, stream);
        ncclGroupEnd();
    });
    CAUGHT("ncclAllGather(4 float32) writes what it of the same group uses",
           ncclAllGather(x + 1, x, 4, ncclFloat32, comm, stream););
    CAUGHT("ncclBroadcast(4 float32, root 0) writes what it", {
        ncclBroadcast(x + 1, x, 4, ncclFloat32, 0, comm, stream);
        done(comm);
    });
}

/* Streams and states ------------------------------------------------------------------------------------- */

static void streams(void **state)
{
    (void)state;
    CAUGHT("in a second stream", {
        cudaStream_t second;
        cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        done(comm);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, second);
    });
    CAUGHT("ncclBroadcast: rank|is captured", {
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    });
    CAUGHT("is no stream", ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, (cudaStream_t)x););
    /* read before NCCL has put the work into the stream: what nobody has written */
    CAUGHT("nobody has written it", {
        float host;
        if (rank == 0)
            set(x, 1, 4);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        cudaMemcpyAsync(&host, x, sizeof host, cudaMemcpyDeviceToHost, stream);
        if (rank == 1 && host != 1) {
            fprintf(stderr, "nobody has written it\n");
            abort();
        }
        done(comm);
    });
    CAUGHT("the host waits for the stream of rank 0, and rank 1 is gone", {
        if (rank == 1)
            _exit(0);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        taken_up(comm);
        cudaStreamSynchronize(stream);
    });
}

static void states(void **state)
{
    (void)state;
    CAUGHT("still at what it was asked before", {
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    });
    CAUGHT("ncclBroadcast: rank|has been aborted", {
        ncclCommAbort(comm);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    });
    CAUGHT("ncclCommGetAsyncError: rank|has been destroyed", {
        leave(comm);
        taken_up(comm);
    });
    CAUGHT("still has work in its stream", {
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        taken_up(comm);
        ncclCommDestroy(comm);
    });
    CAUGHT("has been finalized", {
        ncclCommFinalize(comm);
        taken_up(comm);
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    });
    CAUGHT("without ncclGroupStart()", ncclGroupEnd(););
    CAUGHT("calls of two communicators", {
        ncclComm_t second;
        ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0};
        id.internal[20] = 'x';
        ncclCommInitRankConfig(&second, 2, id, rank, &config);
        taken_up(second);
        ncclGroupStart();
        ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
        ncclBroadcast(x + 8, x + 8, 4, ncclFloat32, 0, second, stream);
    });
}

static void joining(void **state)
{
    (void)state;
    fails_with([] { two([](int rank) { (void)rank, join(0); }); }, "two processes join as rank 0");
    fails_with(
        [] {
            two([](int rank) {
                ncclComm_t comm;
                ncclConfig_t config = {sizeof config, NCCL_CONFIG_MAGIC, NCCL_CONFIG_VERSION, 0};
                ncclCommInitRankConfig(&comm, 2 + rank, id, rank, &config);
                taken_up(comm);
            });
        },
        "joins a communicator of ");
    fails_with(
        [] {
            memset(&id, 0, sizeof id);
            join(0);
        },
        "the id is empty");
}

/* What is asked for -------------------------------------------------------------------------------------- */

/* An abort ends what waits in the stream, and nobody has its result. */
static void aborted(int rank)
{
    ncclComm_t comm = join(rank);
    if (rank == 1)
        _exit(0);
    float *x = numbers(4), host[4];
    set(x, 1, 4);
    ncclBroadcast(x, x, 4, ncclFloat32, 1, comm, stream);
    taken_up(comm);
    for (int i = 0; i < 100; i++) {
        need(cudaStreamQuery(stream) == cudaErrorNotReady);
        usleep(1000);
    }
    ncclCommAbort(comm);
    need(cudaStreamQuery(stream) == cudaSuccess);
    need(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    need(host[0] != host[0]);
}

static void wished(int rank)
{
    ncclComm_t comm = join(rank);
    ncclResult_t now;
    float *x = numbers(4), host[4];
    set(x, 1, 4);
    ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    done(comm);
    are(x, 1, 1, 4);
    ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    done(comm);
    need(cudaMemcpyAsync(host, x, sizeof host, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    need(host[0] != 1);
    need(ncclSend(x, 4, ncclFloat32, 1, comm, stream) == ncclSystemError);
    ncclGroupStart();
    need(ncclRecv(x, 4, ncclFloat32, 1, comm, stream) == ncclInternalError);
    need(ncclGroupEnd() == ncclInternalError);
    ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
    taken_up(comm);
    for (int i = 0; i < 100; i++) {
        need(cudaStreamQuery(stream) == cudaErrorNotReady); /* nothing moves */
        usleep(1000);
    }
    ncclCommGetAsyncError(comm, &now);
    need(now == ncclSuccess);
    ncclCommAbort(comm);
}

static int run(void (*what)(int rank))
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        two(what);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

static void asked_for(void **state)
{
    (void)state;
    assert_int_equal(run(aborted), 0);
    setenv("ATELIER_STAND_IN_NCCL", "wrong:2,mute:3,delay:5", 1);
    setenv("ATELIER_STAND_IN_FAIL", "ncclSend:1,ncclRecv:1:3", 1);
    assert_int_equal(run(wished), 0);
    unsetenv("ATELIER_STAND_IN_FAIL");
    setenv("ATELIER_STAND_IN_NCCL", "notices,dies:2:1", 1);
    CAUGHT("state 6", {
        for (int i = 0; i < 2; i++) {
            ncclBroadcast(x, x, 4, ncclFloat32, 0, comm, stream);
            done(comm);
        }
    });
    unsetenv("ATELIER_STAND_IN_NCCL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right),   cmocka_unit_test(unlike),    cmocka_unit_test(unlike_sends),
        cmocka_unit_test(memory),  cmocka_unit_test(streams),   cmocka_unit_test(states),
        cmocka_unit_test(joining), cmocka_unit_test(asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
