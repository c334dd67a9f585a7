/* Sums between processes with a GPU each that go on while others of their parts are computed, by NCCL: on the
 * stand-ins of the GPU and of NCCL, or on as many GPUs as there are. Breaks if a sum has what was not
 * computed yet, or lacks something; if an end of another process, or a failure, keeps those whose sums are
 * under way; or if what is wrong is not said. */
#include "kernels/comm/state.h"
#include "gpu_processes.h"

/* What a process does ------------------------------------------------------------------------------------ */

/* The last part of the block first, as a backward pass does: each is computed on the device, and is on its
 * way. */
enum { BUCKETS = 5 };
static Status let_go(Comm *c, const Device *dev, Tensor *block, Tensor *ones, const int64_t *at)
{
    const int64_t n = tensor_count(block);
    for (int k = BUCKETS; k-- > 0;) {
        const int64_t first = n * k / BUCKETS, end = n * (k + 1) / BUCKETS, count = end - first;
        Tensor *part = tensor_view(block, first, 1, &count), *one = tensor_view(ones, first, 1, &count);
        CHECK(part && one);
        if (count)
            TRY(dev->add(part, one, part));
        tensor_free(part), tensor_free(one);
        TRY(comm_sum_begin(c, block, at, first, end));
        TRY(comm_sum_progress(c));
    }
    return STATUS_OK;
}

/* This process's numbers, then the others' by rank: the same bytes on any GPU. */
static float sum_of(const Comm *c, int64_t i)
{
    float sum = value(c->rank, i) + 1;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank)
            sum += value(r, i) + 1;
    return sum;
}

static Status sum_early(Comm *c, const Device *dev, Tensor *block, Tensor *ones, const int64_t *at)
{
    TRY(set(block, c->rank));
    TRY(dev->fill(ones, 1));
    TRY(let_go(c, dev, block, ones, at));
    TRY(comm_sum_finish(c));
    TRY(tensor_get(block, host, DTYPE_F32));
    for (int64_t i = at[c->rank]; i < at[c->rank + 1]; i++)
        CHECK(host[i] == sum_of(c, i));
    return STATUS_OK;
}

static Status sums(Comm *c, const Device *dev)
{
    const int64_t sizes[] = {c->size, 1001, LARGEST};
    CHECK(comm_overlaps(c));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &sizes[i]),
               *ones = tensor_new_on(dev, DTYPE_F32, 1, &sizes[i]);
        CHECK(block && ones);
        for (int way = 0; way < 2 * WAYS; way++) {
            int64_t at[MOST + 1];
            share_out(way % WAYS, c->size, sizes[i], at);
            TRY(status_in(sum_early(c, dev, block, ones, at), "%d numbers, way %d", (int)sizes[i], way));
        }
        tensor_free(block), tensor_free(ones);
    }
    return STATUS_OK;
}

/* Where GPUs share their machine's network, NCCL's ring is the better way. */
static Status machines(Comm *c, const Device *dev)
{
    static const struct {
        const char *hosts; /* a letter each */
        bool overlaps;
    } cases[] = {{"aaa", true}, {"aab", false}, {"aba", false}, {"abc", true}};
    (void)dev;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int r = 0; r < c->size; r++)
            snprintf(c->state->cards[r].host, sizeof c->state->cards[r].host, "%c", cases[i].hosts[r]);
        CHECK(comm_overlaps(c) == cases[i].overlaps);
    }
    return STATUS_OK;
}

/* Until somebody fails. What they are in goes before the control is closed, as a run's memory does. */
static Status sums_until(Comm *c, const Device *dev,
                         Status (*one)(Comm *, const Device *, Tensor *, Tensor *, const int64_t *))
{
    const int64_t n = 10001;
    int64_t at[MOST + 1];
    Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &n), *ones = tensor_new_on(dev, DTYPE_F32, 1, &n);
    share_out(1, c->size, n, at);
    Status s = block && ones ? STATUS_OK : STATUS_FAILED;
    for (int turn = 0; s == STATUS_OK && turn < 20; turn++)
        s = one(c, dev, block, ones, at);
    tensor_free(block), tensor_free(ones);
    return s;
}

static Status sums_go_on(Comm *c, const Device *dev)
{
    return sums_until(c, dev, sum_early);
}

/* Process 1 does no more while the others' sums are under way. */
static Status one_dies(Comm *c, const Device *dev, Tensor *block, Tensor *ones, const int64_t *at)
{
    TRY(sum_early(c, dev, block, ones, at));
    TRY(let_go(c, dev, block, ones, at));
    if (c->rank == 1)
        raise(SIGKILL);
    TRY(let_go(c, dev, block, ones, at));
    return comm_sum_finish(c);
}

static Status one_fails(Comm *c, const Device *dev, Tensor *block, Tensor *ones, const int64_t *at)
{
    TRY(sum_early(c, dev, block, ones, at));
    return comm_agree(c, c->rank == 1 ? status_fail("out of luck") : let_go(c, dev, block, ones, at));
}

