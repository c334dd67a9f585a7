/* The machine has a stack of values and a memo of values by number. An instruction is a byte and its
 * arguments; it pushes, gathers what lies above a mark, or fills a container that lies below. Which
 * instructions there are: Python's Lib/pickletools.py. Those of torch's own restricted reader
 * (torch/_weights_only_unpickler.py) are here, and what newer pickle protocols have in their place; any other
 * is refused.
 *
 * Damaged and malicious pickles: every number is checked against the bytes that are there, all memory comes
 * from the caller's arena with its limit, and no instruction runs twice, so that time and memory follow from
 * the size. Nothing here recurses. */
#include "pickle.h"

#include "kernels/base/mem.h"
#include "little_endian.h"

#include <limits.h>
#include <string.h>

/* Memory ------------------------------------------------------------------------------------------------ */

#define BLOCK ((size_t)16 << 10)

typedef struct Block {
    struct Block *next;
    max_align_t data[];
} Block;

Status arena_charge(Arena *a, size_t bytes)
{
    if (bytes > a->left)
        return status_fail("what its pickle describes takes more memory than a file of this size needs (it "
                           "is damaged or malicious); fetch or write the file again");
    a->left -= bytes;
    return STATUS_OK;
}

void *arena_take(Arena *a, size_t bytes)
{
    bytes = (bytes + 7) & ~(size_t)7;
    if (arena_charge(a, bytes) != STATUS_OK)
        return NULL;
    if (bytes > a->room - a->used) {
        const size_t room = bytes > BLOCK ? bytes : BLOCK;
        Block *b = mem_alloc(sizeof *b + room);
        if (!b)
            return NULL;
        b->next = a->blocks;
        a->blocks = b;
        a->used = 0;
        a->room = room;
    }
    void *p = (char *)((Block *)a->blocks)->data + a->used;
    a->used += bytes;
    return p;
}

