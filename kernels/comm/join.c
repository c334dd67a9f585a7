/* How the processes of a run find each other: each but process 0 connects to process 0 twice, with a word on
 * who it is; once all have come, process 0 answers with everybody's card. */
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "state.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define JOIN_MAGIC 0x314e4a41u /* "AJN1" */
#define RETRY_US 100000

enum { TALK, LIFE, SOCKETS };

typedef struct Join {
    uint32_t magic;
    int32_t rank, size, which;
    char token[WORLD_TOKEN];
    Card card;
} Join;

typedef struct Answer {
    int32_t status;
    char message[512];
} Answer;

/* A wait with an end, and one that a signal ends too. */
typedef struct Until {
    double end;
    const volatile sig_atomic_t *stop;
} Until;

static Status until(void *arg)
{
    const Until *u = arg;
    if (stop_asked(u->stop))
        return status_interrupted();
    return seconds_now() < u->end ? STATUS_OK : status_fail("no answer came in time");
}

static Until until_timeout(const Comm *c)
{
    return (Until){seconds_now() + c->state->timeout, c->state->stop};
}

/* Who this is -------------------------------------------------------------------------------------------- */

/* FNV-1a of the affinity mask; 0: not known. */
static uint32_t hash_cores(void)
{
    cpu_set_t set;
    uint32_t h = 2166136261u;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 0;
    for (int i = 0; i < CPU_SETSIZE; i++)
        h = (h ^ (uint32_t)(CPU_ISSET(i, &set) != 0)) * 16777619u;
    return h;
}

static Card own_card(const World *w)
{
    Card card = {.pid = (int)getpid(), .local_rank = w->local_rank, .local_size = w->local_size};
    card.cores = hash_cores();
    char *boot = NULL;
    size_t size = 0;
    if (gethostname(card.host, sizeof card.host - 1) != 0)
        snprintf(card.host, sizeof card.host, "unknown");
    if (file_read("/proc/sys/kernel/random/boot_id", 4096, &boot, &size) == STATUS_OK)
        snprintf(card.machine, sizeof card.machine, "%.36s", boot);
    mem_free(boot);
    return card;
}

/* Where the starter has not said it: the processes of one machine count by rank. */
static void settle_local(Comm *c, const World *w)
{
    Card *cards = c->state->cards, *own = &cards[c->rank];
    c->local_rank = c->local_size = c->sharing = 0;
    for (int r = 0; r < c->size; r++) {
        const bool here =
            strcmp(cards[r].host, own->host) == 0 && strcmp(cards[r].machine, own->machine) == 0;
        c->local_size += here;
        c->sharing += here && cards[r].cores == own->cores;
        c->local_rank += here && r < c->rank;
    }
    if (w->local_rank >= 0)
        c->local_rank = w->local_rank;
    if (w->local_size > 0)
        c->local_size = w->local_size;
}

/* Process 0 ---------------------------------------------------------------------------------------------- */

static Status refuse_join(const Comm *c, const Join *j)
{
    if (j->size != c->size)
        return status_refuse("a process on %s says that there are %d processes, process 0 says %d",
                             j->card.host, j->size, c->size);
    if (j->rank < 1 || j->rank >= c->size)
        return status_refuse("a process on %s says that it is process %d of %d", j->card.host, j->rank,
                             c->size);
    const Ray *ray = &c->state->rays[j->rank - 1];
    if ((j->which == TALK ? ray->talk : ray->life) >= 0)
        return status_refuse("two processes say that they are process %d, on %s and on %s", j->rank,
                             c->state->cards[j->rank].host, j->card.host);
    return STATUS_OK;
}

