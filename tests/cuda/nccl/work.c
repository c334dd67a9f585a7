/* What a group of calls does once its stream has got there. Each process writes every other one a letter: its
 * calls, as far as they are that one's business, and the bytes that are for it, as they were at that moment.
 * When all letters are there they are compared, and what arrived is put where it belongs. */
#include "stand_in.h"

#include "kernels/base/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A call as a letter has it. */
typedef struct Described {
    int kind, type, peer;
    size_t count;
} Described;

static void *room(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        abort();
    return p;
}

/* Writing ----------------------------------------------------------------------------------------------- */

/* What `rank` gets of a call of ours; *bytes 0: nothing. */
static const char *share_of(const struct ncclComm *comm, const Call *c, int rank, size_t *bytes)
{
    *bytes = c->count * type_bytes(c->type);
    switch (c->kind) {
    case CALL_BROADCAST:
        *bytes = comm->rank == c->peer ? *bytes : 0;
        break;
    case CALL_REDUCE:
    case CALL_SEND:
        *bytes = rank == c->peer ? *bytes : 0;
        break;
    case CALL_REDUCE_SCATTER:
        return c->from + (size_t)rank * *bytes;
    case CALL_RECEIVE:
        *bytes = 0;
        break;
    case CALL_ALL_GATHER:
        break;
    }
    return c->from;
}

/* A letter has collectives first, then what is sent, then what is received, each in the order of the calls.
 */
static int chapter(const Call *c)
{
    return is_collective(c) ? 0 : c->kind == CALL_SEND ? 1 : 2;
}

static bool concerns(const Call *c, int rank)
{
    return is_collective(c) || c->peer == rank;
}

static void write_letter(const Group *g, int rank)
{
    Letter head = {.kind = LETTER_GROUP};
    size_t bytes;
    uint32_t *counts[] = {&head.collectives, &head.sends, &head.receives};
    for (int i = 0; i < g->count; i++)
        if (concerns(&g->calls[i], rank)) {
            share_of(g->comm, &g->calls[i], rank, &bytes);
            ++*counts[chapter(&g->calls[i])];
            head.bytes += sizeof(Described) + bytes;
        }
    Mail *m = &g->mail[rank];
    m->wanted = head.bytes > 0;
    m->out_bytes = sizeof head + head.bytes;
    char *at = m->out = room(m->out_bytes);
    at = mempcpy(at, &head, sizeof head);
    char *data = at + (head.collectives + head.sends + head.receives) * sizeof(Described);
    for (int now = 0; now < 3; now++)
        for (int i = 0; i < g->count; i++) {
            const Call *c = &g->calls[i];
            if (chapter(c) != now || !concerns(c, rank))
                continue;
            Described d;
            memset(&d, 0, sizeof d);
            d.kind = c->kind, d.type = c->type, d.peer = c->peer, d.count = c->count;
            at = mempcpy(at, &d, sizeof d);
            const char *from = share_of(g->comm, c, rank, &bytes);
            if (bytes)
                data = mempcpy(data, from, bytes);
        }
}

static void begin(Group *g)
{
    const int size = g->comm->size, own = g->comm->rank;
    g->mail = room((size_t)size * sizeof *g->mail);
    g->begun = seconds_now();
    for (int i = 0; i < g->count; i++)
        check_memory(g->comm, &g->calls[i]); /* it may have been freed */
    memory_open();
    memory_reach_all();
    for (int r = 0; r < size; r++)
        write_letter(g, r);
    memory_close();
    Mail *m = &g->mail[own]; /* which has arrived */
    memcpy(&m->head, m->out, sizeof m->head);
    m->in = room(m->head.bytes);
    memcpy(m->in, m->out + sizeof m->head, m->head.bytes);
    m->in_at = m->head.bytes;
    m->head_at = sizeof m->head;
    m->out_at = m->out_bytes;
}

/* Comparing --------------------------------------------------------------------------------------------- */

static const Call *call_of(const Group *g, int rank, int wanted, uint32_t index)
{
    for (int i = 0; i < g->count; i++)
        if (chapter(&g->calls[i]) == wanted && concerns(&g->calls[i], rank) && index-- == 0)
            return &g->calls[i];
    return NULL;
}

