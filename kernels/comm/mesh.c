/* Blocks over sockets, one between each two processes: always there, needs nothing installed, and waits
 * asleep. All sockets are read and written at once, so that nobody waits for somebody who waits for him. */
#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MESH_MAGIC 0x31534d41u /* "AMS1" */
#define POLL_MS 50
#define HELLO_SECONDS 10.0

typedef struct Mesh {
    int size;
    int *fds;              /* by rank; −1: this process */
    struct Pending *first; /* exchanges under way, the oldest first */
} Mesh;

typedef struct Hello {
    uint32_t magic;
    int32_t rank;
    char token[WORLD_TOKEN];
} Hello;

typedef struct Place {
    char addresses[LINK_ADDRESSES];
    int port;
} Place;

/* How far the way to or from one process has come along the list. */
typedef struct Way {
    const CommPart *parts;
    int count, next; /* next: of this process's parts; count: behind the last */
    size_t done;     /* bytes of that one */
} Way;

/* An exchange that is under way. Those of before go first on every socket. */
typedef struct Pending {
    Way *out, *in; /* (size) each */
    struct Pending *next;
} Pending;

static void let_go(Mesh *m, Pending *p)
{
    Pending **at = &m->first;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    mem_free(p->out);
    mem_free(p);
}

/* Opening ------------------------------------------------------------------------------------------------ */

static const char *mesh_hindrance(const Comm *c)
{
    (void)c;
    return NULL;
}

static void mesh_close(void *own, bool broken)
{
    (void)broken;
    Mesh *m = own;
    if (!m)
        return;
    while (m->first)
        let_go(m, m->first);
    for (int r = 0; m->fds && r < m->size; r++)
        link_close(&m->fds[r]);
    mem_free(m->fds);
    mem_free(m);
}

typedef struct Greeting {
    Comm *c;
    double end;
} Greeting;

static Status greet_wait(void *arg)
{
    const Greeting *g = arg;
    TRY(comm_check(g->c));
    return seconds_now() < g->end ? STATUS_OK : status_fail("no answer");
}

static Hello own_hello(const Comm *c)
{
    Hello h = {.magic = MESH_MAGIC, .rank = c->rank};
    memcpy(h.token, c->state->token, sizeof h.token);
    return h;
}

/* Whoever answers must be the one that is meant: the same address may mean another machine here. */
static int reach(Comm *c, int rank, const Place *place)
{
    char list[LINK_ADDRESSES], *rest = list;
    snprintf(list, sizeof list, "%s", place->addresses);
    for (char *one; (one = strsep(&rest, " "));) {
        const char *why;
        Greeting g = {c, seconds_now() + HELLO_SECONDS};
        const LinkWait w = {greet_wait, &g};
        Hello h = own_hello(c), answer;
        int fd = *one ? link_connect(one, place->port, &why) : -1;
        if (fd < 0)
            continue;
        if (link_write(fd, &h, sizeof h, &w) == STATUS_OK &&
            link_read(fd, &answer, sizeof answer, &w) == STATUS_OK && answer.magic == MESH_MAGIC &&
            answer.rank == rank && memcmp(answer.token, h.token, sizeof h.token) == 0)
            return fd;
        link_close(&fd);
    }
    return -1;
}

static Status connect_lower(Comm *c, Mesh *m, const Place *places)
{
    char name[96];
    for (int r = 0; r < c->rank; r++) {
        m->fds[r] = reach(c, r, &places[r]);
        TRY(comm_check(c));
        if (m->fds[r] < 0)
            return status_fail("%s is not to be reached at %s, port %d; the processes of a run have to reach "
                               "each other",
                               comm_name(c, r, name, sizeof name), places[r].addresses, places[r].port);
    }
    return STATUS_OK;
}

static Status accept_higher(Comm *c, Mesh *m, int listening)
{
    const double since = seconds_now();
    for (int come = c->rank + 1; come < c->size;) {
        int fd = link_accept(listening);
        TRY(comm_waiting(c, since));
        if (fd < 0)
            continue;
        Greeting g = {c, seconds_now() + HELLO_SECONDS};
        const LinkWait w = {greet_wait, &g};
        Hello own = own_hello(c), h;
        if (link_read(fd, &h, sizeof h, &w) == STATUS_OK && h.magic == MESH_MAGIC && h.rank > c->rank &&
            h.rank < c->size && m->fds[h.rank] < 0 && memcmp(h.token, own.token, sizeof h.token) == 0 &&
            link_write(fd, &own, sizeof own, &w) == STATUS_OK) {
            m->fds[h.rank] = fd;
            come++;
        } else {
            link_close(&fd);
        }
    }
    return STATUS_OK;
}

static Status connect_all(Comm *c, Mesh *m, Place *places, int listening)
{
    /* the lower ones accept before they connect to nobody: no two wait for each other */
    TRY(connect_lower(c, m, places));
    return accept_higher(c, m, listening);
}

