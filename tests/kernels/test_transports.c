/* Blocks between real processes, over sockets and over MPI. Breaks if a number comes to the wrong place or
 * not at all, whatever the size; if a sum leaves one out; or if the others do not end, with who and what,
 * when one of them is killed in the middle of a call, is stopped, or fails.
 *
 * The program starts itself: `test_transports WORK TRANSPORT` is one of the processes. Over MPI it needs
 * mpirun (scripts/setup --mpi), and says so where that is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/mem.h"
#include "kernels/comm/comm.h"
#include "kernels/device.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 4
#define LARGE (((int64_t)64 << 20) / 4 + 4099) /* numbers: more than one piece of kernels/comm/mpi.c */
#define PATIENCE 120.0                         /* seconds; far more than a loaded machine takes */
#define HANGS 8.0                              /* where waiting for it is the test */

/* What the processes do --------------------------------------------------------------------------------- */

static Comm *comm;

static Status wrong(const char *what, int64_t i, double is, double wanted)
{
    return status_fail("%s: number %lld is %g, not %g", what, (long long)i, is, wanted);
}

/* Different for each process and place, and exact in f32. */
static float value_of(int rank, int64_t i)
{
    return (float)((i * 7 + rank * 1009) % 65521);
}

/* Slices of n numbers, uneven, some of them empty. */
static void cut(int64_t n, int64_t *at)
{
    at[0] = 0;
    for (int r = 1; r <= comm->size; r++)
        at[r] = r == comm->size ? n : r == 1 ? n / 3 : at[r - 1] + (n - at[r - 1]) / (r + 1);
}

static Status gather(int64_t n)
{
    int64_t at[MOST + 1];
    cut(n, at);
    Tensor *t = tensor_new_on(device_cpu(), DTYPE_F32, 1, (int64_t[]){n > 0 ? n : 1});
    if (!t)
        return STATUS_FAILED;
    float *x = t->data;
    for (int64_t i = at[comm->rank]; i < at[comm->rank + 1]; i++)
        x[i] = value_of(comm->rank, i);
    Status s = comm_all_gather(comm, t, at);
    for (int r = 0; r < comm->size; r++)
        for (int64_t i = at[r]; s == STATUS_OK && i < at[r + 1]; i++)
            if (x[i] != value_of(r, i))
                s = wrong("all-gather", i, x[i], value_of(r, i));
    tensor_free(t);
    return s;
}

static Status sum(int64_t n)
{
    int64_t at[MOST + 1];
    cut(n, at);
    Tensor *t = tensor_new_on(device_cpu(), DTYPE_F32, 1, (int64_t[]){n > 0 ? n : 1});
    if (!t)
        return STATUS_FAILED;
    float *x = t->data;
    for (int64_t i = 0; i < n; i++)
        x[i] = value_of(comm->rank, i);
    Status s = comm_reduce_scatter(comm, t, at);
    for (int64_t i = at[comm->rank]; s == STATUS_OK && i < at[comm->rank + 1]; i++) {
        float wanted = 0;
        for (int r = 0; r < comm->size; r++)
            wanted += value_of(r, i);
        if (x[i] != wanted)
            s = wrong("reduce-scatter", i, x[i], wanted);
    }
    tensor_free(t);
    return s;
}

/* Each sends each two parts, n numbers and one more, which have to come in that order. */
static Status swap(int64_t n)
{
    CommPart send[2 * MOST], receive[2 * MOST];
    const int64_t room = n + 1;
    const size_t bytes[2] = {(size_t)n * sizeof(float), sizeof(float)};
    float *out = mem_alloc((size_t)(room * comm->size) * sizeof *out);
    float *in = mem_calloc((size_t)(room * comm->size), sizeof *in);
    Status s = out && in ? STATUS_OK : STATUS_FAILED;
    int count = 0;
    for (int r = 0; r < comm->size && s == STATUS_OK; r++) {
        for (int64_t i = 0; i < room; i++)
            out[r * room + i] = value_of(comm->rank * MOST + r, i);
        for (int k = 0; k < 2 && r != comm->rank; k++, count++) {
            send[count] = (CommPart){r, out + r * room + k * n, bytes[k]};
            receive[count] = (CommPart){r, in + r * room + k * n, bytes[k]};
        }
    }
    if (s == STATUS_OK)
        s = comm_exchange(comm, send, count, receive, count);
    for (int r = 0; r < comm->size; r++)
        for (int64_t i = 0; i < room && s == STATUS_OK && r != comm->rank; i++)
            if (in[r * room + i] != value_of(r * MOST + comm->rank, i))
                s = wrong("exchange", i, in[r * room + i], value_of(r * MOST + comm->rank, i));
    mem_free(out);
    mem_free(in);
    return s;
}

