/* Blocks between processes with a GPU each, by NCCL: on the stand-ins of the GPU and of NCCL, or on as many
 * GPUs as there are. Breaks if numbers arrive that were not sent, or sums that are none; if a process that is
 * killed, stopped or fails keeps the others; or if what is wrong is not said.
 *
 * The program starts itself once for each process, with the name of what they are to do. */
#include "kernels/comm/transport.h"
#include "gpu_processes.h"

#include <dlfcn.h>

static Status gather(Comm *c, Tensor *block, const int64_t *at)
{
    TRY(set(block, c->rank));
    TRY(comm_all_gather(c, block, at));
    TRY(tensor_get(block, host, DTYPE_F32));
    for (int r = 0; r < c->size; r++)
        for (int64_t i = at[r]; i < at[r + 1]; i++)
            CHECK(host[i] == value(r, i));
    return STATUS_OK;
}

/* In the order of ranks on the stand-in, so the same bytes as a plain sum; NCCL's own order is its own. */
static Status scatter(Comm *c, Tensor *block, const int64_t *at)
{
    TRY(set(block, c->rank));
    TRY(comm_reduce_scatter(c, block, at));
    TRY(tensor_get(block, host, DTYPE_F32));
    for (int64_t i = at[c->rank]; i < at[c->rank + 1]; i++) {
        float sum = value(0, i);
        for (int r = 1; r < c->size; r++)
            sum += value(r, i);
        CHECK(stand_in() ? host[i] == sum : fabsf(host[i] - sum) < 1e-4F * (float)(100 * c->size));
    }
    return STATUS_OK;
}

/* How many numbers process a sends b in its k-th part; nothing now and then. */
static int64_t part_of(int a, int b, int k, int64_t n)
{
    const int64_t mix = (int64_t)a * 7 + b * 3 + k * 5;
    return mix % 4 == 0 ? 0 : 1 + mix * 13 % n;
}

/* Everybody sends everybody some parts of its block, which are computed on the device just before, and adds 1
 * to what has arrived just behind. */
static Status exchange(Comm *c, const Device *dev, int64_t n)
{
    CommPart sends[MOST * PARTS], receives[MOST * PARTS];
    Tensor *from = tensor_new_on(dev, DTYPE_F32, 1, &n), *ones = tensor_new_on(dev, DTYPE_F32, 1, &n);
    const int64_t room = n * c->size * PARTS;
    Tensor *to = tensor_new_on(dev, DTYPE_F32, 1, &room);
    int count = 0;
    CHECK(from && ones && to);
    TRY(set(from, c->rank));
    TRY(dev->fill(ones, 1));
    TRY(dev->add(from, ones, from));
    TRY(dev->clear(to->data, (size_t)room * sizeof(float)));
    for (int r = 0; r < c->size; r++)
        for (int k = 0; k < PARTS && r != c->rank; k++) {
            sends[count] =
                (CommPart){r, (float *)from->data + k, (size_t)part_of(c->rank, r, k, n - k) * sizeof(float)};
            receives[count] = (CommPart){r, (float *)to->data + (r * PARTS + k) * n,
                                         (size_t)part_of(r, c->rank, k, n - k) * sizeof(float)};
            count++;
        }
    TRY(comm_exchange(c, sends, count, receives, count));
    Tensor *first = tensor_view(to, 0, 1, &n);
    TRY(dev->add(first, ones, first));
    TRY(tensor_get(to, host, DTYPE_F32));
    for (int r = 0; r < c->size; r++)
        for (int k = 0; k < PARTS; k++)
            for (int64_t i = 0; i < n; i++) {
                const bool came = r != c->rank && i < part_of(r, c->rank, k, n - k);
                const float arrived = came ? value(r, i + k) + 1 : 0;
                CHECK(host[(r * PARTS + k) * n + i] == arrived + (r == 0 && k == 0 ? 1 : 0));
            }
    tensor_free(first), tensor_free(from), tensor_free(ones), tensor_free(to);
    return STATUS_OK;
}

/* Sizes: one number each, odd, and what no socket takes at once. */
static Status blocks(Comm *c, const Device *dev)
{
    const int64_t sizes[] = {c->size, 1 + 2 * c->size, 1001, LARGEST};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &sizes[i]);
        CHECK(block);
        for (int way = 0; way < WAYS; way++) {
            int64_t at[MOST + 1];
            share_out(way, c->size, sizes[i], at);
            TRY(status_in(gather(c, block, at), "gather, %d numbers, way %d", (int)sizes[i], way));
            TRY(status_in(scatter(c, block, at), "scatter, %d numbers, way %d", (int)sizes[i], way));
        }
        tensor_free(block);
        TRY(status_in(exchange(c, dev, sizes[i] + PARTS), "exchange, %d numbers", (int)sizes[i]));
    }
    return STATUS_OK;
}

