/* Signs of life. Each process has a thread that watches a socket to process 0 (process 0: to all). It sees at
 * once when the other side's process has ended, with a word (LIFE_END) or without, and passes on that
 * somebody was asked to stop. Then Comm's halt flag goes up, which work looks at between operations.
 *
 * Who is merely late shows when somebody waits for it (comm_waiting): process 0 judges, by when it has last
 * heard of whom; the others judge process 0 alone. */
#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/base/stop.h"
#include "state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WATCH_MS 50     /* a signal is seen this fast */
#define SAID_EVERY 1.0  /* seconds between two signs of life */
#define FIRST_JUDGE 5.0 /* seconds that the others leave process 0 for finding out who it is */

typedef enum LifeKind { LIFE_STEP = 1, LIFE_WAIT, LIFE_STOP, LIFE_END } LifeKind;

typedef struct LifeHeader {
    uint32_t kind;
    int32_t status;
    int32_t rank;   /* whom it is about */
    uint32_t bytes; /* of the message after it */
} LifeHeader;

/* Saying ------------------------------------------------------------------------------------------------- */

/* Short, and never waited for: who does not read is late, and found out otherwise. */
static void send_life(CommState *s, Ray *ray, LifeKind kind, int rank, Status status, const char *message)
{
    char frame[sizeof(LifeHeader) + STATUS_MESSAGE_SIZE];
    const size_t n = message ? strnlen(message, STATUS_MESSAGE_SIZE - 1) : 0;
    const LifeHeader h = {(uint32_t)kind, status, rank, (uint32_t)n};
    memcpy(frame, &h, sizeof h);
    if (n)
        memcpy(frame + sizeof h, message, n);
    pthread_mutex_lock(&s->lock);
    if (ray->life >= 0 && send(ray->life, frame, sizeof h + n, MSG_NOSIGNAL) < 0)
        errno = 0; /* its end is seen by the watcher */
    pthread_mutex_unlock(&s->lock);
}

static void say(Comm *c, LifeKind kind)
{
    CommState *s = c->state;
    for (int i = 0; i < s->ray_count; i++)
        send_life(s, &s->rays[i], kind, c->rank, STATUS_OK, NULL);
}

void life_end(Comm *c, Status how, const char *message)
{
    CommState *s = c->state;
    for (int i = 0; i < s->ray_count; i++)
        send_life(s, &s->rays[i], LIFE_END, c->rank, how, message);
}

bool comm_lost_first(const Comm *c)
{
    return c->size > 1 && c->state->lost_first;
}

/* A reason to end, told to all others; the first stays. */
static void broken(Comm *c, int rank, Status how, const char *message)
{
    CommState *s = c->state;
    pthread_mutex_lock(&s->lock);
    const bool first = !s->broken;
    if (first) {
        s->how = how;
        snprintf(s->why, sizeof s->why, "%.*s", (int)sizeof s->why - 1, message);
        s->broken = true;
    }
    __atomic_store_n(&s->halt, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; first && c->rank == 0 && rank != 0 && i < s->ray_count; i++)
        if (s->rays[i].rank != rank || how != STATUS_OK)
            send_life(s, &s->rays[i], LIFE_END, rank, how, s->why);
}

/* Process 0 (or this process, of 0) finds that `rank` is the reason to end. Tells the others; the first
 * reason stays. */
static void blame(Comm *c, int rank, Status how, const char *what)
{
    char name[96], message[STATUS_MESSAGE_SIZE];
    c->state->lost_first = c->state->lost_first || rank == 0;
    snprintf(message, sizeof message, "%s %.1900s", comm_name(c, rank, name, sizeof name), what);
    broken(c, rank, how, message);
}

Status comm_give_up(Comm *c, Status how)
{
    char why[STATUS_MESSAGE_SIZE];
    snprintf(why, sizeof why, "%s", how == STATUS_INTERRUPTED ? "" : status_message());
    if (c->size > 1 && !c->state->broken) {
        life_end(c, how, why);
        broken(c, c->rank, how, why);
    }
    return how;
}

