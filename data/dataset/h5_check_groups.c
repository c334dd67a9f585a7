/* Groups of a foreign HDF5 file in their old form (h5_check.h), which h5py writes by default: a tree of
 * symbol tables, with the names in a heap of their own. */
#include "h5_check_file.h"

#include <stdio.h>
#include <string.h>

typedef struct Names {
    H5Piece text;
    H5Member member;
    void *arg;
} Names;

/* A local heap: its texts, and the list of its free blocks, which has to come to an end. */
static Status read_names(H5File *f, uint64_t address, H5Piece *text)
{
    H5Piece p;
    if (!h5_piece(f, address, 32, &p) || memcmp(h5_skip(&p, 4), "HEAP", 4) != 0 || h5_take(&p, 1) != 0)
        return h5_damaged(f, "the names of its members are not there");
    h5_skip(&p, 3);
    const uint64_t size = h5_take(&p, 8);
    uint64_t free_at = h5_take(&p, 8);
    if (!h5_piece(f, h5_take(&p, 8), size, text))
        return h5_damaged(f, "the names of its members lie outside of the file");
    while (free_at != 1) { /* no more */
        H5Piece block = *text;
        TRY(h5_step(f));
        if (free_at > size || size - free_at < 16)
            return h5_damaged(f, "a damaged heap of names");
        h5_skip(&block, free_at);
        const uint64_t next = h5_take(&block, 8), length = h5_take(&block, 8);
        if (length < 16 || length > size - free_at)
            return h5_damaged(f, "a damaged heap of names");
        free_at = next;
    }
    return STATUS_OK;
}

/* The text at an offset of the heap; NULL: it has no end. */
static const char *name_at(const Names *n, uint64_t offset)
{
    H5Piece p = n->text;
    if (offset >= h5_left(&p))
        return NULL;
    h5_skip(&p, offset);
    return memchr(p.at, 0, h5_left(&p)) ? (const char *)p.at : NULL;
}

static Status check_symbol(H5File *f, H5Piece *p, const Names *n)
{
    H5Entry e = {.tree = H5_UNDEFINED, .heap = H5_UNDEFINED};
    TRY(h5_step(f));
    const char *name = name_at(n, h5_take(p, 8));
    e.address = h5_take(p, 8);
    const uint64_t cached = h5_take(p, 4);
    h5_skip(p, 4);
    H5Piece scratch = h5_part(p, 16);
    if (p->failed || !name || !*name || cached > 2)
        return h5_damaged(f, "a damaged table of members");
    if (cached == 1) {
        e.tree = h5_take(&scratch, 8);
        e.heap = h5_take(&scratch, 8);
    } else if (cached == 2) { /* a soft link: where it leads is a text of the heap */
        e.address = H5_UNDEFINED;
        if (!name_at(n, h5_take(&scratch, 4)))
            return h5_damaged(f, "a damaged table of members");
    }
    snprintf(e.name, sizeof e.name, "%s", name);
    return n->member(f, &e, n->arg);
}

static Status check_symbols(H5File *f, uint64_t address, const Names *n)
{
    H5Piece p;
    if (!h5_piece(f, address, 8 + 2 * f->leaf_k * 40, &p) || memcmp(h5_skip(&p, 4), "SNOD", 4) != 0 ||
        h5_take(&p, 1) != 1)
        return h5_damaged(f, "a table of members is not there");
    h5_skip(&p, 1);
    const uint64_t count = h5_take(&p, 2);
    if (count > 2 * f->leaf_k)
        return h5_damaged(f, "a damaged table of members");
    for (uint64_t i = 0; i < count; i++)
        TRY(check_symbol(f, &p, n));
    return STATUS_OK;
}

/* level -1: the root's own. */
static Status check_names_node(H5File *f, uint64_t address, const Names *n, int level)
{
    const H5Tree tree = {.type = 0,
                         .half = f->node_k,
                         .key = 8,
                         .missing = "the list of its members is not there",
                         .damaged = "a damaged list of members"};
    uint64_t entries;
    H5Piece p;
    TRY(h5_tree_node(f, &tree, address, &level, &entries, &p));
    for (uint64_t i = 0; i <= entries; i++) {
        if (!name_at(n, h5_take(&p, 8)))
            return h5_damaged(f, tree.damaged);
        if (i == entries)
            break;
        const uint64_t child = h5_take(&p, 8);
        TRY(level ? check_names_node(f, child, n, level - 1) : check_symbols(f, child, n));
    }
    return STATUS_OK;
}

Status h5_check_symbols(H5File *f, uint64_t tree, uint64_t heap, H5Member member, void *arg)
{
    Names names = {.member = member, .arg = arg};
    TRY(read_names(f, heap, &names.text));
    return check_names_node(f, tree, &names, -1);
}
