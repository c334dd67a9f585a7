/* The walk through a foreign HDF5 file (h5_check.h): superblock, object headers of both versions with their
 * messages, among them the links of groups in the new form. */
#include "h5_check.h"

#include "kernels/base/mem.h"
#include "h5_check_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 3 /* /cache/KEY/NAME: what lies deeper is never opened */

/* Pieces ----------------------------------------------------------------------------------------------- */

bool h5_piece(const H5File *f, uint64_t address, uint64_t size, H5Piece *out)
{
    if (address > f->size || size > f->size - address)
        return false;
    *out = (H5Piece){.at = f->bytes + address, .end = f->bytes + address + size};
    return true;
}

uint64_t h5_take(H5Piece *p, int bytes)
{
    uint64_t v = 0;
    if (h5_left(p) < (uint64_t)bytes) {
        p->at = p->end;
        p->failed = true;
        return 0;
    }
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p->at[i];
    p->at += bytes;
    return v;
}

/* Where it stood before; at the end of the piece if that has fewer bytes. */
const uint8_t *h5_skip(H5Piece *p, uint64_t bytes)
{
    const uint8_t *before = p->at;
    if (h5_left(p) < bytes) {
        p->failed = true;
        return p->at = p->end;
    }
    p->at += bytes;
    return before;
}

H5Piece h5_part(H5Piece *p, uint64_t bytes)
{
    const uint8_t *at = h5_skip(p, bytes);
    return (H5Piece){.at = at, .end = p->at};
}

Status h5_damaged(const H5File *f, const char *what)
{
    const bool whole = strcmp(f->object, "/") == 0;
    return status_fail("%s: is a broken HDF5 file: %s%s%s; build or copy it again", f->path,
                       whole ? "" : f->object, whole ? "" : ": ", what);
}

Status h5_unread(const H5File *f, const char *what, const char *advice)
{
    return status_fail("%s: %s: %s: HDF5 files are read without that; %s", f->path, f->object, what, advice);
}

Status h5_step(H5File *f)
{
    if (f->steps-- > 0)
        return STATUS_OK;
    f->steps = 0;
    return h5_damaged(f, "its parts point at each other without end");
}

Status h5_tree_node(H5File *f, const H5Tree *tree, uint64_t address, int *level, uint64_t *entries,
                    H5Piece *p)
{
    const uint64_t most = 2 * tree->half;
    TRY(h5_step(f));
    if (!h5_piece(f, address, 24 + most * 8 + (most + 1) * tree->key, p) ||
        memcmp(h5_skip(p, 4), "TREE", 4) != 0 || h5_take(p, 1) != tree->type)
        return h5_damaged(f, tree->missing);
    const int own = (int)h5_take(p, 1);
    *entries = h5_take(p, 2);
    if (*entries > most || own > 16 || (*level >= 0 && own != *level))
        return h5_damaged(f, tree->damaged);
    *level = own;
    h5_skip(p, 16); /* neighbours */
    return STATUS_OK;
}

/* Messages --------------------------------------------------------------------------------------------- */

enum {
    NIL = 0x00,
    SPACE = 0x01,
    LINK_INFO = 0x02,
    TYPE = 0x03,
    OLD_FILL = 0x04,
    FILL = 0x05,
    LINK = 0x06,
    EXTERNAL = 0x07,
    LAYOUT = 0x08,
    GROUP_INFO = 0x0A,
    FILTERS = 0x0B,
    ATTRIBUTE = 0x0C,
    COMMENT = 0x0D,
    OLD_TIME = 0x0E,
    CONTINUATION = 0x10,
    SYMBOL_TABLE = 0x11,
    TIME = 0x12,
    ATTRIBUTE_INFO = 0x15,
    REFERENCES = 0x16
};

typedef struct Object {
    H5Type type;
    H5Space space;
    H5Piece layout, fill;
    bool has[0x17];      /* messages by their numbers */
    uint64_t tree, heap; /* of an old group */
    int depth;
} Object;

static Status check_object(H5File *f, uint64_t address, const H5Entry *known, int depth);

