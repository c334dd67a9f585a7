/* Things that all processes make and process 0 takes, in order. Before each thing goes how making it ended:
 * who is asked to stop says so and makes no more; as a stop is everybody's, all end in the same way, and
 * nothing is left on its way to process 0. A failure ends the run of all (comm_give_up). */
#include "comm.h"

#include "kernels/base/mem.h"

typedef struct Working {
    Comm *c;
    const CommWork *w;
    bool stopped;    /* this process, or (process 0) any */
    bool *has_ended; /* process 0: who makes no more */
} Working;

/* This process's thing, to process 0. */
static Status make_one(Working *x, int64_t k)
{
    const CommWork *w = x->w;
    const Status made = x->stopped ? status_interrupted() : w->make(k, w->thing, w->arg);
    int32_t mark = made;
    if (made != STATUS_OK && made != STATUS_INTERRUPTED)
        return made;
    x->stopped = made == STATUS_INTERRUPTED;
    if (x->c->rank == 0)
        return STATUS_OK;
    TRY(comm_bring(x->c, x->c->rank, &mark, sizeof mark));
    return x->stopped ? STATUS_OK : comm_bring(x->c, x->c->rank, w->thing, w->bytes);
}

/* Another's thing, into process 0. */
static Status fetch_one(Working *x, int maker)
{
    int32_t mark = STATUS_OK;
    TRY(comm_bring(x->c, maker, &mark, sizeof mark));
    if (mark == STATUS_OK)
        return comm_bring(x->c, maker, x->w->thing, x->w->bytes);
    x->has_ended[maker] = x->stopped = true;
    return STATUS_OK;
}

static Status do_one(Working *x, int64_t k)
{
    const int maker = (int)(k % x->c->size), rank = x->c->rank;
    if (maker == rank && !x->stopped)
        TRY(make_one(x, k));
    else if (rank == 0 && maker != 0 && !x->has_ended[maker])
        TRY(fetch_one(x, maker));
    return rank == 0 && !x->stopped ? x->w->take(k, x->w->thing, x->w->arg) : STATUS_OK;
}

static Status do_all(Working *x)
{
    for (int64_t k = 0; k < x->w->count; k++) {
        const Status s = do_one(x, k);
        if (s == STATUS_INTERRUPTED && x->c->size > 1)
            x->stopped = true; /* taking was stopped */
        else
            TRY(s);
        if (x->stopped && (x->c->rank > 0 || x->c->size == 1))
            break;
        comm_alive(x->c);
    }
    return x->stopped ? status_interrupted() : STATUS_OK;
}

Status comm_work(Comm *c, const CommWork *w)
{
    Working x = {.c = c, .w = w, .has_ended = mem_calloc((size_t)c->size, sizeof *x.has_ended)};
    const Status s = x.has_ended ? do_all(&x) : STATUS_FAILED;
    mem_free(x.has_ended);
    if (s == STATUS_OK || s == STATUS_INTERRUPTED)
        return comm_agree(c, s);
    return comm_give_up(c, s);
}
