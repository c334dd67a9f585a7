/* Sockets between the processes of a communicator: rank r listens under the id's text and r, and calls those
 * below it. */
#include "stand_in.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A name without a file, which is gone with the process. */
static socklen_t address_of(const struct ncclComm *comm, int rank, struct sockaddr_un *a)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    const int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "%.80s.%d", comm->id, rank);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int new_socket(void)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        stand_in_fail(NULL, 0, "NCCL's stand-in has no socket: %s", strerror(errno));
    return fd;
}

void wire_begin(ncclComm_t comm)
{
    struct sockaddr_un a;
    const socklen_t length = address_of(comm, comm->rank, &a);
    comm->listening = new_socket();
    if (bind(comm->listening, (struct sockaddr *)&a, length) != 0 || listen(comm->listening, 64) != 0)
        stand_in_fail(NULL, 0, "two processes join as rank %d of one communicator", comm->rank);
}

/* What the one who calls says first. */
typedef struct Hello {
    int rank, size;
} Hello;

/* It is so short that it comes whole. */
static void call(ncclComm_t comm, int rank)
{
    struct sockaddr_un a;
    const socklen_t length = address_of(comm, rank, &a);
    const Hello hello = {comm->rank, comm->size};
    const int fd = new_socket();
    if (connect(fd, (struct sockaddr *)&a, length) == 0 &&
        send(fd, &hello, sizeof hello, MSG_NOSIGNAL) == (ssize_t)sizeof hello)
        comm->sockets[rank] = fd;
    else
        close(fd);
}

static void answer(ncclComm_t comm)
{
    const int fd = accept4(comm->listening, NULL, NULL, SOCK_CLOEXEC);
    Hello hello;
    if (fd < 0)
        return;
    if (recv(fd, &hello, sizeof hello, MSG_WAITALL) != (ssize_t)sizeof hello) {
        close(fd);
        return;
    }
    if (hello.size != comm->size)
        stand_in_fail(NULL, 0, "rank %d joins a communicator of %d, rank %d one of %d", comm->rank,
                      comm->size, hello.rank, hello.size);
    comm->sockets[hello.rank] = fd;
}

bool wire_join(ncclComm_t comm)
{
    bool all = true;
    if (wish("hides", comm->rank) >= 0)
        return false;
    answer(comm);
    for (int r = 0; r < comm->size; r++) {
        if (r < comm->rank && comm->sockets[r] < 0)
            call(comm, r);
        all = all && (r == comm->rank || comm->sockets[r] >= 0);
    }
    return all;
}

static void lost(ncclComm_t comm, int peer)
{
    close(comm->sockets[peer]);
    comm->sockets[peer] = -1;
    comm->gone[peer] = true;
    if (wish("notices", comm->rank) >= 0)
        comm->state = ncclRemoteError;
}

/* It may have said something before it ended. */
static bool is_read_out(ncclComm_t comm, int peer)
{
    char byte;
    return recv(comm->sockets[peer], &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

size_t wire_write(ncclComm_t comm, int peer, const void *data, size_t bytes)
{
    if (comm->gone[peer] || bytes == 0)
        return 0;
    const ssize_t n = send(comm->sockets[peer], data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR && is_read_out(comm, peer))
        lost(comm, peer);
    return n > 0 ? (size_t)n : 0;
}

size_t wire_read(ncclComm_t comm, int peer, void *data, size_t bytes)
{
    if (comm->gone[peer] || bytes == 0)
        return 0;
    const ssize_t n = recv(comm->sockets[peer], data, bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        lost(comm, peer);
    return n > 0 ? (size_t)n : 0;
}

void wire_close(ncclComm_t comm, bool bye)
{
    const Letter letter = {.kind = LETTER_BYE};
    for (int r = 0; r < comm->size; r++)
        if (comm->sockets[r] >= 0) {
            if (bye)
                (void)wire_write(comm, r, &letter, sizeof letter);
            close(comm->sockets[r]);
            comm->sockets[r] = -1;
        }
    if (comm->listening >= 0)
        close(comm->listening);
    comm->listening = -1;
}