static Status mesh_open(Comm *c, const Device *dev, void **own, char *version, size_t size)
{
    (void)dev;
    (void)version;
    (void)size;
    Mesh *m = mem_calloc(1, sizeof *m);
    Place place = {.port = 0}, *places = mem_calloc((size_t)c->size, sizeof *places);
    int listening = -1;
    Status s = m && places ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK) {
        m->size = c->size;
        m->fds = mem_alloc((size_t)c->size * sizeof *m->fds);
        s = m->fds ? link_listen(&place.port, &listening) : STATUS_FAILED;
    }
    for (int r = 0; s == STATUS_OK && r < c->size; r++)
        m->fds[r] = -1;
    char outside[LINK_ADDRESSES - 16];
    link_own_addresses(outside, sizeof outside);
    snprintf(place.addresses, sizeof place.addresses, "127.0.0.1 %s", outside);
    s = comm_meet(c, s, &place, sizeof place, places);
    if (s == STATUS_OK)
        s = connect_all(c, m, places, listening);
    link_close(&listening);
    mem_free(places);
    if (s != STATUS_OK) {
        mesh_close(m, true);
        return s;
    }
    *own = m;
    return STATUS_OK;
}

/* Exchanging --------------------------------------------------------------------------------------------- */

static void skip(Way *w, int rank)
{
    while (w->next < w->count && (w->parts[w->next].rank != rank || w->parts[w->next].bytes == w->done)) {
        w->next++;
        w->done = 0;
    }
}

/* As much as goes without waiting. */
static Status move(Comm *c, int fd, int rank, Way *w, bool sending)
{
    for (skip(w, rank); w->next < w->count; skip(w, rank)) {
        const CommPart *p = &w->parts[w->next];
        const size_t left = p->bytes - w->done;
        char *at = (char *)p->at + w->done;
        const ssize_t n = sending ? send(fd, at, left, MSG_NOSIGNAL) : recv(fd, at, left, 0);
        if (n > 0) {
            w->done += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return STATUS_OK;
        } else {
            return life_gone(c, rank);
        }
    }
    return STATUS_OK;
}

static bool is_open(const Pending *p, int rank)
{
    return p->in[rank].next < p->in[rank].count || p->out[rank].next < p->out[rank].count;
}

static bool all_done(const Mesh *m, const Pending *p)
{
    for (int r = 0; r < m->size; r++)
        if (m->fds[r] >= 0 && is_open(p, r))
            return false;
    return true;
}

/* As much as goes without waiting, of every exchange up to the first whose turn has not come yet. */
static Status move_all(Comm *c, Mesh *m)
{
    for (int r = 0; r < m->size; r++) {
        bool in = m->fds[r] >= 0, out = in;
        for (Pending *p = m->first; p && (in || out); p = p->next) {
            if (in)
                TRY(move(c, m->fds[r], r, &p->in[r], false));
            if (out)
                TRY(move(c, m->fds[r], r, &p->out[r], true));
            in = in && p->in[r].next == p->in[r].count;
            out = out && p->out[r].next == p->out[r].count;
        }
    }
    return STATUS_OK;
}

static Status mesh_begin(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                         int receives, void **pending)
{
    Mesh *m = own;
    Pending *p = mem_calloc(1, sizeof *p), **last = &m->first;
    if (!p)
        return STATUS_FAILED;
    p->out = mem_calloc(2 * (size_t)m->size, sizeof *p->out);
    if (!p->out) {
        mem_free(p);
        return STATUS_FAILED;
    }
    p->in = p->out + m->size;
    for (int r = 0; r < m->size; r++) {
        p->out[r] = (Way){send, sends, 0, 0};
        p->in[r] = (Way){receive, receives, 0, 0};
    }
    while (*last)
        last = &(*last)->next;
    *last = p;
    *pending = p;
    return move_all(c, m);
}

static Status mesh_progress(Comm *c, void *own, void *pending)
{
    (void)pending;
    return move_all(c, own);
}

static void wait_a_little(const Mesh *m, const Pending *p, struct pollfd *polled, int *ready)
{
    for (int r = 0; r < m->size; r++) {
        const bool reads = p->in[r].next < p->in[r].count, writes = p->out[r].next < p->out[r].count;
        polled[r] = (struct pollfd){.fd = m->fds[r] >= 0 && (reads || writes) ? m->fds[r] : -1,
                                    .events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))};
    }
    *ready = poll(polled, (nfds_t)m->size, POLL_MS);
}

static Status mesh_end(Comm *c, void *own, void *pending)
{
    Mesh *m = own;
    Pending *p = pending;
    const double since = seconds_now();
    struct pollfd *polled = mem_calloc((size_t)m->size, sizeof *polled);
    Status s = polled ? move_all(c, m) : STATUS_FAILED;
    while (s == STATUS_OK && !all_done(m, p)) {
        int ready;
        wait_a_little(m, p, polled, &ready);
        if (ready <= 0)
            s = comm_waiting(c, since);
        if (s == STATUS_OK)
            s = move_all(c, m);
    }
    mem_free(polled);
    let_go(m, p);
    return s;
}

static Status mesh_exchange(Comm *c, void *own, const CommPart *send, int sends, const CommPart *receive,
                            int receives)
{
    void *pending;
    TRY(mesh_begin(c, own, send, sends, receive, receives, &pending));
    return mesh_end(c, own, pending);
}

const CommTransport transport_sockets = {
    .name = "sockets",
    .host_memory = true,
    .hindrance = mesh_hindrance,
    .open = mesh_open,
    .close = mesh_close,
    .exchange = mesh_exchange,
    .begin = mesh_begin,
    .progress = mesh_progress,
    .end = mesh_end,
};