/* Until somebody fails. */
static Status go_on(Comm *c, const Device *dev)
{
    const int64_t n = 10001;
    int64_t at[MOST + 1];
    Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &n);
    share_out(1, c->size, n, at);
    Status s = block ? STATUS_OK : STATUS_FAILED;
    for (int turn = 0; s == STATUS_OK && turn < 50; turn++)
        s = gather(c, block, at);
    tensor_free(block);
    return s;
}

/* Process 1 does no more after some turns. */
static Status dies(Comm *c, const Device *dev)
{
    TRY(exchange(c, dev, 100));
    if (c->rank == 1)
        raise(SIGKILL);
    return go_on(c, dev);
}

static Status fails_itself(Comm *c, const Device *dev)
{
    TRY(exchange(c, dev, 100));
    return c->rank == 1 ? status_fail("out of luck") : go_on(c, dev);
}

/* A step has nothing of NCCL in it. */
static Status recorded(Comm *c, const Device *dev)
{
    void *recording = NULL;
    const int64_t n = 64;
    Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &n);
    const int64_t at[] = {0, 32, 64};
    CHECK(block);
    TRY(dev->record(&recording));
    TRY(dev->fill(block, 1));
    CHECK(comm_all_gather(c, block, at) == STATUS_FAILED && strstr(status_message(), "recorded"));
    bool again;
    TRY(dev->recorded(&recording, &again));
    TRY(dev->settle());
    TRY(comm_all_gather(c, block, at));
    dev->forget(recording);
    tensor_free(block);
    return STATUS_OK;
}

static Status nothing(Comm *c, const Device *dev)
{
    (void)c, (void)dev;
    return STATUS_OK;
}

static const Work WORKS[] = {
    {"blocks", blocks},     {"go_on", go_on},     {"dies", dies}, {"fails", fails_itself},
    {"recorded", recorded}, {"nothing", nothing}, {NULL, NULL}};

/* Tests -------------------------------------------------------------------------------------------------- */

static void numbers(void **state)
{
    (void)state;
    const int gpus = device_cuda_count();
    const char *why;
    if (!device_cuda_nccl(&why)) {
        print_message("%s\n", why);
        skip();
    }
    for (int size = 2; size <= MOST && size <= gpus; size++) {
        RUN(size, -1, "blocks", "A=");
        for (int r = 0; r < size; r++)
            ended(r, 0, "over nccl 2.|done");
    }
}

/* On one GPU too: that the library is there, starts, and carries. */
static void alone(void **state)
{
    (void)state;
    const Device *dev = device_cuda("cuda:0");
    Comm c = {.size = 1, .local_size = 1};
    char version[80];
    void *own;
    const int64_t n = 1001, at[] = {0, n};
    assert_non_null(dev);
    const CommTransport *t = dev->transport;
    if (t->hindrance(&c))
        skip();
    assert_int_equal(t->open(&c, dev, &own, version, sizeof version), STATUS_OK);
    print_message("%s, %d GPUs\n", version, device_cuda_count());
    Tensor *block = tensor_new_on(dev, DTYPE_F32, 1, &n), *copy = tensor_new_on(dev, DTYPE_F32, 1, &n);
    assert_int_equal(set(block, 0), STATUS_OK);
    assert_int_equal(t->reduce_scatter(&c, own, block->data, at), STATUS_OK);
    assert_int_equal(t->all_gather(&c, own, block->data, at), STATUS_OK);
    const CommPart from = {0, block->data, 4004}, to = {0, copy->data, 4004};
    assert_int_equal(t->exchange(&c, own, &from, 1, &to, 1), STATUS_OK);
    assert_int_equal(tensor_get(copy, host, DTYPE_F32), STATUS_OK);
    for (int i = 0; i < 1001; i++)
        assert_true(host[i] == value(0, i));
    void *first, *second; /* one behind the other, and on computed numbers */
    const CommPart next = {0, (float *)block->data + 1, 4000}, there = {0, copy->data, 4000};
    assert_int_equal(t->begin(&c, own, &from, 1, &to, 1, &first), STATUS_OK);
    assert_int_equal(dev->add(block, block, block), STATUS_OK);
    assert_int_equal(t->begin(&c, own, &next, 1, &there, 1, &second), STATUS_OK);
    assert_int_equal(t->progress(&c, own, first), STATUS_OK);
    assert_int_equal(t->end(&c, own, first), STATUS_OK);
    assert_int_equal(t->end(&c, own, second), STATUS_OK);
    assert_int_equal(tensor_get(copy, host, DTYPE_F32), STATUS_OK);
    for (int i = 0; i < 1000; i++)
        assert_true(host[i] == 2 * value(0, i + 1));
    t->close(own, false);
    tensor_free(block), tensor_free(copy);
}

