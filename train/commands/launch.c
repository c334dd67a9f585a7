/* The starter of several processes (launch.h). It computes nothing and says little: process 0 speaks for all.
 *
 * Process 0 inherits a socket that listens already, at a port that the kernel chose, so nobody can take the
 * port in between; a random word keeps out whoever else connects to it.
 *
 * Signals. A terminal sends Ctrl-C to all processes of its foreground, so these have it without the starter.
 * What somebody sends to the starter alone is passed on as SIGUSR1, which asks to stop and counts once
 * however often it comes (kernels/base/stop.h): who sends a signal to the whole group, like timeout(1), would
 * else count twice, and the second time ends a run without saving. Asked again, the starter sends SIGUSR2,
 * which ends them at once.
 *
 * If the starter is killed, the kernel sends SIGTERM to the others (PR_SET_PDEATHSIG). */
#include "launch.h"

#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "kernels/comm/comm.h"
#include "kernels/cuda/cuda.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AFTER_FIRST 10.0 /* seconds for the others once process 0 has ended: nothing is left to be done */
#define AFTER_DEATH 5.0  /* until the others are asked to stop, where they have not noticed themselves */
#define AFTER_TERM 5.0   /* from SIGTERM to SIGKILL */
#define ONE_REQUEST 0.2  /* signals that come so close to each other are one request */
#define TOKEN "ATELIER_TOKEN"

typedef struct Child {
    pid_t pid;
    bool ended, stopped;
    bool late; /* the starter has ended it */
    int how;   /* as waitpid has it */
} Child;

typedef struct Crew {
    Child *list;
    int count, left;
    int asked;       /* requests to stop so far */
    double ask;      /* when they are asked to stop because one has failed; 0: not */
    double deadline; /* when the next signal is sent to those that are left; 0: none */
    bool terminated; /* they have had SIGTERM */
    sigset_t before; /* the starter's mask as it was */
} Crew;

bool launch_was_here(void)
{
    return getenv(TOKEN) && getenv("RANK");
}

/* How many ---------------------------------------------------------------------------------------------- */

static Status count_gpus(const char *gpus, int *count)
{
    CudaCardInfo info;
    int there = 0;
    int64_t n;
    const bool all = strcmp(gpus, "all") == 0;
    if (!all && (!text_to_int(gpus, &n) || n < 1 || n > LAUNCH_MOST))
        return status_refuse("--gpus %s: it is all, or a number from 1 to %d", gpus, LAUNCH_MOST);
    if (device_cuda_why() != STATUS_OK)
        return status_refuse("--gpus %s: %s", gpus, status_message());
    for (int i = 0; device_cuda_info(i, &info); i++)
        there += info.usable;
    if (there == 0 || (!all && n > there))
        return status_refuse("--gpus %s: this machine has %d that can be used; `atelier doctor` lists them",
                             gpus, there);
    *count = all ? there : (int)n;
    return STATUS_OK;
}

Status launch_count(int processes, const char *gpus, int *count)
{
    *count = processes > 0 ? processes : 1;
    if (launch_was_here() || (!processes && !gpus))
        return STATUS_OK;
    const char *option = gpus ? "--gpus" : "--processes";
    if (gpus && processes)
        return status_refuse("--gpus is --processes with a GPU for each: one of the two");
    if (gpus)
        TRY(count_gpus(gpus, count));
    if (*count > 1 && comm_announced() > 1)
        return status_refuse("%s starts processes, and this one was started as one of %d already (by mpirun, "
                             "srun, torchrun or their like): leave %s out",
                             option, comm_announced(), option);
    return STATUS_OK;
}

/* Starting ---------------------------------------------------------------------------------------------- */

static Status listen_here(int count, int *fd, int *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || bind(*fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(*fd, count) < 0 ||
        getsockname(*fd, (struct sockaddr *)&at, &size) < 0) {
        const char *why = strerror(errno);
        if (*fd >= 0)
            close(*fd);
        return status_fail("the processes meet at a socket of 127.0.0.1, which cannot be opened: %s", why);
    }
    *port = ntohs(at.sin_port);
    return STATUS_OK;
}

static Status set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    return setenv(name, text, 1) == 0 ? STATUS_OK : status_memory("out of memory");
}

static Status set_word(const char *name, const char *text)
{
    return setenv(name, text, 1) == 0 ? STATUS_OK : status_memory("out of memory");
}