void arena_free(Arena *a)
{
    for (Block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    *a = (Arena){0};
}

/* The machine ------------------------------------------------------------------------------------------- */

typedef struct Machine {
    Arena *arena;
    const uint8_t *bytes;
    size_t size, at;
    PickleAllowed *allowed;
    PickleValue stack, memo, refs; /* lists; of the memo, items may be NULL */
} Machine;

static PickleValue the_mark = {.kind = PICKLE_MARK};

static Status damaged(const Machine *m, const char *what)
{
    return status_fail("byte %zu of its pickle: %s; fetch or write the file again", m->at, what);
}

static PickleValue *new_value(Machine *m, PickleKind kind)
{
    PickleValue *v = arena_take(m->arena, sizeof *v);
    if (v)
        *v = (PickleValue){.kind = kind};
    return v;
}

/* Room for n items of l; what is new is NULL. */
static Status reserve(Machine *m, PickleValue *l, size_t n)
{
    if (n <= (size_t)l->capacity)
        return STATUS_OK;
    const size_t doubled = 2 * (size_t)l->capacity, capacity = n > doubled ? n : doubled;
    if (capacity > INT_MAX)
        return damaged(m, "a list of more than two billion items");
    PickleValue **items = arena_take(m->arena, capacity * sizeof(PickleValue *));
    if (!items)
        return STATUS_FAILED;
    if (l->count)
        memcpy(items, l->items, (size_t)l->count * sizeof(PickleValue *));
    memset(items + l->count, 0, (capacity - (size_t)l->count) * sizeof(PickleValue *));
    l->items = items;
    l->capacity = (int)capacity;
    return STATUS_OK;
}

static Status append(Machine *m, PickleValue *l, PickleValue *v)
{
    TRY(reserve(m, l, (size_t)l->count + 1));
    l->items[l->count++] = v;
    return STATUS_OK;
}

static Status push(Machine *m, PickleValue *v)
{
    return v ? append(m, &m->stack, v) : STATUS_FAILED;
}

/* The value on top, which is no mark; NULL: there is none, and the status says so. */
static PickleValue *top(Machine *m)
{
    PickleValue *v = m->stack.count ? m->stack.items[m->stack.count - 1] : NULL;
    if (v && v->kind != PICKLE_MARK)
        return v;
    damaged(m, "takes a value where there is none");
    return NULL;
}

static PickleValue *pop(Machine *m)
{
    PickleValue *v = top(m);
    m->stack.count -= v != NULL;
    return v;
}

/* n bytes of arguments. NULL: there are not so many. */
static const uint8_t *argument(Machine *m, uint64_t n)
{
    if (n > m->size - m->at) {
        damaged(m, "ends in the middle of an instruction");
        return NULL;
    }
    const uint8_t *p = m->bytes + m->at;
    m->at += (size_t)n;
    return p;
}

/* Numbers and texts -------------------------------------------------------------------------------------- */

static Status push_int(Machine *m, unsigned bytes, bool has_sign)
{
    const uint8_t *p = argument(m, bytes);
    PickleValue *v = p ? new_value(m, PICKLE_INT) : NULL;
    if (v)
        v->whole = has_sign ? (int64_t)(int32_t)le32(p) : (int64_t)little_endian(p, bytes);
    return push(m, v);
}

/* A number of n bytes; of those that do not fit into 64 bits nobody has to know more than that. */
static Status push_long(Machine *m)
{
    const uint8_t *n = argument(m, 1), *p = n ? argument(m, *n) : NULL;
    PickleValue *v = p ? new_value(m, *n > 8 ? PICKLE_OPAQUE : PICKLE_INT) : NULL;
    if (v && *n <= 8) {
        const unsigned unused = 64 - 8u * *n;
        v->whole = *n ? (int64_t)(little_endian(p, *n) << unused) >> unused : 0;
    }
    return push(m, v);
}

static Status push_float(Machine *m)
{
    const uint8_t *p = argument(m, 8);
    PickleValue *v = p ? new_value(m, PICKLE_FLOAT) : NULL;
    uint64_t bits = 0;
    for (int i = 0; v && i < 8; i++) /* the one number whose highest byte comes first */
        bits = bits << 8 | p[i];
    if (v)
        memcpy(&v->real, &bits, 8);
    return push(m, v);
}

static Status push_text(Machine *m, unsigned length_bytes)
{
    const uint8_t *length = argument(m, length_bytes);
    const uint64_t n = length ? little_endian(length, length_bytes) : 0;
    const uint8_t *p = length ? argument(m, n) : NULL;
    if (p && n > INT_MAX)
        return damaged(m, "a text of more than two billion bytes");
    PickleValue *v = p ? new_value(m, PICKLE_TEXT) : NULL;
    if (v) {
        v->text = (const char *)p;
        v->count = (int)n;
    }
    return push(m, v);
}

static Status push_bool(Machine *m, bool yes)
{
    PickleValue *v = new_value(m, PICKLE_BOOL);
    if (v)
        v->whole = yes;
    return push(m, v);
}

/* Containers --------------------------------------------------------------------------------------------- */

/* How many values lie above the last mark; -1: there is no mark. */
static int above_mark(Machine *m)
{
    for (int i = m->stack.count - 1; i >= 0; i--)
        if (m->stack.items[i]->kind == PICKLE_MARK)
            return m->stack.count - 1 - i;
    damaged(m, "gathers values up to a mark where there is none");
    return -1;
}

static Status push_list(Machine *m, int n)
{
    PickleValue *v = new_value(m, PICKLE_LIST);
    if (!v || n > m->stack.count)
        return v ? damaged(m, "takes more values than there are") : STATUS_FAILED;
    TRY(reserve(m, v, (size_t)n));
    m->stack.count -= n;
    for (int i = 0; i < n; i++) {
        v->items[v->count++] = m->stack.items[m->stack.count + i];
        if (v->items[i]->kind == PICKLE_MARK)
            return damaged(m, "takes a value where there is none");
    }
    return push(m, v);
}

static Status push_marked(Machine *m, PickleKind kind)
{
    const int n = above_mark(m);
    if (n < 0 || (kind == PICKLE_DICT && n % 2))
        return n < 0 ? STATUS_FAILED : damaged(m, "a key without a value");
    TRY(push_list(m, n));
    PickleValue *v = pop(m);
    v->kind = kind;
    m->stack.count--; /* the mark */
    return push(m, v);
}

/* The n values on top go into the container below them; mark: a mark lies between. */
static Status fill(Machine *m, PickleKind kind, int n, bool mark)
{
    const int below = m->stack.count - n - mark - 1;
    if (n < 0 || below < 0)
        return n < 0 ? STATUS_FAILED : damaged(m, "fills a container where there is none");
    PickleValue *into = m->stack.items[below];
    if (into->kind != kind && into->kind != PICKLE_OPAQUE)
        return damaged(m, "fills something that is no container");
    if (kind == PICKLE_DICT && n % 2)
        return damaged(m, "a key without a value");
    for (int i = m->stack.count - n; i < m->stack.count; i++) {
        if (m->stack.items[i]->kind == PICKLE_MARK)
            return damaged(m, "takes a value where there is none");
        if (into->kind != PICKLE_OPAQUE)
            TRY(append(m, into, m->stack.items[i]));
    }
    m->stack.count = below + 1;
    return STATUS_OK;
}

/* Memo --------------------------------------------------------------------------------------------------- */

static Status put(Machine *m, unsigned index_bytes)
{
    const uint8_t *p = index_bytes ? argument(m, index_bytes) : NULL;
    if (index_bytes && !p)
        return STATUS_FAILED;
    const size_t i = p ? (size_t)little_endian(p, index_bytes) : (size_t)m->memo.count;
    PickleValue *v = top(m);
    TRY(v ? reserve(m, &m->memo, i + 1) : STATUS_FAILED);
    m->memo.items[i] = v;
    if (i >= (size_t)m->memo.count)
        m->memo.count = (int)i + 1;
    return STATUS_OK;
}

static Status get(Machine *m, unsigned index_bytes)
{
    const uint8_t *p = argument(m, index_bytes);
    const size_t i = p ? (size_t)little_endian(p, index_bytes) : 0;
    if (!p)
        return STATUS_FAILED;
    if (i >= (size_t)m->memo.count || !m->memo.items[i])
        return damaged(m, "takes a value from the memo that is not there");
    return push(m, m->memo.items[i]);
}

/* Globals ------------------------------------------------------------------------------------------------ */

static PickleUse use_of(const Machine *m, const PickleValue *global)
{
    const char *newline = memchr(global->text, '\n', (size_t)global->count);
    const size_t n = (size_t)(newline - global->text);
    return m->allowed(global->text, n, newline + 1, (size_t)global->count - n - 1);
}

/* The name with a dot in it. */
static Status refuse_global(const Machine *m, const PickleValue *global)
{
    char name[160];
    size_t n = (size_t)global->count < sizeof name - 1 ? (size_t)global->count : sizeof name - 1;
    for (size_t i = 0; i < n; i++) {
        const char c = global->text[i];
        name[i] = c == '\n' ? '.' : c < ' ' || c > '~' ? '?' : c;
    }
    name[n] = 0;
    return status_refuse("byte %zu of its pickle asks for %s, which is not allowed: only tensors, dicts, "
                         "lists, numbers and texts are read, and nothing in a file is ever run. If you trust "
                         "where the file is from, load it in PyTorch and save its tensors alone, best as "
                         "safetensors",
                         m->at, name);
}

static Status push_global(Machine *m, const char *text, size_t length)
{
    PickleValue *v = new_value(m, PICKLE_GLOBAL);
    if (!v)
        return STATUS_FAILED;
    v->text = text;
    v->count = (int)length;
    return use_of(m, v) == PICKLE_REFUSED ? refuse_global(m, v) : push(m, v);
}

/* Two lines. */
static Status read_global(Machine *m)
{
    const uint8_t *from = m->bytes + m->at, *end = from;
    for (int line = 0; line < 2; line++) {
        const uint8_t *newline = memchr(end, '\n', (size_t)(m->bytes + m->size - end));
        if (!newline)
            return damaged(m, "a name without an end");
        end = newline + 1;
    }
    const size_t n = (size_t)(end - from);
    if (n > INT_MAX)
        return damaged(m, "a name of more than two billion bytes");
    TRY(push_global(m, (const char *)from, n - 1));
    m->at += n;
    return STATUS_OK;
}

/* Two texts on the stack. */
static Status join_global(Machine *m)
{
    const PickleValue *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module)
        return STATUS_FAILED;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT ||
        memchr(module->text, '\n', (size_t)module->count))
        return damaged(m, "a name that is no text");
    const size_t n = (size_t)module->count, k = (size_t)name->count;
    char *text = arena_take(m->arena, n + 1 + k);
    if (!text)
        return STATUS_FAILED;
    memcpy(text, module->text, n);
    text[n] = '\n';
    memcpy(text + n + 1, name->text, k);
    return push_global(m, text, n + 1 + k);
}

