#include "sums.h"

#include "kernels/base/mem.h"

#include <string.h>

#define LEVELS 13 /* accumulate is at most 4096 */

/* A node of the tree: the sum of micro-batches [index << level, (index + 1) << level), as far as there are
 * any. */
typedef struct Place {
    int level, index;
} Place;

typedef struct Node {
    Place at;
    Tensor *sum;
} Node;

struct Sums {
    Comm *comm;
    Parameters *p;
    int total, first, count; /* micro-batches: of a step, and this process's */
    bool exact;
    Tensor *kept[2 * LEVELS]; /* blocks for nodes that wait for their sibling */
    int kept_count;
    Node waiting[2 * LEVELS]; /* this process's nodes so far; the last one's sum may be the gradients */
    int waits;
    int64_t *at;      /* parts of a block, by process */
    Tensor *received; /* the others' nodes, of this process's part */
    bool begun;       /* the last micro-batch's */
    EarlySums *early; /* fast sums, where the transport can; or NULL */
};

/* The tree ----------------------------------------------------------------------------------------------- */

static bool is_right_sibling(Place a, Place b)
{
    return b.level == a.level && b.index == a.index + 1 && b.index % 2 == 1;
}

/* There is nothing to its right: it is its parent's sum as it stands. False: it is the root. */
static bool is_alone(Place p, int total)
{
    return p.index > 0 && p.index % 2 == 0 && (int64_t)(p.index + 1) << p.level >= total;
}

static Place parent_of(Place p)
{
    return (Place){p.level + 1, p.index / 2};
}

/* Up as long as no sum is needed for it. */
static Place climbed(Place p, int total)
{
    while (is_alone(p, total))
        p = parent_of(p);
    return p;
}

/* The nodes that a share of micro-batches comes to, from left to right; returns how many. *most: how many
 * there were at once. */
static int places_of(int total, int first, int count, Place out[2 * LEVELS], int *most)
{
    int n = 0;
    *most = 0;
    for (int i = first; i < first + count; i++) {
        Place p = climbed((Place){0, i}, total);
        *most = n + 1 > *most ? n + 1 : *most;
        for (; n > 0 && is_right_sibling(out[n - 1], p); n--)
            p = climbed(parent_of(p), total);
        out[n++] = p;
    }
    return n;
}

static void share_of(const Comm *comm, int total, int rank, int *first, int *count)
{
    int64_t f, n;
    comm_share(total, comm->size, rank, &f, &n);
    *first = (int)f;
    *count = (int)n;
}

/* Blocks beside the gradients: all nodes that wait at once but the newest. */
static int blocks_needed(const Comm *comm, int total)
{
    Place places[2 * LEVELS];
    int first, count, most;
    share_of(comm, total, comm->rank, &first, &count);
    places_of(total, first, count, places, &most);
    return most - 1;
}

static int nodes_of(const Comm *comm, int total, int rank, Place places[2 * LEVELS])
{
    int first, count, most;
    share_of(comm, total, rank, &first, &count);
    return places_of(total, first, count, places, &most);
}

static int nodes_of_others(const Comm *comm, int total)
{
    Place places[2 * LEVELS];
    int n = 0;
    for (int r = 0; r < comm->size; r++)
        n += r == comm->rank ? 0 : nodes_of(comm, total, r, places);
    return n;
}

/* Making ------------------------------------------------------------------------------------------------- */

/* Where process rank's part of a block of so many numbers begins. */
static int64_t part_begins(const Comm *comm, int64_t elements, int rank)
{
    int64_t first, count;
    comm_share((elements + FLAT_STEP - 1) / FLAT_STEP, comm->size, rank, &first, &count);
    return first * FLAT_STEP < elements ? first * FLAT_STEP : elements;
}

static int64_t own_part(const Comm *comm, int64_t elements)
{
    const int64_t end = comm->rank + 1 < comm->size ? part_begins(comm, elements, comm->rank + 1) : elements;
    return end - part_begins(comm, elements, comm->rank);
}

