/* Blocks between processes: by the transport of the attached device, else through the host's memory. */
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/device.h"
#include "state.h"

#include <stdio.h>
#include <string.h>

/* Choosing ----------------------------------------------------------------------------------------------- */

/* 1 where nobody has anything against it. */
static Status ask_all(Comm *c, const CommTransport *t, bool *all_agree)
{
    char *answers = mem_calloc((size_t)c->size, 1);
    const char mine = !t || t->hindrance(c) ? 0 : 1;
    Status s = answers ? STATUS_OK : STATUS_FAILED;
    s = comm_meet(c, s, &mine, 1, answers);
    *all_agree = s == STATUS_OK && !memchr(answers, 0, (size_t)c->size);
    mem_free(answers);
    return s;
}

static void say_detour(const Comm *c, const CommTransport *own)
{
    const char *why = own->hindrance(c);
    log_warn("blocks go through the host's memory, not by %s: %s", own->name,
             why ? why : "another process cannot");
}

Status comm_attach(Comm *c, const Device *dev)
{
    if (c->size == 1)
        return STATUS_OK;
    const CommTransport *const ways[] = {dev->transport, &transport_mpi, &transport_sockets};
    CommState *s = c->state;
    s->dev = dev;
    for (size_t i = 0; i < sizeof ways / sizeof *ways && !s->transport; i++) {
        bool good;
        TRY(ask_all(c, ways[i], &good));
        if (good)
            s->transport = ways[i];
    }
    if (dev->transport && s->transport != dev->transport)
        say_detour(c, dev->transport);
    snprintf(s->version, sizeof s->version, "%s", s->transport->name);
    const Status opened = s->transport->open(c, dev, &s->own, s->version, sizeof s->version);
    if (opened != STATUS_OK) { /* the others may still be at it */
        s->transport = NULL;
        return comm_give_up(c, opened);
    }
    return comm_agree(c, opened);
}

const char *comm_transport_name(const Comm *c)
{
    return c->size > 1 ? c->state->version : "";
}

/* Through the host --------------------------------------------------------------------------------------- */

/* The transport works on the host's memory, and this device's is another. */
static bool staged(const CommState *s)
{
    return s->transport->host_memory && !s->dev->host_memory;
}

static size_t bytes_of(const CommPart *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].bytes;
    return bytes;
}

/* The parts as they lie one after the other in host memory. */
static void lay_out(const CommPart *parts, int count, char *at, CommPart *out)
{
    for (int i = 0; i < count; i++) {
        out[i] = (CommPart){parts[i].rank, at, parts[i].bytes};
        at += parts[i].bytes;
    }
}

static Status copy_parts(const Device *dev, const CommPart *there, const CommPart *host, int count, bool get)
{
    for (int i = 0; i < count; i++)
        if (there[i].bytes)
            TRY(get ? dev->get(host[i].at, there[i].at, there[i].bytes)
                    : dev->put(there[i].at, host[i].at, there[i].bytes));
    return dev->settle();
}

static Status exchange_staged(Comm *c, const CommPart *send, int sends, const CommPart *receive, int receives)
{
    CommState *s = c->state;
    const size_t out = bytes_of(send, sends), in = bytes_of(receive, receives);
    char *memory = mem_alloc(out + in);
    CommPart *parts = mem_alloc((size_t)(sends + receives + 1) * sizeof *parts);
    Status status = memory && parts ? STATUS_OK : STATUS_FAILED;
    if (status == STATUS_OK) {
        lay_out(send, sends, memory, parts);
        lay_out(receive, receives, memory + out, parts + sends);
        status = copy_parts(s->dev, send, parts, sends, true);
    }
    if (status == STATUS_OK)
        status = s->transport->exchange(c, s->own, parts, sends, parts + sends, receives);
    if (status == STATUS_OK)
        status = copy_parts(s->dev, receive, parts + sends, receives, false);
    mem_free(memory);
    mem_free(parts);
    return status;
}

/* Public ------------------------------------------------------------------------------------------------- */

Status comm_exchange(Comm *c, const CommPart *send, int sends, const CommPart *receive, int receives)
{
    CommState *s = c->state;
    if (c->size == 1)
        return STATUS_OK;
    TRY(comm_check(c));
    if (staged(s))
        return exchange_staged(c, send, sends, receive, receives);
    if (s->transport->host_memory)
        TRY(s->dev->settle());
    return s->transport->exchange(c, s->own, send, sends, receive, receives);
}

static CommPart part_of(const Tensor *block, const int64_t *at, int of, int rank)
{
    return (CommPart){rank, (float *)block->data + at[of], (size_t)(at[of + 1] - at[of]) * sizeof(float)};
}

/* Everybody's own part to everybody. */
static Status gather_by_exchange(Comm *c, Tensor *block, const int64_t *at)
{
    CommPart *parts = mem_alloc(2 * (size_t)c->size * sizeof *parts);
    if (!parts)
        return STATUS_FAILED;
    int n = 0;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank) {
            parts[n] = part_of(block, at, c->rank, r);
            parts[c->size + n++] = part_of(block, at, r, r);
        }
    const Status s = comm_exchange(c, parts, n, parts + c->size, n);
    mem_free(parts);
    return s;
}

Status comm_all_gather(Comm *c, Tensor *block, const int64_t *at)
{
    CommState *s = c->state;
    if (c->size == 1)
        return STATUS_OK;
    if (staged(s) || !s->transport->all_gather)
        return gather_by_exchange(c, block, at);
    TRY(comm_check(c));
    if (s->transport->host_memory)
        TRY(s->dev->settle());
    return s->transport->all_gather(c, s->own, block->data, at);
}

/* Everybody gets the others' parts of what is its own, and adds them by rank. */
static Status scatter_by_exchange(Comm *c, Tensor *block, const int64_t *at)
{
    const Device *dev = c->state->dev;
    const int64_t own = at[c->rank + 1] - at[c->rank];
    CommPart *parts = mem_alloc(2 * (size_t)c->size * sizeof *parts);
    Tensor *others = own > 0 ? tensor_new_on(dev, DTYPE_F32, 1, (int64_t[]){own * (c->size - 1)}) : NULL;
    Status s = parts && (others || own == 0) ? STATUS_OK : STATUS_FAILED;
    int n = 0;
    for (int r = 0; r < c->size && s == STATUS_OK; r++)
        if (r != c->rank) {
            parts[n] = part_of(block, at, r, r);
            parts[c->size + n] =
                (CommPart){r, own ? (float *)others->data + n * own : NULL, (size_t)own * sizeof(float)};
            n++;
        }
    if (s == STATUS_OK)
        s = comm_exchange(c, parts, n, parts + c->size, n);
    if (s == STATUS_OK)
        s = add_by_rank(c, block, at[c->rank], own, others);
    if (s == STATUS_OK)
        s = dev->settle();
    tensor_free(others);
    mem_free(parts);
    return s;
}

Status comm_reduce_scatter(Comm *c, Tensor *block, const int64_t *at)
{
    CommState *s = c->state;
    if (c->size == 1)
        return STATUS_OK;
    if (staged(s) || !s->transport->reduce_scatter)
        return scatter_by_exchange(c, block, at);
    TRY(comm_check(c));
    if (s->transport->host_memory)
        TRY(s->dev->settle());
    return s->transport->reduce_scatter(c, s->own, block->data, at);
}