/* OrderedDict([(key, value), …]) of Python 2; without an argument it is empty. */
static Status fill_from_pairs(Machine *m, PickleValue *dict, const PickleValue *args)
{
    const PickleValue *pairs = args->count ? args->items[0] : NULL;
    for (int i = 0; pairs && pairs->kind == PICKLE_LIST && i < pairs->count; i++) {
        const PickleValue *pair = pairs->items[i];
        if (pair->kind != PICKLE_LIST || pair->count != 2)
            return damaged(m, "a dict of something else than pairs");
        TRY(append(m, dict, pair->items[0]));
        TRY(append(m, dict, pair->items[1]));
    }
    return STATUS_OK;
}

/* What a call, or the making of an object, stands for. */
static Status call(Machine *m)
{
    PickleValue *args = pop(m), *function = args ? pop(m) : NULL;
    if (!function)
        return STATUS_FAILED;
    if (args->kind != PICKLE_LIST || (function->kind != PICKLE_GLOBAL && function->kind != PICKLE_OPAQUE))
        return damaged(m, "calls something that is no function");
    const PickleUse use = function->kind == PICKLE_OPAQUE ? PICKLE_SKIPPED : use_of(m, function);
    PickleValue *v = new_value(m, use == PICKLE_SKIPPED   ? PICKLE_OPAQUE
                                  : use == PICKLE_AS_DICT ? PICKLE_DICT
                                                          : PICKLE_CALL);
    if (!v)
        return STATUS_FAILED;
    if (v->kind == PICKLE_DICT)
        TRY(fill_from_pairs(m, v, args));
    if (v->kind == PICKLE_CALL) {
        TRY(append(m, v, function));
        TRY(append(m, v, args));
    }
    return push(m, v);
}