Status life_gone(Comm *c, int rank)
{
    for (int i = 0; i < 100; i++) {
        TRY(comm_check(c));
        usleep(10000);
    }
    blame(c, rank, STATUS_FAILED, "has ended while others still wanted something of it");
    return comm_check(c);
}

/* Watching ----------------------------------------------------------------------------------------------- */

static bool read_exactly(int fd, void *data, size_t bytes)
{
    const LinkWait w = {0};
    return link_read(fd, data, bytes, &w) == STATUS_OK;
}

/* It has said how it ended. An orderly end is none of ours, unless we still wait for it, which is seen there.
 * From process 0 a failure comes as everybody's, with its name in the message already. */
static void heard_end(Comm *c, Ray *ray, const LifeHeader *h, const char *message)
{
    ray->over = true;
    if (h->status == STATUS_OK)
        return;
    if (h->status == STATUS_INTERRUPTED) {
        broken(c, h->rank, STATUS_INTERRUPTED, "");
    } else if (c->rank == 0 || h->rank == 0) {
        char with_name[STATUS_MESSAGE_SIZE], name[96];
        snprintf(with_name, sizeof with_name, "%s: %.1900s", comm_name(c, h->rank, name, sizeof name),
                 message);
        broken(c, h->rank, (Status)h->status, with_name);
    } else {
        broken(c, h->rank, (Status)h->status, message);
    }
}

/* False: the other side is gone. */
static bool hear(Comm *c, Ray *ray)
{
    LifeHeader h;
    char message[STATUS_MESSAGE_SIZE] = "";
    if (!read_exactly(ray->life, &h, sizeof h) || h.bytes >= sizeof message ||
        (h.bytes && !read_exactly(ray->life, message, h.bytes)))
        return false;
    switch (h.kind) {
    case LIFE_STEP:
        ray->heard = seconds_now();
        break;
    case LIFE_WAIT:
        ray->waits = seconds_now();
        break;
    case LIFE_STOP:
        __atomic_store_n(&c->state->halt, 1, __ATOMIC_RELAXED);
        if (c->rank == 0)
            say(c, LIFE_STOP);
        break;
    default:
        if (h.rank >= 0 && h.rank < c->size)
            heard_end(c, ray, &h, message);
    }
    return true;
}

static void gone(Comm *c, Ray *ray)
{
    pthread_mutex_lock(&c->state->lock);
    link_close(&ray->life);
    pthread_mutex_unlock(&c->state->lock);
    if (!ray->over)
        blame(c, ray->rank, STATUS_FAILED,
              "has ended without a word: it was killed, the machine's memory ran out, or the machine "
              "is gone");
    ray->over = true;
}

/* What the caller's flag says goes to all. */
static void pass_stop_on(Comm *c)
{
    CommState *s = c->state;
    if (s->asked || !stop_asked(s->stop))
        return;
    s->asked = true;
    __atomic_store_n(&s->halt, 1, __ATOMIC_RELAXED);
    say(c, LIFE_STOP);
}

static void *watch(void *arg)
{
    Comm *c = arg;
    CommState *s = c->state;
    struct pollfd *p = mem_calloc((size_t)s->ray_count + 1, sizeof *p);
    if (!p)
        return NULL;
    for (;;) {
        p[0] = (struct pollfd){.fd = s->wake[0], .events = POLLIN};
        for (int i = 0; i < s->ray_count; i++)
            p[i + 1] = (struct pollfd){.fd = s->rays[i].life, .events = POLLIN};
        const int ready = poll(p, (nfds_t)s->ray_count + 1, WATCH_MS);
        if (ready > 0 && p[0].revents)
            break;
        for (int i = 0; ready > 0 && i < s->ray_count; i++)
            if (p[i + 1].revents && !hear(c, &s->rays[i]))
                gone(c, &s->rays[i]);
        pass_stop_on(c);
    }
    mem_free(p);
    return NULL;
}

