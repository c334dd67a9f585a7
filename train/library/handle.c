#include "handle.h"

#include "kernels/base/stop.h"

#include <pthread.h>
#include <string.h>

/* Recursive: a listener may use another model. */
static pthread_mutex_t card = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void pass_message(void *arg, LogLevel level, const char *text)
{
    const Handle *h = arg;
    if (!h->listener.message)
        return;
    const locale_t ours = host_call(&h->host);
    h->listener.message(h->listener.arg, (int)level, text);
    host_back(ours);
}

static void pass_progress(void *arg, Progress *p, ProgressEvent event)
{
    if (event == PROGRESS_UPDATE)
        handle_progress(arg, p->label, p->unit, p->done, p->total, p->note);
}

bool handle_progress(Handle *h, const char *label, const char *unit, int64_t done, int64_t total,
                     const char *note)
{
    if (h->listener.progress) {
        const locale_t ours = host_call(&h->host);
        if (h->listener.progress(h->listener.arg, label, unit, done, total, note))
            handle_stop(h);
        host_back(ours);
    }
    return !stop_asked(&h->stop);
}

void handle_stop(Handle *h)
{
    __atomic_store_n(&h->stop, 1, __ATOMIC_RELAXED);
}

Status handle_enter(Handle *h, const char *what)
{
    if (atomic_flag_test_and_set(&h->busy))
        return status_refuse("%s: is busy in another call; wait for it, or stop it first", what);
    h->log_before = log_redirect((LogTarget){pass_message, h});
    h->progress_before = progress_redirect((ProgressTarget){pass_progress, h});
    h->host = host_enter();
    return STATUS_OK;
}

void handle_take_card(Handle *h)
{
    pthread_mutex_lock(&card);
    h->on_card = true;
}

void handle_release_card(Handle *h)
{
    if (h->on_card)
        pthread_mutex_unlock(&card);
    h->on_card = false;
}

int handle_leave(Handle *h, Status s)
{
    handle_release_card(h);
    host_leave(&h->host);
    log_redirect(h->log_before);
    progress_redirect(h->progress_before);
    atomic_flag_clear(&h->busy);
    return (int)s;
}

Status handle_read_struct(const char *name, const void *given, size_t least, void *own, size_t size)
{
    size_t has = 0;
    memset(own, 0, size);
    if (!given)
        return STATUS_OK;
    memcpy(&has, given, sizeof has);
    if (has < least || has > size)
        return status_refuse(
            "%s.size is %zu: sizeof(%s) is wanted, which is %zu in this version (" ATELIER_VERSION
            ") and was %zu at first",
            name, has, name, size, least);
    memcpy(own, given, has);
    return STATUS_OK;
}