/* An object's attributes. Those of a dict that is still empty are what it holds (torch's ParameterDict). */
static Status build(Machine *m)
{
    const PickleValue *state = pop(m);
    PickleValue *object = state ? top(m) : NULL;
    if (!object)
        return STATUS_FAILED;
    if (object->kind != PICKLE_DICT || object->count || state->kind != PICKLE_DICT || object == state)
        return STATUS_OK;
    for (int i = 0; i < state->count; i++)
        TRY(append(m, object, state->items[i]));
    return STATUS_OK;
}

static Status refer(Machine *m)
{
    PickleValue *id = pop(m), *v = id ? new_value(m, PICKLE_REF) : NULL;
    if (!v)
        return STATUS_FAILED;
    TRY(append(m, v, id));
    TRY(append(m, &m->refs, v));
    return push(m, v);
}

/* Instructions ------------------------------------------------------------------------------------------- */

static Status protocol(Machine *m)
{
    const uint8_t *p = argument(m, 1);
    if (p && (*p < 2 || *p > 5))
        return damaged(m, "a protocol that is not known");
    return p ? STATUS_OK : STATUS_FAILED;
}

static Status refuse_instruction(const Machine *m, uint8_t op)
{
    return status_refuse("byte %zu of its pickle: instruction 0x%02x, which torch.save does not write; the "
                         "file is damaged, or not a file of tensors",
                         m->at - 1, op);
}