static void differs(const Group *g, int peer, const Call *ours, const Described *theirs)
{
    char one[128] = "nothing", other[128] = "nothing";
    if (ours)
        call_text(ours, one, sizeof one);
    if (theirs) {
        const Call c = {(CallKind)theirs->kind, theirs->type, theirs->peer, theirs->count, NULL, NULL};
        call_text(&c, other, sizeof other);
    }
    stand_in_fail(NULL, 0, "group %d: rank %d calls %s, rank %d calls %s", g->number, g->comm->rank, one,
                  peer, other);
}

/* A chapter of ours and one of theirs have the same calls, or each send is a receive of the same. */
static void compare(const Group *g, int peer, int ours, const Described *theirs, uint32_t count)
{
    for (uint32_t i = 0;; i++) {
        const Call *c = call_of(g, peer, ours, i);
        const Described *d = i < count ? &theirs[i] : NULL;
        if (!c && !d)
            return;
        if (!c || !d || c->count != d->count || c->type != d->type ||
            (ours == 0 && ((int)c->kind != d->kind || c->peer != d->peer)))
            differs(g, peer, c, d);
    }
}

static void compare_all(const Group *g, int peer)
{
    const Mail *m = &g->mail[peer];
    Described *d = room((m->head.collectives + m->head.sends + m->head.receives) * sizeof *d);
    memcpy(d, m->in, (m->head.collectives + m->head.sends + m->head.receives) * sizeof *d);
    compare(g, peer, 0, d, m->head.collectives);
    compare(g, peer, 2, d + m->head.collectives, m->head.sends);
    compare(g, peer, 1, d + m->head.collectives + m->head.sends, m->head.receives);
    free(d);
}

/* Moving ------------------------------------------------------------------------------------------------ */

static void arrived(Group *g, int peer)
{
    Mail *m = &g->mail[peer];
    if (m->head.kind == LETTER_BYE)
        stand_in_fail(NULL, 0, "group %d: rank %d has left the communicator, and rank %d still calls",
                      g->number, peer, g->comm->rank);
    m->in = room(m->head.bytes);
}

/* As far as it goes; true: both letters are through. */
static bool move(Group *g, int peer)
{
    Mail *m = &g->mail[peer];
    m->out_at += wire_write(g->comm, peer, m->out + m->out_at, m->out_bytes - m->out_at);
    if (m->head_at < sizeof m->head) {
        m->head_at += wire_read(g->comm, peer, (char *)&m->head + m->head_at, sizeof m->head - m->head_at);
        if (m->head_at == sizeof m->head)
            arrived(g, peer);
    }
    if (m->head_at == sizeof m->head && m->in_at < m->head.bytes)
        m->in_at += wire_read(g->comm, peer, m->in + m->in_at, m->head.bytes - m->in_at);
    return m->out_at == m->out_bytes && m->in && m->in_at == m->head.bytes;
}

/* What a test wants to happen in the middle of this group. */
static void strike(Group *g, const char *word, int number)
{
    if (wish(word, g->comm->rank) != g->number)
        return;
    for (int r = 0; r < g->comm->size; r++) {
        Mail *m = &g->mail[r];
        if (m->wanted && m->out_at == 0)
            m->out_at = wire_write(g->comm, r, m->out, m->out_bytes / 2);
    }
    raise(number);
}

/* Nobody can give the communicator up while the host waits for the stream. */
static void held_for_ever(const Group *g, int peer)
{
    stand_in_fail(NULL, 0,
                  "group %d: the host waits for the stream of rank %d, and rank %d is gone: this would never "
                  "end",
                  g->number, g->comm->rank, peer);
}

