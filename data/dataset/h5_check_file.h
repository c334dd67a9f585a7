/* The file as h5_check*.c see it: bytes, and places in them. */
#ifndef ATL_H5_CHECK_FILE_H
#define ATL_H5_CHECK_FILE_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define H5_UNDEFINED UINT64_MAX /* an address: nothing is there */

typedef struct H5File {
    const char *path;
    const char *object; /* what is being looked at, for messages: "/images/name" */
    const uint8_t *bytes;
    uint64_t size;                 /* up to the superblock's end of file */
    uint64_t steps;                /* left; a sound file needs far fewer */
    unsigned leaf_k, node_k;       /* half the entries of a group's leaf and of a tree's node */
    unsigned chunk_k;              /* half the entries of a node of a tree of chunks */
    uint64_t heap;                 /* the global heap that was looked through last; 0: none */
    uint32_t heap_sizes[1u << 16]; /* its objects' sizes + 1; 0: there is none */
} H5File;

/* A piece of the file that is read from front to back. Reading past its end gives zeros and sets failed. */
typedef struct H5Piece {
    const uint8_t *at, *end;
    bool failed;
} H5Piece;

/* size bytes at address, all inside the file; false if they are not. */
bool h5_piece(const H5File *f, uint64_t address, uint64_t size, H5Piece *out);
uint64_t h5_take(H5Piece *p, int bytes); /* the next little-endian number */
const uint8_t *h5_skip(H5Piece *p, uint64_t bytes);
H5Piece h5_part(H5Piece *p, uint64_t bytes); /* the next bytes as a piece of their own */
static inline uint64_t h5_left(const H5Piece *p)
{
    return (uint64_t)(p->end - p->at);
}

Status h5_damaged(const H5File *f, const char *what);
/* What is refused though it may be sound; advice: what to do about it. */
Status h5_unread(const H5File *f, const char *what, const char *advice);
/* Counts a step, so that a file whose parts point at each other comes to an end. */
Status h5_step(H5File *f);

/* A kind of tree in its old form (version 1): nodes of keys around addresses, with one key more. */
typedef struct H5Tree {
    unsigned type, half; /* the format's number; half the addresses of a full node */
    uint64_t key;        /* bytes of a key */
    const char *missing, *damaged;
} H5Tree;

/* Counts a step and reads the head of a node. level: which it has to be, and then is; −1: the root's own. p
 * stands at the first key then. */
Status h5_tree_node(H5File *f, const H5Tree *tree, uint64_t address, int *level, uint64_t *entries,
                    H5Piece *p);

/* h5_check_groups.c: groups in their old form. */

#define H5_NAME_SIZE 512 /* of "/cache/KEY/latent_mean" */

/* A member of a group. */
typedef struct H5Entry {
    char name[H5_NAME_SIZE];
    uint64_t address;    /* of its header; H5_UNDEFINED: another kind of link */
    uint64_t tree, heap; /* of a group in the old form, where the entry says so; else H5_UNDEFINED */
} H5Entry;

/* Calls member for each; its failure ends the walk. */
typedef Status (*H5Member)(H5File *f, const H5Entry *e, void *arg);
Status h5_check_symbols(H5File *f, uint64_t tree, uint64_t heap, H5Member member, void *arg);

/* h5_check_data.c: the parts that an array or attribute is described by. */

typedef struct H5Type {
    unsigned class; /* H5_FIXED, … */
    uint64_t size;
} H5Type;
enum { H5_FIXED = 0, H5_FLOAT = 1, H5_STRING = 3, H5_ENUM = 8, H5_VARIABLE = 9 };

typedef struct H5Space {
    int rank;
    uint64_t dims[32], count;
} H5Space;

Status h5_check_type(H5File *f, H5Piece *p, H5Type *out);
Status h5_check_space(H5File *f, H5Piece *p, H5Space *out);
/* The layout message of an array of this type and space, and the bytes it leads to. */
Status h5_check_layout(H5File *f, H5Piece p, const H5Type *type, const H5Space *space);
/* Elements in the file: texts of variable length are looked up in their heap. */
Status h5_check_elements(H5File *f, H5Piece p, const H5Type *type, uint64_t count);

#endif