size_t sums_bytes(const Comm *comm, int64_t elements, int micro_batches, bool exact)
{
    if (!exact) /* what the others add to this process's share */
        return sizeof(float) * (size_t)((comm->size - 1) * own_part(comm, elements));
    const int64_t blocks = blocks_needed(comm, micro_batches);
    return sizeof(float) *
           (size_t)(blocks * elements + nodes_of_others(comm, micro_batches) * own_part(comm, elements));
}

static Status make_blocks(Sums *s)
{
    const int64_t elements = s->p->flat.size;
    for (int r = 0; r < s->comm->size; r++)
        s->at[r] = part_begins(s->comm, elements, r);
    s->at[s->comm->size] = elements;
    if (!s->exact)
        return STATUS_OK;
    for (int i = blocks_needed(s->comm, s->total); i > 0; i--) {
        s->kept[s->kept_count] = flat_block(&s->p->flat);
        if (!s->kept[s->kept_count++])
            return STATUS_FAILED;
    }
    const int64_t others = nodes_of_others(s->comm, s->total) * own_part(s->comm, elements);
    if (others > 0) {
        s->received = tensor_new_on(s->p->dev, DTYPE_F32, 1, &others);
        return s->received ? STATUS_OK : STATUS_FAILED;
    }
    return STATUS_OK;
}