static Status step(Machine *m, uint8_t op)
{
    switch (op) {
    case 0x80:
        return protocol(m);
    case 0x95: /* FRAME: how many bytes come next */
        return argument(m, 8) ? STATUS_OK : STATUS_FAILED;
    case '(':
        return push(m, &the_mark);
    case 'N':
        return push(m, new_value(m, PICKLE_NONE));
    case 0x88:
    case 0x89:
        return push_bool(m, op == 0x88);
    case 'J':
        return push_int(m, 4, true);
    case 'K':
        return push_int(m, 1, false);
    case 'M':
        return push_int(m, 2, false);
    case 0x8a:
        return push_long(m);
    case 'G':
        return push_float(m);
    case 'X': /* texts in Unicode, of Python 2, and bytes: the length in 4 bytes */
    case 'T':
    case 'B':
        return push_text(m, 4);
    case 0x8c: /* in one */
    case 'U':
    case 'C':
        return push_text(m, 1);
    case ']':
    case ')':
    case 0x8f: /* a set */
        return push(m, new_value(m, PICKLE_LIST));
    case '}':
        return push(m, new_value(m, PICKLE_DICT));
    case 0x85:
    case 0x86:
    case 0x87:
        return push_list(m, op - 0x84);
    case 't':
    case 'l':
    case 0x91: /* a frozen set */
        return push_marked(m, PICKLE_LIST);
    case 'd':
        return push_marked(m, PICKLE_DICT);
    case 'a':
        return fill(m, PICKLE_LIST, 1, false);
    case 'e':
    case 0x90: /* into a set */
        return fill(m, PICKLE_LIST, above_mark(m), true);
    case 's':
        return fill(m, PICKLE_DICT, 2, false);
    case 'u':
        return fill(m, PICKLE_DICT, above_mark(m), true);
    case 'q':
        return put(m, 1);
    case 'r':
        return put(m, 4);
    case 0x94:
        return put(m, 0);
    case 'h':
        return get(m, 1);
    case 'j':
        return get(m, 4);
    case 'c':
        return read_global(m);
    case 0x93:
        return join_global(m);
    case 'R':
    case 0x81: /* NEWOBJ */
        return call(m);
    case 'b':
        return build(m);
    case 'Q':
        return refer(m);
    default:
        return refuse_instruction(m, op);
    }
}

Status pickle_read(Arena *a, const uint8_t *bytes, size_t size, PickleAllowed *allowed, Pickle *out)
{
    const PickleValue list = {.kind = PICKLE_LIST};
    Machine m = {.arena = a,
                 .bytes = bytes,
                 .size = size,
                 .allowed = allowed,
                 .stack = list,
                 .memo = list,
                 .refs = list};
    for (;;) {
        const uint8_t *op = argument(&m, 1);
        if (!op)
            return STATUS_FAILED;
        if (*op == '.')
            break;
        TRY(step(&m, *op));
    }
    *out = (Pickle){pop(&m), m.refs, m.at};
    return out->root ? STATUS_OK : STATUS_FAILED;
}

/* Looking ------------------------------------------------------------------------------------------------ */

static bool has_text(const PickleValue *v, const char *text)
{
    return (size_t)v->count == strlen(text) && !memcmp(v->text, text, (size_t)v->count);
}

bool pickle_is_text(const PickleValue *v, const char *text)
{
    return v->kind == PICKLE_TEXT && has_text(v, text);
}

bool pickle_is_global(const PickleValue *v, const char *name)
{
    return v->kind == PICKLE_GLOBAL && has_text(v, name);
}

const PickleValue *pickle_get(const PickleValue *dict, const char *key)
{
    for (int i = 0; dict->kind == PICKLE_DICT && i + 1 < dict->count; i += 2)
        if (pickle_is_text(dict->items[i], key))
            return dict->items[i + 1];
    return NULL;
}