static Status sums_die(Comm *c, const Device *dev)
{
    return sums_until(c, dev, one_dies);
}

static Status sums_fail(Comm *c, const Device *dev)
{
    return sums_until(c, dev, one_fails);
}

static Status nothing(Comm *c, const Device *dev)
{
    (void)c, (void)dev;
    return STATUS_OK;
}

static const Work WORKS[] = {{"sums", sums},
                             {"machines", machines},
                             {"sums_go_on", sums_go_on},
                             {"sums_die", sums_die},
                             {"sums_fail", sums_fail},
                             {"nothing", nothing},
                             {NULL, NULL}};

/* Tests -------------------------------------------------------------------------------------------------- */

/* Sums that go on while others of their parts are computed; on the stand-in, in other orders of the two
 * streams. */
static void early_sums(void **state)
{
    (void)state;
    const int gpus = device_cuda_count();
    const char *why;
    if (!device_cuda_nccl(&why))
        skip();
    for (int size = 2; size <= MOST && size <= gpus; size++)
        for (int seed = 1; seed <= (stand_in() ? 3 : 1); seed++) {
            char order[64];
            snprintf(order, sizeof order, "ATELIER_STAND_IN_SEED=%d", seed);
            RUN(size, -1, "sums", order);
            for (int r = 0; r < size; r++)
                ended(r, 0, "over nccl 2.|done");
        }
    if (gpus < 3)
        return;
    RUN(3, -1, "machines", "A=");
    for (int r = 0; r < 3; r++)
        ended(r, 0, "done");
}

static void killed(void **state)
{
    (void)state;
    if (device_cuda_count() < 2)
        skip();
    RUN(2, -1, "sums_die", "A=");
    ended(0, 1, "process 1 of 2|has ended without a word");
    RUN(2, -1, "sums_fail", "A=");
    ended(0, 1, "process 1 of 2|out of luck");
    ended(1, 1, "out of luck");
    if (!stand_in())
        return;
    /* in the middle of what the GPUs do, whether NCCL sees it or not */
    RUN(3, -1, "sums_go_on", "ATELIER_STAND_IN_NCCL=dies:4:1");
    ended(0, 1, "process 1 of 3|has ended without a word");
    ended(2, 1, "process 1 of 3|has ended without a word");
    RUN(2, -1, "sums_go_on", "ATELIER_STAND_IN_NCCL=dies:4:0,notices,delay:5");
    ended(1, 1, "process 0 of 2|has ended without a word");
}

static void late(void **state)
{
    (void)state;
    if (!stand_in())
        skip();
    RUN(2, 1, "sums_go_on", "ATELIER_STAND_IN_NCCL=stops:4:1", "TEST_TIMEOUT=1");
    ended(0, 1, "process 1 of 2|has not been heard of for 1 seconds");
    RUN(2, -1, "sums_go_on", "ATELIER_STAND_IN_NCCL=mute:4", "TEST_TIMEOUT=1");
    ended(0, 1, "beside the computing: all processes have been waiting for NCCL 2.28.3|NCCL_P2P_DISABLE=1");
}

static void failures(void **state)
{
    (void)state;
    if (!stand_in())
        skip();
    RUN(2, -1, "sums_go_on", "0:ATELIER_STAND_IN_FAIL=ncclGroupEnd:4");
    ended(0, 1,
          "exchanging blocks between GPUs beside the computing, by NCCL 2.28.3: unhandled system error");
    ended(1, 1, "process 0 of 2|beside the computing, by NCCL 2.28.3");
    RUN(2, -1, "sums_go_on", "1:ATELIER_STAND_IN_FAIL=ncclCommGetAsyncError:60:6");
    ended(1, 1, "remote process exited or there was a network error");
    ended(0, 1, "process 1 of 2|remote process exited");
    const char *const calls[] = {"cudaEventRecord:9", "cudaStreamWaitEvent:6", "cudaEventQuery:9",
                                 "cudaEventCreateWithFlags:7"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char fails[96];
        snprintf(fails, sizeof fails, "1:ATELIER_STAND_IN_FAIL=%s", calls[i]);
        RUN(2, -1, "sums_go_on", fails);
        ended(1, 1,
              i < 3 ? "CUDA, exchanging blocks between GPUs beside the computing: "
                    : "CUDA, making an event: ");
        ended(0, 1, "process 1 of 2|CUDA, ");
    }
    RUN(2, -1, "nothing", "0:ATELIER_STAND_IN_FAIL=cudaStreamCreateWithFlags:2");
    ended(0, 1, "CUDA, making a stream: ");
    ended(1, 1, "process 0 of 2|CUDA, making a stream: ");
}

int main(int count, char **words)
{
    own_path = words[0];
    if (count > 1 && getenv("RANK"))
        return be_process(words[1], WORKS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(early_sums),
        cmocka_unit_test(killed),
        cmocka_unit_test(late),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
