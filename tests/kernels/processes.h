/* A test's processes: the test program starts itself once for each, as a starter of several processes does,
 * and looks at how each has ended and what it said. */
#ifndef TESTS_KERNELS_PROCESSES_H
#define TESTS_KERNELS_PROCESSES_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4 };

typedef struct Process {
    pid_t pid;
    FILE *said;
    char text[8192];
    int status;
} Process;

static Process processes[MOST];

/* A port of this machine's, open already, for process 0. */
static inline int listen_somewhere(char *port, size_t size)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, MOST) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &length), 0);
    snprintf(port, size, "%d", ntohs(a.sin_port));
    return fd;
}

static inline void set_number(const char *name, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    setenv(name, text, 1);
}

/* environment: "NAME=VALUE" of all, or "RANK:NAME=VALUE" of one, ended by NULL. */
static inline void start(int rank, int size, int listening, char *const *words,
                         const char *const *environment)
{
    Process *p = &processes[rank];
    p->said = tmpfile();
    assert_non_null(p->said);
    fflush(NULL);
    p->pid = fork();
    if (p->pid)
        return;
    for (const char *const *e = environment; *e; e++)
        if ((*e)[1] != ':' || (*e)[0] == '0' + rank)
            putenv((char *)*e + ((*e)[1] == ':' ? 2 : 0));
    set_number("RANK", rank), set_number("WORLD_SIZE", size);
    set_number("LOCAL_RANK", rank), set_number("LOCAL_WORLD_SIZE", size);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    if (rank == 0)
        set_number("ATELIER_LISTEN_FD", listening);
    else
        close(listening);
    dup2(fileno(p->said), 2);
    execv(words[0], words);
    _exit(99);
}

/* words: the program and what it is called with, ended by NULL. stopped: the rank of one that a test has
 * stopped, which is killed once the others have ended; −1: none. */
static inline void run_processes(int size, int stopped, char *const *words, const char *const *environment)
{
    char port[16];
    const int listening = listen_somewhere(port, sizeof port);
    setenv("MASTER_PORT", port, 1);
    for (int r = 0; r < size; r++)
        start(r, size, listening, words, environment);
    close(listening);
    for (int turn = 0; turn < 2; turn++)
        for (int r = 0; r < size; r++)
            if ((r == stopped) == turn) {
                if (turn)
                    kill(processes[r].pid, SIGKILL);
                waitpid(processes[r].pid, &processes[r].status, 0);
            }
    for (int r = 0; r < size; r++) {
        Process *p = &processes[r];
        rewind(p->said);
        p->text[fread(p->text, 1, sizeof p->text - 1, p->said)] = 0;
        fclose(p->said);
        if (getenv("ATELIER_TEST_VERBOSE"))
            fprintf(stderr, "-- %s, process %d of %d, status %x:\n%s", words[1], r, size, (unsigned)p->status,
                    p->text);
    }
}

/* That process `rank` has ended with the status and said all of the words, which are separated by '|'. */
static inline void ended(int rank, int status, const char *words)
{
    const Process *p = &processes[rank];
    char word[256];
    if (!WIFEXITED(p->status) || WEXITSTATUS(p->status) != status)
        fail_msg("process %d ended with %x: %s", rank, (unsigned)p->status, p->text);
    for (const char *at = words; *at;) {
        const size_t length = strcspn(at, "|");
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        if (!strstr(p->text, word))
            fail_msg("process %d does not say \"%s\": %s", rank, word, p->text);
        at += length + (at[length] != 0);
    }
}

#endif