Status sums_new(Comm *comm, Parameters *p, int micro_batches, bool exact, Ctx *c, const StepShape *shape,
                Sums **out)
{
    Sums *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    *s = (Sums){.comm = comm, .p = p, .total = micro_batches, .exact = exact};
    share_of(comm, micro_batches, comm->rank, &s->first, &s->count);
    s->at = mem_calloc((size_t)comm->size + 1, sizeof *s->at);
    Status status = s->at ? make_blocks(s) : STATUS_FAILED;
    if (status == STATUS_OK && !exact && comm_overlaps(comm))
        status = early_sums_new(c, p, shape, &s->early);
    if (status != STATUS_OK) {
        sums_free(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void sums_free(Sums *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->kept_count; i++)
        tensor_free(s->kept[i]);
    tensor_free(s->received);
    early_sums_free(s->early);
    mem_free(s->at);
    mem_free(s);
}

/* This process's part of the tree ------------------------------------------------------------------------ */

void sums_share(const Sums *s, int *first, int *count)
{
    *first = s->first;
    *count = s->count;
}

Status sums_before(Sums *s, int micro_batch)
{
    if (micro_batch == s->first)
        s->waits = 0;
    if (s->exact || micro_batch == s->first)
        TRY(parameters_zero_gradients(s->p));
    s->begun = s->early && micro_batch == s->first + s->count - 1;
    if (s->begun)
        early_sums_begin(s->early);
    return STATUS_OK;
}

/* The block of a node that waits is the one of its place in the row. */
static Status set_aside(Sums *s, Node *node)
{
    Tensor *block = s->kept[s->waits];
    TRY(tensor_copy(block, node->sum));
    node->sum = block;
    return STATUS_OK;
}

Status sums_after(Sums *s, int micro_batch)
{
    if (!s->exact)
        return STATUS_OK;
    Tensor *gradients = s->p->flat.gradients;
    Node node = {climbed((Place){0, micro_batch}, s->total), gradients};
    while (s->waits > 0 && is_right_sibling(s->waiting[s->waits - 1].at, node.at)) {
        TRY(s->p->dev->add(s->waiting[--s->waits].sum, gradients, gradients));
        node.at = climbed(parent_of(node.at), s->total);
    }
    if (micro_batch < s->first + s->count - 1)
        TRY(set_aside(s, &node));
    s->waiting[s->waits++] = node;
    return STATUS_OK;
}

/* The rest of it ----------------------------------------------------------------------------------------- */

static size_t part_bytes(const Sums *s, int rank)
{
    return sizeof(float) * (size_t)(s->at[rank + 1] - s->at[rank]);
}

/* Each process's part of this process's nodes to it, and this process's part of theirs. */
static Status trade(Sums *s)
{
    const int size = s->comm->size, others = nodes_of_others(s->comm, s->total);
    CommPart *parts = mem_alloc((size_t)(s->waits * size + others) * sizeof *parts), *to = parts,
             *from = parts + s->waits * size;
    if (!parts)
        return STATUS_FAILED;
    int sends = 0, receives = 0;
    for (int r = 0; r < size; r++) {
        Place places[2 * LEVELS];
        if (r == s->comm->rank)
            continue;
        for (int k = 0; k < s->waits; k++)
            to[sends++] = (CommPart){r, (float *)s->waiting[k].sum->data + s->at[r], part_bytes(s, r)};
        const int64_t own = s->at[s->comm->rank + 1] - s->at[s->comm->rank];
        for (int k = nodes_of(s->comm, s->total, r, places); k > 0; k--, receives++)
            from[receives] = (CommPart){r, s->received ? (float *)s->received->data + receives * own : NULL,
                                        part_bytes(s, s->comm->rank)};
    }
    const Status status = comm_exchange(s->comm, to, sends, from, receives);
    mem_free(parts);
    return status;
}

/* All processes' nodes from left to right, each as this process's part of it. */
static int list_nodes(Sums *s, Node *nodes)
{
    const int64_t first = s->at[s->comm->rank], own = s->at[s->comm->rank + 1] - first;
    int n = 0, received = 0;
    for (int r = 0; r < s->comm->size; r++) {
        Place places[2 * LEVELS];
        const int count = nodes_of(s->comm, s->total, r, places);
        for (int k = 0; k < count; k++, n++) {
            const bool mine = r == s->comm->rank;
            nodes[n].at = places[k];
            nodes[n].sum = mine ? tensor_view(s->waiting[k].sum, first, 1, &own)
                                : tensor_view(s->received, received++ * own, 1, &own);
            if (!nodes[n].sum)
                return n;
        }
    }
    return n;
}

/* nodes[0] becomes the root. */
static Status add_along(Sums *s, Node *nodes, int count)
{
    Node row[2 * LEVELS];
    int waits = 0;
    for (int i = 0; i < count; i++) {
        Node node = nodes[i];
        for (; waits > 0 && is_right_sibling(row[waits - 1].at, node.at); waits--) {
            TRY(s->p->dev->add(row[waits - 1].sum, node.sum, row[waits - 1].sum));
            node.sum = row[waits - 1].sum;
            node.at = climbed(parent_of(node.at), s->total);
        }
        row[waits++] = node;
    }
    const int64_t own = s->at[s->comm->rank + 1] - s->at[s->comm->rank];
    Tensor *to = tensor_view(s->p->flat.gradients, s->at[s->comm->rank], 1, &own);
    const Status status = !to                            ? STATUS_FAILED
                          : to->data == row[0].sum->data ? STATUS_OK
                                                         : tensor_copy(to, row[0].sum);
    tensor_free(to);
    return status;
}

static Status finish_exact(Sums *s)
{
    const int count = s->waits + nodes_of_others(s->comm, s->total);
    Status status = trade(s);
    if (status == STATUS_OK && s->at[s->comm->rank + 1] > s->at[s->comm->rank]) {
        Node *nodes = mem_calloc((size_t)count, sizeof *nodes);
        const int there = nodes ? list_nodes(s, nodes) : 0;
        status = there == count && nodes ? add_along(s, nodes, count) : STATUS_FAILED;
        for (int i = 0; nodes && i < count; i++)
            tensor_free(nodes[i].sum);
        mem_free(nodes);
    }
    return status == STATUS_OK ? comm_all_gather(s->comm, s->p->flat.gradients, s->at) : status;
}

Status sums_finish(Sums *s)
{
    if (s->comm->size == 1)
        return STATUS_OK;
    if (s->exact)
        return finish_exact(s);
    if (s->early)
        return early_sums_finish(s->early);
    return comm_reduce_scatter(s->comm, s->p->flat.gradients, s->p->share.at);
}

Status sums_let_go(Sums *s)
{
    if (!s->early)
        return STATUS_OK;
    if (!s->begun)
        early_sums_begin(s->early);
    return early_sums_finish(s->early);
}