static void not_in_a_step(void **state)
{
    (void)state;
    if (device_cuda_count() < 2)
        skip();
    RUN(2, -1, "recorded", "A=");
    ended(0, 0, "done");
    ended(1, 0, "done");
}

/* Ends of others ------------------------------------------------------------------------------------------
 */

static void killed(void **state)
{
    (void)state;
    if (device_cuda_count() < 2)
        skip();
    RUN(2, -1, "dies", "A=");
    ended(0, 1, "process 1 of 2|has ended without a word");
    assert_true(WIFSIGNALED(processes[1].status));
    RUN(2, -1, "fails", "A=");
    ended(0, 1, "process 1 of 2|out of luck");
    ended(1, 1, "out of luck");
    if (!stand_in())
        return;
    /* in the middle of what the GPUs do, whether NCCL sees it or not */
    RUN(3, -1, "go_on", "ATELIER_STAND_IN_NCCL=dies:4:1");
    ended(0, 1, "process 1 of 3|has ended without a word");
    ended(2, 1, "process 1 of 3|has ended without a word");
    RUN(2, -1, "go_on", "ATELIER_STAND_IN_NCCL=dies:4:0,notices,delay:5");
    ended(1, 1, "process 0 of 2|has ended without a word");
}

static void late(void **state)
{
    (void)state;
    if (!stand_in())
        skip();
    RUN(2, 1, "go_on", "ATELIER_STAND_IN_NCCL=stops:4:1", "TEST_TIMEOUT=1");
    ended(0, 1, "process 1 of 2|has not been heard of for 1 seconds");
    /* slow is not gone */
    RUN(2, -1, "go_on", "ATELIER_STAND_IN_NCCL=delay:30:1", "TEST_TIMEOUT=2");
    ended(0, 0, "done");
    RUN(2, -1, "go_on", "ATELIER_STAND_IN_NCCL=mute:4", "TEST_TIMEOUT=1");
    ended(0, 1,
          "gathering a block from all GPUs: all processes have been waiting for NCCL "
          "2.28.3|NCCL_P2P_DISABLE=1");
    ended(1, 1, "process 0 of 2|all processes have been waiting for NCCL");
    RUN(2, -1, "nothing", "ATELIER_STAND_IN_NCCL=hides:0:1", "TEST_TIMEOUT=1");
    ended(0, 1, "joining the processes' GPUs: all processes have been waiting for NCCL 2.28.3");
}

/* NCCL's own failures -------------------------------------------------------------------------------------
 */

static void failures(void **state)
{
    (void)state;
    if (!stand_in())
        skip();
    RUN(2, -1, "nothing", "1:ATELIER_STAND_IN_FAIL=ncclCommInitRankConfig:1");
    ended(1, 1,
          "joining the processes' GPUs, by NCCL 2.28.3: unhandled system error|asked to "
          "fail|/dev/shm|NCCL_DEBUG");
    ended(0, 1, "process 1 of 2|joining the processes' GPUs, by NCCL 2.28.3: unhandled system error");
    RUN(2, -1, "nothing", "0:ATELIER_STAND_IN_FAIL=ncclGetUniqueId:1:3");
    ended(0, 1, "joining the processes' GPUs, by NCCL 2.28.3: internal error");
    ended(1, 1, "process 0 of 2|internal error");
    RUN(2, -1, "nothing", "1:ATELIER_STAND_IN_FAIL=ncclCommGetAsyncError:2:1");
    ended(1, 1, "joining the processes' GPUs, by NCCL 2.28.3: unhandled cuda error|NCCL_P2P_DISABLE=1");
    ended(0, 1, "process 1 of 2|unhandled cuda error");
    RUN(2, -1, "go_on", "0:ATELIER_STAND_IN_FAIL=ncclGroupEnd:4");
    ended(0, 1, "gathering a block from all GPUs, by NCCL 2.28.3: unhandled system error");
    ended(1, 1, "process 0 of 2|gathering a block from all GPUs, by NCCL 2.28.3");
    RUN(2, -1, "go_on", "1:ATELIER_STAND_IN_FAIL=ncclBroadcast:5:4");
    ended(1, 1, "gathering a block from all GPUs, by NCCL 2.28.3: invalid argument");
    ended(0, 1, "process 1 of 2|invalid argument");
    RUN(2, -1, "go_on", "1:ATELIER_STAND_IN_FAIL=ncclCommGetAsyncError:40:6");
    ended(1, 1, "remote process exited or there was a network error");
    ended(0, 1, "process 1 of 2|remote process exited");
    RUN(2, -1, "go_on", "1:ATELIER_STAND_IN_FAIL=cudaStreamQuery:9");
    ended(1, 1, "CUDA, gathering a block from all GPUs: ");
    ended(0, 1, "process 1 of 2|CUDA, gathering a block from all GPUs: ");
    RUN(2, -1, "nothing", "1:ATELIER_STAND_IN_NCCL=wrong:1");
    ended(1, 1, "NCCL 2.28.3 delivers wrong numbers|NCCL_P2P_DISABLE=1");
    ended(0, 1, "process 1 of 2|delivers wrong numbers");
    RUN(2, -1, "nothing", "0:ATELIER_STAND_IN_FAIL=cudaMalloc:1");
    ended(0, 1, "out of memory on the GPU");
    ended(1, 1, "process 0 of 2|out of memory on the GPU");
    RUN(2, -1, "blocks", "ATELIER_STAND_IN_FAIL=ncclCommFinalize:1"); /* it is over anyway */
    ended(0, 0, "done");
    ended(1, 0, "done");
}