static bool ready(Op *o, bool held)
{
    Group *g = o->data;
    ncclComm_t comm = g->comm;
    if (comm->phase == COMM_ABORTED)
        return true;
    if (!g->mail) {
        begin(g);
        strike(g, "dies", SIGKILL);
        strike(g, "stops", SIGSTOP);
    }
    const long mute = wish("mute", comm->rank), delay = wish("delay", comm->rank);
    if ((mute >= 0 && g->number >= mute) || (delay >= 0 && seconds_now() - g->begun < (double)delay / 1000))
        return false;
    bool all = true;
    for (int r = 0; r < comm->size; r++) {
        if (!g->mail[r].wanted)
            continue;
        const bool through = r == comm->rank || move(g, r);
        if (held && !through && comm->gone[r])
            held_for_ever(g, r);
        all = all && through;
    }
    for (int r = 0; r < comm->size && all; r++)
        if (g->mail[r].wanted)
            compare_all(g, r);
    return all;
}

/* Running ----------------------------------------------------------------------------------------------- */

/* In the order of ranks; NCCL's own order is another for each size and number of GPUs. */
static void add_up(float *to, const char *const *shares, int size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float sum, x;
        memcpy(&sum, shares[0] + i * sizeof sum, sizeof sum);
        for (int r = 1; r < size; r++) {
            memcpy(&x, shares[r] + i * sizeof x, sizeof x);
            sum += x;
        }
        to[i] = sum;
    }
}

static void do_call(const Group *g, const Call *c, const char *const *shares)
{
    const size_t bytes = c->count * type_bytes(c->type);
    switch (c->kind) {
    case CALL_BROADCAST:
    case CALL_RECEIVE:
        memcpy(c->to, shares[c->peer], bytes);
        break;
    case CALL_ALL_GATHER:
        for (int r = 0; r < g->comm->size; r++)
            memcpy(c->to + (size_t)r * bytes, shares[r], bytes);
        break;
    case CALL_REDUCE:
    case CALL_REDUCE_SCATTER:
        add_up((float *)(void *)c->to, shares, g->comm->size, c->count);
        break;
    case CALL_SEND:
        break;
    }
}

/* Bytes that `rank` has sent for a call of ours. */
static size_t sent_by(const Group *g, const Call *c, int rank)
{
    const struct ncclComm *comm = g->comm;
    const bool sends = c->kind == CALL_BROADCAST || c->kind == CALL_RECEIVE ? rank == c->peer
                       : c->kind == CALL_REDUCE                             ? comm->rank == c->peer
                                                                            : c->kind != CALL_SEND;
    return sends ? c->count * type_bytes(c->type) : 0;
}

static void deliver(Group *g)
{
    const int size = g->comm->size;
    const char **at = room((size_t)size * sizeof *at), **shares = room((size_t)size * sizeof *shares);
    for (int r = 0; r < size; r++) {
        const Letter *l = &g->mail[r].head;
        at[r] = g->mail[r].wanted
                    ? g->mail[r].in + (l->collectives + l->sends + l->receives) * sizeof(Described)
                    : NULL;
    }
    for (int now = 0; now < 3; now++)
        for (int i = 0; i < g->count; i++) {
            const Call *c = &g->calls[i];
            for (int r = 0; r < size && chapter(c) == now; r++) {
                const size_t bytes = sent_by(g, c, r);
                shares[r] = at[r];
                if (bytes)
                    at[r] += bytes;
            }
            if (chapter(c) == now && call_writes(g->comm, c))
                do_call(g, c, shares);
        }
    free(at);
    free(shares);
}

static void run(Op *o)
{
    Group *g = o->data;
    if (g->comm->phase != COMM_ABORTED)
        deliver(g);
    for (int i = 0; i < g->count; i++) {
        const size_t bytes = call_writes(g->comm, &g->calls[i]);
        if (g->comm->phase == COMM_ABORTED && bytes)
            memset(g->calls[i].to, STAND_IN_POISON, bytes);
        else if (bytes > 2 && wish("wrong", g->comm->rank) == g->number)
            g->calls[i].to[2] ^= 0x40;
    }
    for (int r = 0; g->mail && r < g->comm->size; r++) {
        free(g->mail[r].in);
        free(g->mail[r].out);
        g->mail[r].in = g->mail[r].out = NULL;
    }
    g->done = true;
}

cudaError_t work_queue(Group *g)
{
    Op *o = op_new(OP_OTHER);
    o->run = run;
    o->ready = ready;
    o->data = g;
    return queue_add(g->stream, o);
}
