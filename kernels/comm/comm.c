/* Opening, agreeing and small messages. */
#include "comm.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Opening ------------------------------------------------------------------------------------------------ */

Comm *comm_alone(void)
{
    static Comm alone = {.size = 1, .local_size = 1, .sharing = 1};
    return &alone;
}

Comm comm_planned(int size)
{
    return (Comm){.size = size, .local_size = size, .sharing = size};
}

int comm_announced(void)
{
    World w;
    return world_find(&w) == STATUS_OK ? w.size : 1;
}

int comm_announced_rank(void)
{
    World w;
    return world_find(&w) == STATUS_OK ? w.rank : 0;
}

static void free_all(Comm *c)
{
    CommState *s = c->state;
    if (s) {
        life_finish(c);
        overlap_let_go(s);
        for (int i = 0; s->rays && i < s->ray_count; i++) {
            link_close(&s->rays[i].talk);
            link_close(&s->rays[i].life);
        }
        pthread_mutex_destroy(&s->lock);
        mem_free(s->rays);
        mem_free(s->cards);
    }
    mem_free(s);
    mem_free(c);
}

Status comm_open(const CommOptions *o, Comm **out)
{
    World w;
    TRY(world_find(&w));
    Comm *c = mem_calloc(1, sizeof *c);
    if (!c)
        return STATUS_FAILED;
    *c = (Comm){.size = 1, .local_size = 1, .sharing = 1};
    Status s = STATUS_OK;
    if (w.size > 1 || w.mpi) {
        c->state = mem_calloc(1, sizeof *c->state);
        if (!c->state) {
            mem_free(c);
            return STATUS_FAILED;
        }
        *c->state = (CommState){.timeout = o->timeout, .stop = o->stop, .waiting_for = -1, .wake = {-1, -1}};
        pthread_mutex_init(&c->state->lock, NULL);
        s = join_all(c, &w);
        if (s == STATUS_OK && c->size > 1)
            s = life_begin(c);
    }
    if (s != STATUS_OK) {
        free_all(c);
        return s;
    }
    *out = c;
    return STATUS_OK;
}

void comm_set_timeout(Comm *c, double seconds)
{
    if (c->size > 1)
        c->state->timeout = seconds;
}

const volatile sig_atomic_t *comm_stop(const Comm *c)
{
    return &c->state->halt;
}

const char *comm_name(const Comm *c, int rank, char *out, size_t size)
{
    bool several = false;
    for (int r = 0; r < c->size; r++)
        several = several || strcmp(c->state->cards[r].host, c->state->cards[0].host) != 0;
    const Card *card = &c->state->cards[rank];
    if (several)
        snprintf(out, size, "process %d of %d (%d on %s)", rank, c->size, card->pid, card->host);
    else
        snprintf(out, size, "process %d of %d (%d)", rank, c->size, card->pid);
    return out;
}

/* Process 0 has the last word: it may still save, and a starter ends all when the first of them fails. */
static void wait_for_first(Comm *c)
{
    const double since = seconds_now();
    const Ray *first = &c->state->rays[0];
    while (seconds_now() - since < c->state->timeout) {
        pthread_mutex_lock(&c->state->lock);
        const bool gone = first->life < 0;
        pthread_mutex_unlock(&c->state->lock);
        if (gone)
            return;
        usleep(10000);
    }
}

void comm_close(Comm *c, Status how)
{
    if (!c || c == comm_alone())
        return;
    const bool failed = how != STATUS_OK && how != STATUS_INTERRUPTED;
    const KeptStatus kept = status_keep(failed ? how : STATUS_OK);
    CommState *s = c->state;
    if (c->size > 1) {
        life_end(c, how, failed ? kept.message : NULL);
        if (s->transport)
            s->transport->close(s->own, how != STATUS_OK || s->broken);
    }
    if (s && s->by_mpi) /* in which process 0 waits for all, so before the wait for process 0 */
        mpi_end(how != STATUS_OK || s->broken);
    if (c->rank > 0)
        wait_for_first(c);
    free_all(c);
    status_again(&kept);
}

/* Small messages ----------------------------------------------------------------------------------------- */

typedef struct Wait {
    Comm *c;
    double since;
} Wait;

static Status wait_on(void *arg)
{
    const Wait *w = arg;
    return comm_waiting(w->c, w->since);
}

typedef Status (*LinkFn)(int fd, const LinkWait *w, void *data, size_t bytes);

static Status do_read(int fd, const LinkWait *w, void *data, size_t bytes)
{
    return link_read(fd, data, bytes, w);
}

static Status do_write(int fd, const LinkWait *w, void *data, size_t bytes)
{
    return link_write(fd, data, bytes, w);
}

static Status over_ray(Comm *c, const Ray *ray, LinkFn fn, void *data, size_t bytes)
{
    Wait wait = {c, seconds_now()};
    const LinkWait w = {wait_on, &wait};
    c->state->waiting_for = ray->rank;
    const Status s = fn(ray->talk, &w, data, bytes);
    c->state->waiting_for = -1;
    return s == LINK_ENDED ? life_gone(c, ray->rank) : s;
}