static void refused(void **state)
{
    (void)state;
    if (!stand_in())
        skip();
    RUN(3, -1, "nothing", "TEST_ONE_GPU=1");
    for (int r = 0; r < 3; r++)
        ended(r, 2, "process 0 of 3|process 1 of 3|compute on one GPU, GPU-6174656c-|train.device");
    RUN(2, -1, "nothing", "1:ATELIER_STAND_IN_NCCL_VERSION=22005");
    for (int r = 0; r < 2; r++)
        ended(r, 2, "has NCCL 2.20.5|has 2.28.3|install the same");
    /* without NCCL blocks still travel, which is said */
    RUN(2, -1, "blocks", "ATELIER_STAND_IN_NCCL_VERSION=2804");
    for (int r = 0; r < 2; r++)
        ended(r, 0, "warning: |not by nccl: NCCL 2.8.4 (|libnccl.so.2) is too old: 2.14|over sockets|done");
    RUN(2, -1, "nothing", "ATELIER_STAND_IN_NCCL_VERSION=21403");
    ended(0, 0, "over nccl 2.14.3");
    RUN(2, -1, "blocks", "1:ATELIER_NCCL=/nowhere/libnccl.so.2");
    ended(1, 0, "NCCL cannot be loaded: /nowhere/libnccl.so.2: cannot open|over sockets|done");
    ended(0, 0, "another process cannot|over sockets|done");
    RUN(2, -1, "nothing", "ATELIER_NCCL=libpng16.so.16");
    ended(0, 0, "is no NCCL that can be used: it has no ncclGetVersion");
}

/* Where the library is: LD_LIBRARY_PATH, and the folders that pip puts it into, though another file has its
 * name. */
static void found(void **state)
{
    (void)state;
    const char *file = getenv("ATELIER_NCCL");
    char folder[] = "/tmp/atelier-nccl-XXXXXX", command[8192], loader[2][4096], python[4096];
    Dl_info other;
    if (!stand_in())
        skip();
    assert_non_null(mkdtemp(folder));
    assert_true(dladdr((void *)tensor_count, &other));
    snprintf(
        command, sizeof command,
        "d=%s/lib/python3.12/site-packages/nvidia/nccl/lib && mkdir -p $d && ln -s '%s' $d/libnccl.so.2 && "
        "ln -s '%s' %s/libnccl.so.2",
        folder, file, other.dli_fname, folder);
    assert_int_equal(system(command), 0);
    snprintf(python, sizeof python, "VIRTUAL_ENV=%s", folder);
    snprintf(loader[0], sizeof loader[0], "LD_LIBRARY_PATH=%.*s", (int)(strrchr(file, '/') - file), file);
    snprintf(loader[1], sizeof loader[1], "LD_LIBRARY_PATH=%s", folder);
    for (int i = 0; i < 2; i++) {
        RUN(2, -1, "nothing", "ATELIER_NCCL=", loader[i], i ? python : "A=");
        ended(0, 0, "over nccl 2.28.3");
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(int count, char **words)
{
    own_path = words[0];
    if (count > 1 && getenv("RANK"))
        return be_process(words[1], WORKS);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(alone), cmocka_unit_test(not_in_a_step),
        cmocka_unit_test(killed),  cmocka_unit_test(late),  cmocka_unit_test(failures),
        cmocka_unit_test(refused), cmocka_unit_test(found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