static Status all_sizes(void)
{
    static const int64_t SIZES[] = {0, 1, 2, 3, 31, 1000, 65537, LARGE};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        TRY(comm_agree(comm, gather(SIZES[i])));
        TRY(comm_agree(comm, sum(SIZES[i])));
        if (SIZES[i] < LARGE || comm->size == 2)
            TRY(comm_agree(comm, swap(SIZES[i])));
    }
    return STATUS_OK;
}

/* Calls that process 1 does not come to: a gather that the others are in already. */
static Status wait_in_vain(void)
{
    Status s = STATUS_OK;
    while (s == STATUS_OK)
        s = gather(100000);
    return s;
}

/* The last process never comes: process 1 is killed inside of its own call. */
static Status killed_inside(void)
{
    if (comm->rank == comm->size - 1 && comm->rank > 1) {
        while (comm_check(comm) == STATUS_OK)
            usleep(1000);
        return comm_check(comm);
    }
    if (comm->rank == 1) {
        signal(SIGALRM, SIG_DFL);
        alarm(1);
    }
    return wait_in_vain();
}

/* Whoever lets it go on (a shell, mpirun before it kills): it would join the others, and none would end. */
static Status stopped(void)
{
    while (comm->rank == 1)
        raise(SIGSTOP);
    return wait_in_vain();
}

static Status fails(void)
{
    if (comm->rank == 1)
        return status_fail("the cat has eaten it");
    return wait_in_vain();
}

static const struct {
    const char *name;
    Status (*run)(void);
    double timeout;
} WORKS[] = {{"sizes", all_sizes, PATIENCE},
             {"killed", killed_inside, PATIENCE},
             {"stopped", stopped, HANGS},
             {"fails", fails, PATIENCE}};

static int be_one_of_them(const char *work, const char *transport)
{
    size_t w = 0;
    while (strcmp(WORKS[w].name, work) != 0)
        w++;
    signal(SIGTERM, SIG_IGN); /* which mpirun sends when one has ended: the others are to say what they saw */
    const CommOptions o = {.timeout = WORKS[w].timeout};
    Status s = comm_open(&o, &comm);
    if (s == STATUS_OK)
        s = comm_attach(comm, device_cpu());
    if (s == STATUS_OK && strncmp(comm_transport_name(comm), transport, strlen(transport)) != 0)
        s = status_fail("blocks travel by %s", comm_transport_name(comm));
    if (s == STATUS_OK)
        s = WORKS[w].run();
    fprintf(stderr, "[%d of %d ends with %d: %s]\n", comm ? comm->rank : -1, comm ? comm->size : 0, (int)s,
            s == STATUS_OK ? "" : status_message());
    comm_close(comm, s);
    return (int)s;
}

/* Starting them ----------------------------------------------------------------------------------------- */

static char self[4096], output[64 << 10];

static void set_number(const char *name, int n)
{
    char text[16];
    snprintf(text, sizeof text, "%d", n);
    setenv(name, text, 1);
}

/* As `--processes` does, but all in a group, and what they say goes into a file. Returns process 1. */
static pid_t start_by_sockets(int count, const char *work, int out)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listening, count), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &size), 0);
    pid_t second = 0;
    for (int rank = 0; rank < count; rank++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        second = rank == 1 ? pid : second;
        if (pid > 0)
            continue;
        set_number("RANK", rank);
        set_number("WORLD_SIZE", count);
        set_number("MASTER_PORT", ntohs(at.sin_port));
        setenv("MASTER_ADDR", "127.0.0.1", 1);
        if (rank == 0)
            set_number("ATELIER_LISTEN_FD", listening);
        else
            close(listening);
        dup2(out, STDERR_FILENO);
        execl(self, self, work, "sockets", (char *)NULL);
        _exit(99);
    }
    close(listening);
    return second;
}