/* What is the same for all. */
static Status set_environment(int count, int port)
{
    uint8_t bytes[16];
    char token[2 * sizeof bytes + 1];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return status_fail("no random numbers from the system: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    TRY(set_word(TOKEN, token));
    TRY(set_word("MASTER_ADDR", "127.0.0.1"));
    TRY(set_number("MASTER_PORT", port));
    TRY(set_number("WORLD_SIZE", count));
    return set_number("LOCAL_WORLD_SIZE", count);
}

/* In the new process. Does not return. */
static void become(int rank, int listening, pid_t starter, const sigset_t *before, char **words)
{
    sigset_t mask = *before;
    sigaddset(&mask, SIGUSR1); /* until stop_catch() is ready for them */
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != starter)
        _exit(STATUS_INTERRUPTED);
    if (rank == 0 && (fcntl(listening, F_SETFD, 0) < 0 || set_number("ATELIER_LISTEN_FD", listening)))
        _exit(STATUS_FAILED);
    if (set_number("RANK", rank) == STATUS_OK && set_number("LOCAL_RANK", rank) == STATUS_OK)
        execv("/proc/self/exe", words);
    log_error("process %d cannot be started: %s", rank, strerror(errno));
    _exit(STATUS_FAILED);
}

static void send_all(Crew *c, int signal_number)
{
    for (int i = 0; i < c->count; i++)
        if (c->list[i].pid > 0 && !c->list[i].ended)
            kill(c->list[i].pid, signal_number);
}

static Status start(Crew *c, char **words)
{
    int listening, port = 0;
    TRY(listen_here(c->count, &listening, &port));
    Status s = set_environment(c->count, port);
    const pid_t starter = getpid();
    for (int i = 0; s == STATUS_OK && i < c->count; i++) {
        const pid_t pid = fork();
        if (pid == 0)
            become(i, listening, starter, &c->before, words);
        if (pid < 0) {
            s = status_fail("process %d of %d cannot be started: %s", i, c->count, strerror(errno));
            break;
        }
        c->list[i].pid = pid;
        c->left++;
    }
    close(listening);
    if (s != STATUS_OK) {
        send_all(c, SIGKILL); /* they have done nothing yet */
        while (waitpid(-1, NULL, 0) > 0)
            ;
    }
    return s;
}

/* Waiting ----------------------------------------------------------------------------------------------- */

static void sooner(Crew *c, double seconds)
{
    const double at = seconds_now() + seconds;
    if (c->deadline == 0 || at < c->deadline)
        c->deadline = at;
}

static void ended(Crew *c, int rank, int how, double patience)
{
    Child *child = &c->list[rank];
    child->ended = true;
    child->how = how;
    c->left--;
    if (c->terminated)
        return;
    if (rank == 0)
        sooner(c, AFTER_FIRST);
    else if (!WIFEXITED(how) || WEXITSTATUS(how) != STATUS_OK) {
        sooner(c, patience);
        c->ask = c->ask > 0 ? c->ask : seconds_now() + AFTER_DEATH;
    }
}

static void reap(Crew *c, double patience)
{
    int how;
    for (pid_t pid; (pid = waitpid(-1, &how, WNOHANG | WUNTRACED | WCONTINUED)) > 0;)
        for (int i = 0; i < c->count; i++) {
            if (c->list[i].pid != pid)
                continue;
            if (WIFSTOPPED(how) || WIFCONTINUED(how))
                c->list[i].stopped = WIFSTOPPED(how);
            else
                ended(c, i, how, patience);
        }
}

