/* What one process's call may be. */
#include "stand_in.h"

#include <stdio.h>

size_t type_bytes(int type)
{
    return type == ncclInt8 ? 1 : type == ncclFloat32 ? sizeof(float) : 0;
}

bool is_collective(const Call *c)
{
    return c->kind < CALL_SEND;
}

size_t call_reads(const struct ncclComm *comm, const Call *c)
{
    const size_t bytes = c->count * type_bytes(c->type);
    switch (c->kind) {
    case CALL_BROADCAST:
        return comm->rank == c->peer ? bytes : 0;
    case CALL_REDUCE_SCATTER:
        return bytes * (size_t)comm->size;
    case CALL_RECEIVE:
        return 0;
    default:
        return bytes;
    }
}

size_t call_writes(const struct ncclComm *comm, const Call *c)
{
    const size_t bytes = c->count * type_bytes(c->type);
    switch (c->kind) {
    case CALL_REDUCE:
        return comm->rank == c->peer ? bytes : 0;
    case CALL_ALL_GATHER:
        return bytes * (size_t)comm->size;
    case CALL_SEND:
        return 0;
    default:
        return bytes;
    }
}

const char *call_text(const Call *c, char *text, size_t size)
{
    static const struct {
        const char *name, *peer;
    } words[] = {[CALL_BROADCAST] = {"ncclBroadcast", ", root "},
                 [CALL_REDUCE] = {"ncclReduce", ", root "},
                 [CALL_ALL_GATHER] = {"ncclAllGather", NULL},
                 [CALL_REDUCE_SCATTER] = {"ncclReduceScatter", NULL},
                 [CALL_SEND] = {"ncclSend", ", to "},
                 [CALL_RECEIVE] = {"ncclRecv", ", from "}};
    char peer[32] = "";
    if (words[c->kind].peer)
        snprintf(peer, sizeof peer, "%s%d", words[c->kind].peer, c->peer);
    snprintf(text, size, "%s(%zu %s%s)", words[c->kind].name, c->count,
             c->type == ncclInt8 ? "int8" : "float32", peer);
    return text;
}

static void check_range(const struct ncclComm *comm, const Call *c, const char *p, size_t bytes,
                        const char *which)
{
    char text[128], where[256];
    bool whole;
    if (bytes == 0)
        return;
    const MemoryKind kind = memory_kind(p, bytes, &whole);
    if (kind == MEMORY_DEVICE && whole && (uintptr_t)p % type_bytes(c->type) == 0)
        return;
    memory_describe(where, sizeof where, p);
    stand_in_fail(NULL, 0, "rank %d: %s: the %zu bytes %s are %s, %s", comm->rank,
                  call_text(c, text, sizeof text), bytes, which,
                  kind != MEMORY_DEVICE ? "no device memory"
                  : whole               ? "not aligned to their type"
                                        : "not all inside of one allocation",
                  where);
}

void check_memory(const struct ncclComm *comm, const Call *c)
{
    check_range(comm, c, c->from, call_reads(comm, c), "that it reads");
    check_range(comm, c, c->to, call_writes(comm, c), "that it writes");
}

/* Of one call: what it reads is where it lies in what it writes, or the other way round. */
static bool in_place(const struct ncclComm *comm, const Call *c)
{
    const size_t part = c->count * type_bytes(c->type) * (size_t)comm->rank;
    return c->kind == CALL_ALL_GATHER       ? c->from == c->to + part
           : c->kind == CALL_REDUCE_SCATTER ? c->to == c->from + part
                                            : c->from == c->to;
}

static bool overlap(const char *p, size_t bytes, const char *q, size_t others)
{
    return bytes && others && p < q + others && q < p + bytes;
}

void check_overlaps(const Group *g)
{
    char one[128], other[128];
    for (int i = 0; i < g->count; i++) {
        const Call *a = &g->calls[i];
        const size_t writes = call_writes(g->comm, a);
        for (int j = 0; j < g->count; j++) {
            const Call *b = &g->calls[j];
            const bool reads = overlap(a->to, writes, b->from, call_reads(g->comm, b));
            if ((i == j && (!reads || in_place(g->comm, a))) ||
                (i != j && !reads && !overlap(a->to, writes, b->to, call_writes(g->comm, b))))
                continue;
            stand_in_fail(NULL, 0, "rank %d: %s writes what %s of the same group uses", g->comm->rank,
                          call_text(a, one, sizeof one), i == j ? "it" : call_text(b, other, sizeof other));
        }
    }
}