/* Everything that is opened by a name, and all of /cache. */
static bool is_read(const char *path)
{
    static const char *const paths[] = {
        "/images",        "/images/data",        "/images/offset", "/images/length",   "/images/width",
        "/images/height", "/images/orientation", "/images/sha256", "/images/name",     "/images/repeats",
        "/images/odd",    "/captions",           "/captions/text", "/captions/offset", "/masks",
        "/masks/data",    "/masks/offset",       "/masks/length",  "/masks/sha256",    "/cache"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (strcmp(path, paths[i]) == 0)
            return true;
    return strncmp(path, "/cache/", strlen("/cache/")) == 0;
}

/* What a group leads to. */
static Status follow(H5File *f, const H5Entry *e, void *group)
{
    const Object *o = group;
    char path[H5_NAME_SIZE];
    const char *outer = f->object;
    snprintf(path, sizeof path, "%.200s/%.200s", strcmp(outer, "/") == 0 ? "" : outer, e->name);
    if (o->depth == MAX_DEPTH || !is_read(path))
        return STATUS_OK;
    f->object = path;
    Status s;
    if (e->address == H5_UNDEFINED)
        s = h5_unread(f, "is a soft or external link", "store the array itself");
    else
        s = check_object(f, e->address, e, o->depth + 1);
    f->object = outer;
    return s;
}

static Status check_link(H5File *f, H5Piece p, Object *o)
{
    const unsigned version = (unsigned)h5_take(&p, 1), flags = (unsigned)h5_take(&p, 1);
    const unsigned kind = flags & 8 ? (unsigned)h5_take(&p, 1) : 0;
    h5_skip(&p, (flags & 4 ? 8 : 0) + (flags & 16 ? 1 : 0));
    const uint64_t length = h5_take(&p, 1 << (flags & 3));
    H5Entry e = {.address = H5_UNDEFINED, .tree = H5_UNDEFINED, .heap = H5_UNDEFINED};
    if (version != 1 || flags > 31 || length == 0 || length > h5_left(&p) || memchr(p.at, 0, length))
        return h5_damaged(f, "a damaged link");
    snprintf(e.name, sizeof e.name, "%.*s", (int)(length < H5_NAME_SIZE ? length : H5_NAME_SIZE),
             h5_skip(&p, length));
    if (kind == 0)
        e.address = h5_take(&p, 8);
    else if (h5_take(&p, 2) > h5_left(&p))
        return h5_damaged(f, "a damaged link");
    return p.failed ? h5_damaged(f, "a damaged link") : follow(f, &e, o);
}

/* An attribute's value, whose type and shape stand before it. */
static Status check_value(H5File *f, H5Piece *type_at, H5Piece *space_at, H5Piece values)
{
    H5Type type;
    H5Space space;
    TRY(h5_check_type(f, type_at, &type));
    TRY(h5_check_space(f, space_at, &space));
    return h5_check_elements(f, values, &type, space.count);
}

static Status check_attribute(H5File *f, H5Piece p)
{
    const unsigned version = (unsigned)h5_take(&p, 1), flags = (unsigned)h5_take(&p, 1);
    const uint64_t name = h5_take(&p, 2), type_size = h5_take(&p, 2), space_size = h5_take(&p, 2);
    const uint64_t unit = version == 1 ? 8 : 1; /* the parts are filled up to it */
    if (version == 3)
        h5_skip(&p, 1);
    if (version < 1 || version > 3 || flags || name == 0 || name > h5_left(&p) || p.at[name - 1] != 0 ||
        memchr(p.at, 0, name) != p.at + name - 1)
        return h5_damaged(f, "a damaged attribute");
    const char *text = (const char *)h5_skip(&p, (name + unit - 1) / unit * unit);
    H5Piece t = h5_part(&p, (type_size + unit - 1) / unit * unit);
    H5Piece s = h5_part(&p, (space_size + unit - 1) / unit * unit);
    if (p.failed)
        return h5_damaged(f, "a damaged attribute");
    t.end = t.at + type_size;
    s.end = s.at + space_size;
    char object[H5_NAME_SIZE];
    const char *outer = f->object;
    snprintf(object, sizeof object, "%.200s: attribute %.200s", outer, text);
    f->object = object;
    const Status checked = check_value(f, &t, &s, p);
    f->object = outer;
    return checked;
}

/* The value of elements that were never written: none, or one element. */
static bool fill_is_sound(H5Piece p, bool old, const H5Type *type)
{
    uint64_t size = 0;
    if (!old) {
        const unsigned version = (unsigned)h5_take(&p, 1), flags = (unsigned)h5_take(&p, 1);
        if (version < 1 || version > 3)
            return false;
        if (version < 3)
            h5_skip(&p, 1);
        const bool defined = version == 3 ? flags & 0x20 : h5_take(&p, 1) != 0;
        if (!p.failed && !defined && version > 1)
            return true;
    }
    size = h5_take(&p, 4);
    if (p.failed || size == 0 || (size == UINT32_MAX && !old))
        return !p.failed;
    return size == type->size && size <= h5_left(&p) && type->class != H5_VARIABLE;
}

/* Link info and attribute info say where what does not fit into the header lies: a heap and trees. */
static Status check_info(H5File *f, H5Piece p, int creation_bytes, const char *what)
{
    const unsigned version = (unsigned)h5_take(&p, 1), flags = (unsigned)h5_take(&p, 1);
    h5_skip(&p, flags & 1 ? (uint64_t)creation_bytes : 0);
    const uint64_t heap = h5_take(&p, 8);
    h5_take(&p, 8);
    h5_skip(&p, flags & 2 ? 8 : 0);
    if (p.failed || version != 0 || flags > 3)
        return h5_damaged(f, "a damaged header");
    return heap == H5_UNDEFINED ? STATUS_OK
                                : h5_unread(f, what, "write the file without libver or with fewer of them");
}

static Status check_symbol_table(H5File *f, H5Piece *p, Object *o)
{
    o->tree = h5_take(p, 8);
    o->heap = h5_take(p, 8);
    return p->failed ? h5_damaged(f, "a damaged header") : STATUS_OK;
}

static Status check_message(H5File *f, unsigned kind, unsigned flags, H5Piece p, Object *o)
{
    static const uint8_t ONCE[] = {SPACE, TYPE, FILL, OLD_FILL, LAYOUT, SYMBOL_TABLE, LINK_INFO};
    TRY(h5_step(f));
    if (kind > REFERENCES || (flags & 2 && kind != NIL))
        return h5_unread(f, "a part of HDF5 that is rarely used", "take it out of the file");
    if (memchr(ONCE, (int)kind, sizeof ONCE) && o->has[kind])
        return h5_damaged(f, "a header with a part that stands twice");
    o->has[kind] = true;
    switch (kind) {
    case NIL:
    case COMMENT:
    case OLD_TIME:
    case TIME:
    case REFERENCES:
    case GROUP_INFO:
    case CONTINUATION: /* followed by whoever reads the header */
        return STATUS_OK;
    case SPACE:
        return h5_check_space(f, &p, &o->space);
    case TYPE:
        return h5_check_type(f, &p, &o->type);
    case LAYOUT:
        o->layout = p;
        return STATUS_OK;
    case FILL:
    case OLD_FILL:
        o->fill = p; /* looked at when the type is known */
        return STATUS_OK;
    case LINK:
        return check_link(f, p, o);
    case LINK_INFO:
        return check_info(f, p, 8, "a group with many members in HDF5's dense form");
    case ATTRIBUTE_INFO:
        return check_info(f, p, 2, "many attributes in HDF5's dense form");
    case ATTRIBUTE:
        return check_attribute(f, p);
    case SYMBOL_TABLE:
        return check_symbol_table(f, &p, o);
    case FILTERS:
        return h5_unread(f, "compressed or filtered values",
                         "store the array without compression (pictures are compressed already)");
    case EXTERNAL:
        return h5_unread(f, "values in another file", "store them in this one");
    default:
        return h5_unread(f, "a part of HDF5 that is rarely used", "take it out of the file");
    }
}

/* Object headers --------------------------------------------------------------------------------------- */

typedef struct Header {
    Object *object;
    int version;
    bool ordered;      /* version 2: messages carry an order of creation */
    uint64_t messages; /* so far, in all blocks */
    int blocks;
} Header;

static Status check_block(H5File *f, Header *h, H5Piece p);

static Status check_continuation(H5File *f, Header *h, H5Piece p)
{
    const uint64_t address = h5_take(&p, 8), size = h5_take(&p, 8);
    H5Piece block;
    if (p.failed || ++h->blocks > 1000 || !h5_piece(f, address, size, &block))
        return h5_damaged(f, "a header that goes on outside of the file");
    if (h->version == 2) {
        if (size < 8 || memcmp(h5_skip(&block, 4), "OCHK", 4) != 0)
            return h5_damaged(f, "a header that does not go on where it should");
        block.end -= 4; /* the check sum */
    }
    return check_block(f, h, block);
}

/* The messages of one block of a header, which may go on elsewhere. */
static Status check_block(H5File *f, Header *h, H5Piece p)
{
    const uint64_t head = h->version == 1 ? 8 : h->ordered ? 6 : 4;
    while (h5_left(&p) >= head) {
        const unsigned kind = (unsigned)h5_take(&p, h->version == 1 ? 2 : 1);
        const uint64_t size = h5_take(&p, 2);
        const unsigned flags = (unsigned)h5_take(&p, 1);
        h5_skip(&p, head - (h->version == 1 ? 5 : 4));
        const H5Piece message = h5_part(&p, size);
        if (p.failed || (h->version == 1 && size % 8))
            return h5_damaged(f, "a header whose parts do not fit into it");
        h->messages++;
        TRY(check_message(f, kind, flags, message, h->object));
        if (kind == CONTINUATION)
            TRY(check_continuation(f, h, message));
    }
    return h->version == 1 && h5_left(&p) ? h5_damaged(f, "a header with bytes left over") : STATUS_OK;
}

static Status check_header_1(H5File *f, uint64_t address, Object *o)
{
    Header h = {.object = o, .version = 1};
    H5Piece p;
    if (!h5_piece(f, address, 16, &p) || h5_take(&p, 1) != 1)
        return h5_damaged(f, "its header is not there");
    h5_skip(&p, 1);
    const uint64_t messages = h5_take(&p, 2);
    h5_skip(&p, 4);
    if (!h5_piece(f, address + 16, h5_take(&p, 4), &p))
        return h5_damaged(f, "its header ends outside of the file");
    TRY(check_block(f, &h, p));
    return h.messages == messages ? STATUS_OK : h5_damaged(f, "a header with parts too many or too few");
}

static Status check_header_2(H5File *f, uint64_t address, H5Piece p, Object *o)
{
    Header h = {.object = o, .version = 2};
    h5_skip(&p, 4);
    const unsigned version = (unsigned)h5_take(&p, 1), flags = (unsigned)h5_take(&p, 1);
    h.ordered = flags & 4;
    if (version != 2 || flags > 0x3F)
        return h5_damaged(f, "a damaged header");
    const uint64_t before = 6 + (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0), width = 1u << (flags & 3);
    if (!h5_piece(f, address, before + width, &p))
        return h5_damaged(f, "its header ends outside of the file");
    h5_skip(&p, before);
    const uint64_t size = h5_take(&p, (int)width);
    if (size > f->size || !h5_piece(f, address + before + width, size + 4, &p))
        return h5_damaged(f, "its header ends outside of the file");
    p.end -= 4; /* the check sum */
    return check_block(f, &h, p);
}

/* Objects ---------------------------------------------------------------------------------------------- */

/* known: the entry that led here, or NULL. */
static Status check_object(H5File *f, uint64_t address, const H5Entry *known, int depth)
{
    Object o = {.depth = depth, .tree = H5_UNDEFINED, .heap = H5_UNDEFINED};
    H5Piece p;
    TRY(h5_step(f));
    if (h5_piece(f, address, 6, &p) && memcmp(p.at, "OHDR", 4) == 0)
        TRY(check_header_2(f, address, p, &o));
    else
        TRY(check_header_1(f, address, &o));
    if (known && known->tree != H5_UNDEFINED && (known->tree != o.tree || known->heap != o.heap))
        return h5_damaged(f, "its header and its entry contradict each other");
    if (o.has[SYMBOL_TABLE] && o.has[LINK_INFO])
        return h5_damaged(f, "a group in two forms");
    if ((o.has[LAYOUT] || o.has[FILL] || o.has[OLD_FILL]) && !(o.has[TYPE] && o.has[SPACE]))
        return h5_damaged(f, "an array without type or shape");
    if (o.has[FILL] || o.has[OLD_FILL])
        if ((o.has[FILL] && o.has[OLD_FILL]) || !fill_is_sound(o.fill, o.has[OLD_FILL], &o.type))
            return h5_damaged(f, "a damaged value for what was never written");
    if (o.has[LAYOUT])
        TRY(h5_check_layout(f, o.layout, &o.type, &o.space));
    if (o.has[SYMBOL_TABLE] && depth < MAX_DEPTH)
        TRY(h5_check_symbols(f, o.tree, o.heap, follow, &o));
    return STATUS_OK;
}

/* Superblock ------------------------------------------------------------------------------------------- */

/* Versions 0 and 1: the root group is an entry of a symbol table. */
static Status check_superblock_0(H5File *f, H5Piece p, int version)
{
    H5Entry root = {.tree = H5_UNDEFINED, .heap = H5_UNDEFINED};
    h5_skip(&p, 4); /* versions of parts, all 0 */
    const uint64_t offset_size = h5_take(&p, 1), length_size = h5_take(&p, 1);
    h5_skip(&p, 1);
    f->leaf_k = (unsigned)h5_take(&p, 2);
    f->node_k = (unsigned)h5_take(&p, 2);
    h5_skip(&p, 4);
    f->chunk_k = version == 1 ? (unsigned)h5_take(&p, 2) : 32;
    h5_skip(&p, version == 1 ? 2 : 0);
    const uint64_t base = h5_take(&p, 8), free_space = h5_take(&p, 8), end = h5_take(&p, 8),
                   driver = h5_take(&p, 8);
    h5_skip(&p, 8);
    root.address = h5_take(&p, 8);
    if (h5_take(&p, 4) == 1) {
        h5_skip(&p, 4);
        root.tree = h5_take(&p, 8);
        root.heap = h5_take(&p, 8);
    }
    if (p.failed || offset_size != 8 || length_size != 8 || base != 0 || free_space != H5_UNDEFINED ||
        driver != H5_UNDEFINED || f->leaf_k == 0 || f->node_k == 0 || f->chunk_k == 0)
        return h5_damaged(f, "the beginning of the file is damaged");
    if (end > f->size)
        return h5_damaged(f, "the file ends early (truncated?)");
    f->size = end;
    return check_object(f, root.address, &root, 0);
}

/* Versions 2 and 3, whose parts all carry check sums. */
static Status check_superblock_2(H5File *f, H5Piece p)
{
    const uint64_t offset_size = h5_take(&p, 1), length_size = h5_take(&p, 1);
    h5_skip(&p, 1);
    const uint64_t base = h5_take(&p, 8), extension = h5_take(&p, 8), end = h5_take(&p, 8),
                   root = h5_take(&p, 8);
    f->leaf_k = 4; /* the library's defaults, for what is in the old form all the same */
    f->node_k = 16;
    f->chunk_k = 32;
    if (p.failed || offset_size != 8 || length_size != 8 || base != 0)
        return h5_damaged(f, "the beginning of the file is damaged");
    if (extension != H5_UNDEFINED)
        return h5_unread(f, "a file with settings of its own for free space or trees",
                         "write it with h5py's defaults");
    if (end > f->size)
        return h5_damaged(f, "the file ends early (truncated?)");
    f->size = end;
    return check_object(f, root, NULL, 0);
}

static Status check_file(H5File *f)
{
    H5Piece p;
    if (!h5_piece(f, 0, f->size < 128 ? f->size : 128, &p) || f->size < 48)
        return h5_damaged(f, "the file ends early (truncated?)");
    h5_skip(&p, 8);
    const int version = (int)h5_take(&p, 1);
    if (version > 3)
        return h5_damaged(f, "a version of HDF5 that is not known");
    return version < 2 ? check_superblock_0(f, p, version) : check_superblock_2(f, p);
}

Status h5_check(const char *path)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_refuse("%s: cannot be opened: %m", path);
    H5File *f = fstat(fd, &st) == 0 ? mem_calloc(1, sizeof *f) : NULL;
    void *map =
        f && st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    Status s = map != MAP_FAILED ? STATUS_OK : status_fail("%s: cannot be read: %s", path, strerror(errno));
    close(fd);
    if (s == STATUS_OK) {
        f->path = path;
        f->object = "/";
        f->bytes = map;
        f->size = (uint64_t)st.st_size;
        f->steps = f->size + 100000;
        s = check_file(f);
        munmap(map, (size_t)st.st_size);
    }
    mem_free(f);
    return s;
}
