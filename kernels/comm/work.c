/* Things that all processes make and process 0 takes, in order. */
#include "state.h"

static Status do_one(Comm *c, const CommWork *w, int64_t k)
{
    const int maker = (int)(k % c->size);
    if (maker == c->rank)
        TRY(w->make(k, w->thing, w->arg));
    TRY(comm_bring(c, maker, w->thing, w->bytes));
    return c->rank == 0 ? w->take(k, w->thing, w->arg) : STATUS_OK;
}

Status comm_work(Comm *c, const CommWork *w)
{
    Status s = STATUS_OK;
    for (int64_t k = 0; k < w->count && s == STATUS_OK; k++) {
        s = comm_check(c);
        if (s == STATUS_OK)
            s = do_one(c, w, k);
        comm_alive(c);
    }
    return c->size > 1 && s != STATUS_OK ? life_give_up(c, s) : s;
}