/* A stranger is sent away; a process of this run that does not fit ends the start. */
static Status take_join(Comm *c, int fd, int *come)
{
    Join j;
    Until u = until_timeout(c);
    const LinkWait w = {until, &u};
    if (u.end > seconds_now() + 5)
        u.end = seconds_now() + 5; /* who connects speaks at once */
    if (link_read(fd, &j, sizeof j, &w) != STATUS_OK || j.magic != JOIN_MAGIC ||
        memcmp(j.token, c->state->token, sizeof j.token) != 0 || j.which < 0 || j.which >= SOCKETS) {
        link_close(&fd);
        return STATUS_OK;
    }
    j.card.host[sizeof j.card.host - 1] = j.card.machine[sizeof j.card.machine - 1] = 0;
    const Status s = refuse_join(c, &j);
    if (s != STATUS_OK) {
        link_close(&fd);
        return s;
    }
    Ray *ray = &c->state->rays[j.rank - 1];
    *(j.which == TALK ? &ray->talk : &ray->life) = fd;
    c->state->cards[j.rank] = j.card;
    ++*come;
    return STATUS_OK;
}

static Status missing(const Comm *c)
{
    char list[256] = "";
    size_t at = 0;
    int count = 0;
    for (int i = 0; i < c->state->ray_count; i++)
        if (c->state->rays[i].life < 0 && count++ < 16 && at < sizeof list)
            at +=
                (size_t)snprintf(list + at, sizeof list - at, "%s%d", at ? ", " : "", c->state->rays[i].rank);
    return status_fail("of %d processes these have not come within %g seconds: %s%s; see whether they were "
                       "started, and reach this machine (%s)",
                       c->size, c->state->timeout, list, count > 16 ? " and more" : "",
                       c->state->cards[0].host);
}

/* One that had come, and is gone again. */
static Status look_for_gone(const Comm *c)
{
    for (int i = 0; i < c->state->ray_count; i++) {
        const Ray *ray = &c->state->rays[i];
        if ((ray->talk >= 0 && link_has_ended(ray->talk)) || (ray->life >= 0 && link_has_ended(ray->life)))
            return status_fail("process %d of %d (%d on %s) ended while all were starting", ray->rank,
                               c->size, c->state->cards[ray->rank].pid, c->state->cards[ray->rank].host);
    }
    return STATUS_OK;
}

static Status wait_for_all(Comm *c, int listening)
{
    Until u = until_timeout(c);
    const double began = seconds_now();
    bool told = false;
    for (int come = 0; come < SOCKETS * c->state->ray_count;) {
        const int fd = link_accept(listening);
        TRY(look_for_gone(c));
        if (fd >= 0)
            TRY(take_join(c, fd, &come));
        else if (until(&u) != STATUS_OK)
            return stop_asked(c->state->stop) ? status_interrupted() : missing(c);
        if (!told && seconds_now() - began > 10) {
            log_info("waiting for %d of %d processes", (SOCKETS * c->state->ray_count - come + 1) / SOCKETS,
                     c->size);
            told = true;
        }
    }
    return STATUS_OK;
}

static Status answer_all(Comm *c, Status how)
{
    Answer a = {.status = how};
    Until u = until_timeout(c);
    const LinkWait w = {until, &u};
    snprintf(a.message, sizeof a.message, "%.511s", how == STATUS_OK ? "" : status_message());
    for (int i = 0; i < c->state->ray_count; i++) {
        const int fd = c->state->rays[i].talk;
        Status s = fd < 0 ? STATUS_OK : link_write(fd, &a, sizeof a, &w);
        if (s == STATUS_OK && how == STATUS_OK)
            s = link_write(fd, c->state->cards, (size_t)c->size * sizeof(Card), &w);
        if (s != STATUS_OK && how == STATUS_OK)
            return status_fail("process %d ended while all were starting", i + 1);
    }
    if (how != STATUS_OK && how != STATUS_INTERRUPTED)
        status_fail("%s", a.message); /* as it was */
    return how;
}

/* The others --------------------------------------------------------------------------------------------- */

/* Process 0 may begin later than this one. */
static Status connect_to_first(const Comm *c, const World *w, int *fd)
{
    Until u = until_timeout(c);
    const char *why;
    while ((*fd = link_connect(w->addresses, w->port, &why)) < 0) {
        if (until(&u) != STATUS_OK)
            return stop_asked(c->state->stop)
                       ? status_interrupted()
                       : status_fail("process 0 is not to be reached within %g seconds at %s, port %d: %s",
                                     c->state->timeout, w->addresses, w->port, why);
        usleep(RETRY_US);
    }
    return STATUS_OK;
}