/* The next of the signals that the starter has blocked, or 0 after as many seconds. */
static int next_signal(const sigset_t *set, double seconds, bool *by_somebody)
{
    siginfo_t info;
    const time_t whole = (time_t)seconds;
    const struct timespec most = {.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
    const int number = sigtimedwait(set, &info, &most);
    *by_somebody = number > 0 && info.si_code <= 0; /* above: the kernel, for the terminal, to all */
    return number > 0 ? number : 0;
}

static void pass_on(Crew *c, const sigset_t *requests, bool by_somebody)
{
    bool more;
    if (by_somebody)
        send_all(c, c->asked ? SIGUSR2 : SIGUSR1);
    c->asked++;
    const double until = seconds_now() + ONE_REQUEST;
    for (double left; (left = until - seconds_now()) > 0;)
        next_signal(requests, left, &more);
}

/* What counts once, or ends at once, however often it comes. */
static void pass_on_as_it_is(Crew *c, int number)
{
    send_all(c, number);
    c->asked += c->asked == 0;
}

static void hurry(Crew *c)
{
    send_all(c, c->terminated ? SIGKILL : SIGTERM);
    for (int i = 0; i < c->count; i++)
        c->list[i].late |= !c->list[i].ended;
    c->deadline = c->terminated ? INFINITY : seconds_now() + AFTER_TERM;
    c->terminated = true;
}

static void wait_for_all(Crew *c, const sigset_t *requests, double patience)
{
    sigset_t set = *requests;
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    while (c->left > 0) {
        bool by_somebody;
        const double left = c->deadline > 0 ? c->deadline - seconds_now() : 1;
        const int number = left > 0 ? next_signal(&set, left < 1 ? left : 1, &by_somebody) : 0;
        if (number == SIGINT || number == SIGTERM)
            pass_on(c, requests, by_somebody);
        else if (number == SIGUSR1 || number == SIGUSR2)
            pass_on_as_it_is(c, number);
        reap(c, patience);
        if (c->ask > 0 && seconds_now() >= c->ask) { /* before they have met, they cannot know */
            send_all(c, SIGUSR1);
            c->ask = INFINITY;
        }
        if (c->deadline > 0 && seconds_now() >= c->deadline)
            hurry(c);
    }
}

/* The end ----------------------------------------------------------------------------------------------- */

/* What the starter has sent, or a terminal together with it, is nothing to tell. */
static bool was_asked_for(const Crew *c, int number)
{
    return c->asked && (number == SIGINT || number == SIGTERM || number == SIGUSR1 || number == SIGUSR2);
}

/* Says what process 0 cannot have said. */
static void tell(const Crew *c)
{
    for (int i = 0; i < c->count; i++) {
        const Child *child = &c->list[i];
        const int number = WIFSIGNALED(child->how) ? WTERMSIG(child->how) : 0;
        if (child->late)
            log_error("process %d of %d %s, and was ended by its starter", i, c->count,
                      child->stopped ? "was stopped (by SIGSTOP, or a debugger)"
                                     : "did not end with the others");
        else if (number && !was_asked_for(c, number))
            log_error(
                "process %d of %d was ended by signal %d (%s)%s", i, c->count, number, strsignal(number),
                number == SIGKILL ? "; the kernel sends it where memory has run out (`dmesg` says so)" : "");
    }
}

static int status_of(const Crew *c)
{
    const int how = c->list[0].how;
    int worst = WIFEXITED(how) ? WEXITSTATUS(how) : c->asked ? STATUS_INTERRUPTED : STATUS_FAILED;
    if (worst == STATUS_INTERRUPTED && !c->asked && c->ask == INFINITY) /* it was the starter who asked */
        worst = STATUS_FAILED;
    for (int i = 1; i < c->count && worst == STATUS_OK; i++)
        if (!WIFEXITED(c->list[i].how) || WEXITSTATUS(c->list[i].how) != STATUS_OK)
            worst = STATUS_FAILED;
    return worst;
}

static char **gather(int argc, char **argv)
{
    char **words = mem_calloc((size_t)argc + 2, sizeof *words);
    if (!words)
        return NULL;
    words[0] = "atelier";
    memcpy(words + 1, argv, (size_t)argc * sizeof *words);
    return words;
}

Status launch(int count, int argc, char **argv, double patience, int *status)
{
    if (!stop_process_is_own())
        return status_refuse("several processes are started by the program atelier alone, not by another "
                             "that has its library loaded");
    Crew c = {.count = count, .list = mem_calloc((size_t)count, sizeof(Child))};
    char **words = gather(argc, argv);
    sigset_t requests, blocked;
    sigemptyset(&requests);
    sigaddset(&requests, SIGINT);
    sigaddset(&requests, SIGTERM);
    blocked = requests;
    sigaddset(&blocked, SIGCHLD);
    sigaddset(&blocked, SIGUSR1);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, &c.before);
    stop_outlive_terminal();
    Status s = words && c.list ? start(&c, words) : STATUS_FAILED;
    if (s == STATUS_OK) {
        wait_for_all(&c, &requests, patience);
        tell(&c);
        *status = status_of(&c);
    }
    sigprocmask(SIG_SETMASK, &c.before, NULL);
    mem_free(words);
    mem_free(c.list);
    return s;
}