/* Signals go to the main thread: kernels/base/stop.c says why. */
Status life_begin(Comm *c)
{
    CommState *s = c->state;
    sigset_t all, before;
    const double now = seconds_now();
    for (int i = 0; i < s->ray_count; i++)
        s->rays[i].heard = s->rays[i].waits = now;
    if (pipe(s->wake) != 0)
        return status_fail("a pipe cannot be made: %s", strerror(errno));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->watching = pthread_create(&s->watcher, NULL, watch, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->watching ? STATUS_OK : status_fail("a thread cannot be started");
}

void life_finish(Comm *c)
{
    CommState *s = c->state;
    if (s->watching) {
        if (write(s->wake[1], "", 1) == 1)
            pthread_join(s->watcher, NULL);
        s->watching = false;
    }
    link_close(&s->wake[0]);
    link_close(&s->wake[1]);
}

/* Waiting ------------------------------------------------------------------------------------------------ */

void comm_alive(Comm *c)
{
    if (c->size == 1 || seconds_now() - c->state->said < SAID_EVERY)
        return;
    c->state->said = seconds_now();
    say(c, LIFE_STEP);
}

Status comm_check(const Comm *c)
{
    if (c->size == 1 || !c->state->broken)
        return STATUS_OK;
    CommState *s = c->state;
    pthread_mutex_lock(&s->lock);
    const Status how = s->how;
    if (how == STATUS_REFUSED)
        status_refuse("%s", s->why);
    else if (how != STATUS_INTERRUPTED)
        status_fail("%s", s->why);
    pthread_mutex_unlock(&s->lock);
    return how == STATUS_INTERRUPTED ? status_interrupted() : how;
}

#define WAITS_WITHIN (5 * SAID_EVERY) /* seconds since it last said so: it still waits */

bool comm_all_wait(const Comm *c)
{
    const double now = seconds_now();
    for (int i = 0; i < c->state->ray_count; i++)
        if (now - c->state->rays[i].waits > WAITS_WITHIN)
            return false;
    return c->rank == 0;
}

double comm_timeout(const Comm *c)
{
    return c->state->timeout;
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

/* Process 0: whom the wait is for, or, where that isn't known, who has not said that it waits too. */
static const Ray *late_ray(const CommState *s, double since, double now)
{
    for (int i = 0; i < s->ray_count; i++) {
        const Ray *ray = &s->rays[i];
        if (s->waiting_for >= 0 && ray->rank != s->waiting_for)
            continue;
        const double heard = later(ray->heard, since);
        if (now - heard > s->timeout && (s->waiting_for >= 0 || now - ray->waits > WAITS_WITHIN))
            return ray;
    }
    return NULL;
}

static void judge(Comm *c, double since, double now)
{
    CommState *s = c->state;
    char what[160];
    snprintf(what, sizeof what,
             "has not been heard of for %g seconds (train.timeout): it hangs, is stopped, or its machine is "
             "gone",
             s->timeout);
    if (c->rank == 0) {
        const Ray *late = late_ray(s, since, now);
        if (late)
            blame(c, late->rank, STATUS_FAILED, what);
        return;
    }
    const Ray *first = &s->rays[0];
    const double heard = later(later(first->heard, first->waits), since);
    if (now - heard > s->timeout + FIRST_JUDGE)
        blame(c, 0, STATUS_FAILED, what);
}

Status comm_waiting(Comm *c, double since)
{
    CommState *s = c->state;
    const double now = seconds_now();
    if (now - s->said > SAID_EVERY) {
        s->said = now;
        say(c, LIFE_WAIT);
    }
    /* asked this seldom, the process stood still itself (stopped and continued, with the others mostly): it
     * knows nothing of that time */
    if (now - later(since, s->waited) > SAID_EVERY)
        s->awake = now;
    s->waited = now;
    judge(c, later(since, s->awake), now);
    return comm_check(c);
}