/* What goes before a record, and before everybody's: who says so, how it went for him, his message. */
typedef struct Word {
    int32_t status, rank;
    uint32_t bytes;
    char message[STATUS_MESSAGE_SIZE];
} Word;

static Status send_word(Comm *c, const Ray *ray, Word *w)
{
    w->bytes = (uint32_t)strlen(w->message);
    TRY(over_ray(c, ray, do_write, w, offsetof(Word, message)));
    return over_ray(c, ray, do_write, w->message, w->bytes);
}

static Status read_word(Comm *c, const Ray *ray, Word *w)
{
    TRY(over_ray(c, ray, do_read, w, offsetof(Word, message)));
    if (w->bytes >= sizeof w->message)
        return status_fail("process %d says what cannot be understood; are they all of one version?",
                           ray->rank);
    w->message[w->bytes] = 0;
    return over_ray(c, ray, do_read, w->message, w->bytes);
}

static int weight(int status)
{
    return status == STATUS_OK ? 0 : status == STATUS_INTERRUPTED ? 1 : 2;
}

static Word own_word(const Comm *c, Status mine)
{
    Word w = {.status = mine, .rank = c->rank};
    if (weight(mine) == 2)
        snprintf(w.message, sizeof w.message, "%s", status_message());
    return w;
}

/* What all get to hear, as this process's result. Who failed itself has its own message. */
static Status take_word(const Comm *c, const Word *w)
{
    char name[96];
    if (w->status == STATUS_OK)
        return STATUS_OK;
    if (w->status == STATUS_INTERRUPTED)
        return status_interrupted();
    comm_name(c, w->rank, name, sizeof name);
    if (w->rank == c->rank)
        return w->status == STATUS_REFUSED ? status_refuse("%s", w->message) : status_fail("%s", w->message);
    return w->status == STATUS_REFUSED ? status_refuse("%s: %.1900s", name, w->message)
                                       : status_fail("%s: %.1900s", name, w->message);
}

/* Process 0's side: hears all, then says the worst. */
static Status lead(Comm *c, Word *worst, const void *record, size_t bytes, char *all)
{
    CommState *s = c->state;
    if (bytes)
        memcpy(all, record, bytes);
    for (int i = 0; i < s->ray_count; i++) {
        Word w;
        TRY(read_word(c, &s->rays[i], &w));
        if (bytes)
            TRY(over_ray(c, &s->rays[i], do_read, all + (size_t)(i + 1) * bytes, bytes));
        if (weight(w.status) > weight(worst->status))
            *worst = w;
    }
    for (int i = 0; i < s->ray_count; i++) {
        TRY(send_word(c, &s->rays[i], worst));
        if (bytes && worst->status == STATUS_OK)
            TRY(over_ray(c, &s->rays[i], do_write, all, (size_t)c->size * bytes));
    }
    return STATUS_OK;
}

static Status follow(Comm *c, Word *word, const void *record, size_t bytes, char *all)
{
    const Ray *first = &c->state->rays[0];
    TRY(send_word(c, first, word));
    if (bytes)
        TRY(over_ray(c, first, do_write, (void *)(uintptr_t)record, bytes));
    TRY(read_word(c, first, word));
    return bytes && word->status == STATUS_OK ? over_ray(c, first, do_read, all, (size_t)c->size * bytes)
                                              : STATUS_OK;
}

static Status meet_others(Comm *c, Status mine, const void *record, size_t bytes, void *all)
{
    TRY(comm_check(c));
    Word word = own_word(c, mine);
    TRY(c->rank == 0 ? lead(c, &word, record, bytes, all) : follow(c, &word, record, bytes, all));
    return take_word(c, &word);
}

Status comm_meet(Comm *c, Status mine, const void *record, size_t bytes, void *all)
{
    if (c->size == 1) {
        if (mine == STATUS_OK && bytes)
            memcpy(all, record, bytes);
        return mine;
    }
    const Status s = meet_others(c, mine, record, bytes, all);
    if (s != STATUS_OK)
        overlap_drop(c->state);
    return s;
}

Status comm_agree(Comm *c, Status mine)
{
    return comm_meet(c, mine, NULL, 0, NULL);
}

Status comm_tell(Comm *c, void *data, size_t bytes)
{
    if (c->size == 1)
        return STATUS_OK;
    for (int i = 0; i < c->state->ray_count; i++)
        TRY(over_ray(c, &c->state->rays[i], c->rank == 0 ? do_write : do_read, data, bytes));
    return STATUS_OK;
}

Status comm_bring(Comm *c, int from, void *data, size_t bytes)
{
    if (from == 0 || (c->rank != 0 && c->rank != from))
        return STATUS_OK;
    return c->rank == 0 ? over_ray(c, &c->state->rays[from - 1], do_read, data, bytes)
                        : over_ray(c, &c->state->rays[0], do_write, data, bytes);
}

void comm_share(int64_t total, int size, int rank, int64_t *first, int64_t *count)
{
    const int64_t even = total / size, more = total % size;
    *first = rank * even + (rank < more ? rank : more);
    *count = even + (rank < more);
}