static Status join_first(Comm *c, const World *w, Join *j)
{
    Ray *ray = &c->state->rays[0];
    Until u = until_timeout(c);
    const LinkWait wait = {until, &u};
    for (j->which = 0; j->which < SOCKETS; j->which++) {
        int *fd = j->which == TALK ? &ray->talk : &ray->life;
        TRY(connect_to_first(c, w, fd));
        if (link_write(*fd, j, sizeof *j, &wait) != STATUS_OK)
            return status_fail("process 0 ended while all were starting");
    }
    Answer a;
    const Status s = link_read(ray->talk, &a, sizeof a, &wait);
    if (s == STATUS_INTERRUPTED)
        return s;
    if (s != STATUS_OK)
        return status_fail("process 0 has sent process %d away, or ended, or the processes are of another "
                           "run or version",
                           c->rank);
    if (a.status != STATUS_OK)
        return a.status == STATUS_INTERRUPTED ? status_interrupted() : status_refuse("%.511s", a.message);
    return link_read(ray->talk, c->state->cards, (size_t)c->size * sizeof(Card), &wait) == STATUS_OK
               ? STATUS_OK
               : status_fail("process 0 ended while all were starting");
}

/* Both --------------------------------------------------------------------------------------------------- */

typedef struct Where {
    char addresses[LINK_ADDRESSES], token[WORLD_TOKEN];
    int port;
} Where;

/* Open MPI has started them: it knows who they are, and carries where process 0 listens. */
static Status meet_by_mpi(Comm *c, World *w)
{
    Where where = {.port = 0};
    TRY(mpi_begin(&w->rank, &w->size));
    c->state->by_mpi = true;
    c->rank = w->rank;
    c->size = w->size;
    if (c->rank == 0) {
        TRY(link_listen(&where.port, &w->listening));
        char own[LINK_ADDRESSES - 16];
        uint64_t random[2] = {(uint64_t)getpid(), 0};
        if (getentropy(random, sizeof random) != 0)
            random[1] = (uint64_t)(seconds_now() * 1e9);
        link_own_addresses(own, sizeof own);
        snprintf(where.addresses, sizeof where.addresses, "127.0.0.1 %s", own);
        snprintf(where.token, sizeof where.token, "%016llx%016llx", (unsigned long long)random[0],
                 (unsigned long long)random[1]);
    }
    TRY(mpi_share(&where, sizeof where));
    memcpy(w->addresses, where.addresses, sizeof w->addresses);
    memcpy(w->token, where.token, sizeof w->token);
    w->port = where.port;
    return STATUS_OK;
}

static Status make_rays(Comm *c)
{
    CommState *s = c->state;
    s->ray_count = c->rank == 0 ? c->size - 1 : 1;
    s->cards = mem_calloc((size_t)c->size, sizeof *s->cards);
    s->rays = mem_calloc((size_t)s->ray_count, sizeof *s->rays);
    if (!s->cards || !s->rays)
        return STATUS_FAILED;
    for (int i = 0; i < s->ray_count; i++) {
        s->rays[i].rank = c->rank == 0 ? i + 1 : 0;
        s->rays[i].talk = s->rays[i].life = -1;
    }
    return STATUS_OK;
}

Status join_all(Comm *c, const World *given)
{
    World w = *given;
    c->rank = w.rank;
    c->size = w.size;
    if (w.mpi)
        TRY(meet_by_mpi(c, &w));
    if (c->size == 1)
        return STATUS_OK;
    TRY(make_rays(c));
    memcpy(c->state->token, w.token, sizeof w.token);
    Join j = {.magic = JOIN_MAGIC, .rank = c->rank, .size = c->size, .card = own_card(&w)};
    memcpy(j.token, w.token, sizeof j.token);
    c->state->cards[c->rank] = j.card;
    if (c->rank > 0) {
        TRY(join_first(c, &w, &j));
    } else {
        Status s = w.listening >= 0 ? STATUS_OK : link_listen(&w.port, &w.listening);
        if (s == STATUS_OK)
            s = answer_all(c, wait_for_all(c, w.listening));
        link_close(&w.listening);
        TRY(s);
    }
    settle_local(c, &w);
    return STATUS_OK;
}