/* Returns 0: mpirun ends what is left. */
static pid_t start_by_mpi(int count, const char *work, int out)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return 0;
    char number[16];
    snprintf(number, sizeof number, "%d", count);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("PRTE_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    /* what Open MPI leaves behind at its end is its own affair */
    setenv("ASAN_OPTIONS", "detect_leaks=0:intercept_tls_get_addr=0:allocator_may_return_null=1", 1);
    dup2(out, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    /* time for the others to say what they saw, and any number of processes on any number of cores */
    execlp("mpirun", "mpirun", "--oversubscribe", "--mca", "odls_base_sigkill_timeout", "5", "-np", number,
           self, work, "mpi", (char *)NULL);
    _exit(99);
}

/* Waits for all. stuck: ended once another has ended; 0: none. worst: the highest exit status. */
static int wait_for_them(pid_t stuck)
{
    int worst = 0, how;
    while (waitpid(-1, &how, 0) > 0) {
        if (WIFEXITED(how) && WEXITSTATUS(how) > worst)
            worst = WEXITSTATUS(how);
        if (stuck)
            kill(stuck, SIGKILL);
        stuck = 0;
    }
    return worst;
}

/* Fills in output with what they said. */
static int run(bool mpi, int count, const char *work)
{
    char path[] = "/tmp/atelier-test-transports-XXXXXX";
    const int out = mkstemp(path);
    assert_true(out >= 0);
    unlink(path);
    const pid_t second = (mpi ? start_by_mpi : start_by_sockets)(count, work, out);
    const int worst = wait_for_them(strcmp(work, "stopped") == 0 ? second : 0);
    const ssize_t n = pread(out, output, sizeof output - 1, 0);
    output[n > 0 ? n : 0] = 0;
    close(out);
    return worst;
}

static void expect_words(const char *words)
{
    if (!strstr(output, words))
        fail_msg("\"%s\" is not in what they said:\n%s", words, output);
}

/* Its library locks as it likes, which ThreadSanitizer reports. */
static bool have_mpirun(void)
{
#ifdef __SANITIZE_THREAD__
    return false;
#endif
    return system("mpirun --version >/dev/null 2>&1") == 0;
}

/* Tests ------------------------------------------------------------------------------------------------- */

static void need(const bool *mpi)
{
    if (!*mpi || have_mpirun())
        return;
    print_message("NOT TESTED: transport mpi; there is no mpirun here (scripts/setup --mpi installs it)\n");
    skip();
}

static void numbers_arrive_whatever_the_size(void **state)
{
    const bool *mpi = *state;
    need(mpi);
    for (int count = 2; count <= MOST; count++)
        if (run(*mpi, count, "sizes") != 0)
            fail_msg("%d processes: %s", count, output);
}

/* All but process 1, which is process 0's first neighbour and never its own reporter. */
static void the_others_say(int count, const char *what)
{
    char words[64];
    for (int rank = 0; rank < count; rank++)
        if (rank != 1) {
            snprintf(words, sizeof words, "[%d of %d ends with 1: process 1 of %d", rank, count, count);
            expect_words(words);
        }
    expect_words(what);
}

static void the_others_end_when_one_is_killed_in_a_call(void **state)
{
    const bool *mpi = *state;
    need(mpi);
    for (int count = 2 + *mpi; count <= 3; count++) {
        assert_int_not_equal(run(*mpi, count, "killed"), 0);
        the_others_say(count, "has ended without a word");
    }
}

static void the_others_end_when_one_is_stopped(void **state)
{
    const bool *mpi = *state;
    need(mpi);
    assert_int_not_equal(run(*mpi, 3, "stopped"), 0);
    the_others_say(3, "has not been heard of for 8 seconds");
}

static void the_others_end_when_one_fails(void **state)
{
    const bool *mpi = *state;
    need(mpi);
    assert_int_not_equal(run(*mpi, 3, "fails"), 0);
    the_others_say(3, "the cat has eaten it");
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return be_one_of_them(argv[1], argv[2]);
    static bool sockets = false, mpi = true;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return 1;
#define BOTH(test)                                                                                           \
    {#test " (sockets)", test, NULL, NULL, &sockets},                                                        \
    {                                                                                                        \
#test " (mpi)", test, NULL, NULL, &mpi                                                               \
    }
    const struct CMUnitTest tests[] = {
        BOTH(numbers_arrive_whatever_the_size),
        BOTH(the_others_end_when_one_is_killed_in_a_call),
        BOTH(the_others_end_when_one_is_stopped),
        BOTH(the_others_end_when_one_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
