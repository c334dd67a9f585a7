/* libyaml's events made into nodes. Everything a document holds lies in blocks that are freed together, so
 * that no error path has anything to clean up but the parser. */
#include "yaml.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

typedef struct Block Block;
struct Block {
    Block *before;
    /* the memory follows, on a boundary of 16 */
};
#define BLOCK_HEADER 16

struct YamlDoc {
    Block *blocks;
};

/* Memory of a document --------------------------------------------------------------------------------- */

Status yaml_doc_new(YamlDoc **out)
{
    *out = mem_calloc(1, sizeof **out);
    return *out ? STATUS_OK : STATUS_FAILED;
}

void yaml_doc_free(YamlDoc *d)
{
    if (!d)
        return;
    for (Block *b = d->blocks, *before; b; b = before) {
        before = b->before;
        mem_free(b);
    }
    mem_free(d);
}

/* Cleared memory of the document, or NULL with the thread's message set. */
static void *doc_alloc(YamlDoc *d, size_t bytes)
{
    Block *b = mem_calloc(1, BLOCK_HEADER + bytes);
    if (!b)
        return NULL;
    b->before = d->blocks;
    d->blocks = b;
    return (char *)b + BLOCK_HEADER;
}

static char *doc_text(YamlDoc *d, const char *text, size_t length)
{
    char *copy = doc_alloc(d, length + 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

/* Room for one more element in an array of the document that holds `count`: capacities are powers of two. */
static void *doc_grow(YamlDoc *d, void *array, int count, size_t element)
{
    if (count & (count - 1) || (count == 0 && array))
        return array;
    void *larger = doc_alloc(d, element * (size_t)(count ? 2 * count : 1));
    if (larger && count)
        memcpy(larger, array, element * (size_t)count);
    return larger;
}

static Status list_add(YamlDoc *d, YamlNode *list, YamlNode *item)
{
    list->items = doc_grow(d, list->items, list->count, sizeof *list->items);
    if (!list->items)
        return STATUS_FAILED;
    list->items[list->count++] = item;
    return STATUS_OK;
}

static Status map_add(YamlDoc *d, YamlNode *map, YamlPair pair)
{
    map->pairs = doc_grow(d, map->pairs, map->count, sizeof *map->pairs);
    if (!map->pairs)
        return STATUS_FAILED;
    map->pairs[map->count++] = pair;
    return STATUS_OK;
}

/* Messages --------------------------------------------------------------------------------------------- */

static Status refuse_at(const char *origin, int line, int column, const char *message)
{
    if (line > 0)
        return status_refuse("%s:%d:%d: %s", origin, line, column, message);
    return status_refuse("%s: %s", origin, message);
}

Status yaml_refuse(const YamlNode *at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char message[1024];
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return refuse_at(at->origin, at->line, at->column, message);
}

/* Reading ---------------------------------------------------------------------------------------------- */

typedef struct Anchor {
    const char *name;
    YamlNode *node; /* not complete while node->expanded is 0 */
} Anchor;

typedef struct Reader {
    YamlDoc *doc;
    const char *origin, *text;
    size_t size;
    yaml_parser_t parser;
    Anchor *anchors;
    int anchor_count;
    long nodes; /* so far, aliases expanded */
    int depth;
} Reader;

static Status refuse_mark(const Reader *r, yaml_mark_t mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static Status refuse_mark(const Reader *r, yaml_mark_t mark, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return refuse_at(r->origin, (int)mark.line + 1, (int)mark.column + 1, message);
}

/* Line and column (in characters) of a byte, for what libyaml's marks do not tell. */
static yaml_mark_t mark_of_byte(const Reader *r, size_t offset)
{
    yaml_mark_t m = {0};
    for (size_t i = 0; i < offset && i < r->size; i++) {
        if (r->text[i] == '\n') {
            m.line++;
            m.column = 0;
        } else if (((unsigned char)r->text[i] & 0xC0) != 0x80) {
            m.column++;
        }
    }
    m.index = offset;
    return m;
}

/* True if a tab stands among the blanks that line (from 0) begins with; *column gets its place (from 0). */
static bool line_begins_with_tab(const Reader *r, size_t line, size_t *column)
{
    const char *s = r->text, *end = r->text + r->size;
    for (; line && s < end; s++)
        line -= *s == '\n';
    for (const char *begin = s; s < end && (*s == ' ' || *s == '\t'); s++)
        if (*s == '\t') {
            *column = (size_t)(s - begin);
            return true;
        }
    return false;
}

#define BACKSLASH                                                                                            \
    "in double quotes a backslash begins a code; a path with backslashes goes in single quotes, or is "      \
    "written with /"

/* What libyaml calls it, and what a person can do about it. */
static const struct {
    const char *problem, *advice;
} ADVICE[] = {
    {"mapping values are not allowed", "text that contains \": \" goes in quotes"},
    {"did not find expected key", "is the indentation right, and is every quote and bracket closed?"},
    {"could not find expected ':'", "a key is followed by a colon and a space"},
    {"did not find expected ',' or", "is every bracket closed?"},
    {"found unexpected end of stream", "is every quote and bracket closed?"},
    {"did not find expected '-' indicator", "items of a list begin with \"- \" in the same column"},
    {"block sequence entries are not allowed", "a list begins on a line of its own"},
    {"found unknown escape character", BACKSLASH},
    {"did not find expected hexdecimal number", BACKSLASH},
    {"found invalid Unicode character escape code", BACKSLASH},
    {"found character that cannot start any token", "text that begins with it goes in quotes"},
    {"did not find expected alphabetic or numeric character", "text that begins with & or * goes in quotes"},
};

static Status parser_failed(const Reader *r)
{
    const yaml_parser_t *p = &r->parser;
    size_t column;
    yaml_mark_t m = p->problem_mark;
    if (p->error == YAML_MEMORY_ERROR)
        return status_memory("%s: out of memory", r->origin);
    if (p->error == YAML_READER_ERROR)
        return refuse_mark(r, mark_of_byte(r, p->problem_offset), "a control character (0x%02X); remove it",
                           (unsigned)p->problem_value);
    if (line_begins_with_tab(r, m.line, &column)) {
        m.column = column;
        return refuse_mark(r, m, "a tab in the indentation; YAML is indented with spaces");
    }
    const char *problem = p->problem ? p->problem : "it cannot be read";
    for (size_t i = 0; i < sizeof ADVICE / sizeof *ADVICE; i++)
        if (strstr(problem, ADVICE[i].problem))
            return refuse_mark(r, m, "not valid YAML: %s; %s", problem, ADVICE[i].advice);
    return refuse_mark(r, m, "not valid YAML: %s; is the indentation right, and is every quote closed?",
                       problem);
}

static Status next_event(Reader *r, yaml_event_t *e)
{
    return yaml_parser_parse(&r->parser, e) ? STATUS_OK : parser_failed(r);
}

static Status count_nodes(Reader *r, yaml_mark_t mark, long more)
{
    r->nodes += more;
    if (r->nodes > YAML_MAX_NODES)
        return refuse_mark(r, mark, "more than %d values once aliases are expanded", YAML_MAX_NODES);
    return STATUS_OK;
}

static Status new_node(Reader *r, YamlKind kind, yaml_mark_t mark, YamlNode **out)
{
    YamlNode *n = *out = doc_alloc(r->doc, sizeof *n);
    if (!n)
        return STATUS_FAILED;
    n->kind = kind;
    n->origin = r->origin;
    n->line = (int)mark.line + 1;
    n->column = (int)mark.column + 1;
    return count_nodes(r, mark, 1);
}

static Status add_anchor(Reader *r, const yaml_char_t *name, YamlNode *node)
{
    if (!name)
        return STATUS_OK;
    const char *copy = doc_text(r->doc, (const char *)name, strlen((const char *)name));
    r->anchors = doc_grow(r->doc, r->anchors, r->anchor_count, sizeof *r->anchors);
    if (!copy || !r->anchors)
        return STATUS_FAILED;
    r->anchors[r->anchor_count++] = (Anchor){copy, node};
    return STATUS_OK;
}

static Status read_alias(Reader *r, const yaml_event_t *e, YamlNode **out)
{
    const char *name = (const char *)e->data.alias.anchor;
    for (int i = r->anchor_count; i-- > 0;)
        if (strcmp(r->anchors[i].name, name) == 0) {
            *out = r->anchors[i].node;
            if ((*out)->expanded == 0)
                return refuse_mark(r, e->start_mark, "*%s stands inside of what it names", name);
            return count_nodes(r, e->start_mark, (*out)->expanded);
        }
    return refuse_mark(r, e->start_mark,
                       "*%s names nothing: no &%s stands above it (text that begins with * goes in "
                       "quotes)",
                       name, name);
}

static Status refuse_tag(const Reader *r, const yaml_char_t *tag, yaml_mark_t mark)
{
    return tag ? refuse_mark(r, mark, "a tag (%s); values need none here", (const char *)tag) : STATUS_OK;
}

static Status scalar_text(Reader *r, const yaml_event_t *e, const char **out)
{
    const size_t length = e->data.scalar.length;
    const char *value = (const char *)e->data.scalar.value;
    TRY(refuse_tag(r, e->data.scalar.tag, e->start_mark));
    if (memchr(value, 0, length))
        return refuse_mark(r, e->start_mark, "text with a 0 character in it");
    *out = doc_text(r->doc, value, length);
    return *out ? STATUS_OK : STATUS_FAILED;
}

static Status read_scalar(Reader *r, const yaml_event_t *e, YamlNode **out)
{
    TRY(new_node(r, YAML_IS_TEXT, e->start_mark, out));
    TRY(scalar_text(r, e, &(*out)->text));
    (*out)->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    TRY(add_anchor(r, e->data.scalar.anchor, *out));
    (*out)->expanded = 1;
    return STATUS_OK;
}

static Status read_node(Reader *r, yaml_event_t *e, YamlNode **out);

static Status read_list(Reader *r, const yaml_event_t *begin, YamlNode **out)
{
    const long before = r->nodes;
    TRY(refuse_tag(r, begin->data.sequence_start.tag, begin->start_mark));
    TRY(new_node(r, YAML_IS_LIST, begin->start_mark, out));
    TRY(add_anchor(r, begin->data.sequence_start.anchor, *out));
    for (;;) {
        yaml_event_t e;
        YamlNode *item;
        TRY(next_event(r, &e));
        if (e.type == YAML_SEQUENCE_END_EVENT)
            break;
        TRY(read_node(r, &e, &item));
        TRY(list_add(r->doc, *out, item));
    }
    (*out)->expanded = r->nodes - before;
    return STATUS_OK;
}

/* The key whose event is e; frees e's memory. */
static Status read_key(Reader *r, yaml_event_t *e, const YamlNode *map, YamlPair *pair)
{
    const yaml_mark_t mark = e->start_mark;
    Status s = STATUS_OK;
    if (e->type != YAML_SCALAR_EVENT)
        s = refuse_mark(r, mark, "a key has to be a word");
    else if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
             strcmp((char *)e->data.scalar.value, "<<") == 0)
        s = refuse_mark(r, mark, "merge keys (<<) are not supported; write the keys out");
    else if (e->data.scalar.anchor)
        s = refuse_mark(r, mark, "a key with an anchor; put the anchor before the value");
    else
        s = scalar_text(r, e, &pair->key);
    yaml_event_delete(e);
    TRY(s);
    TRY(count_nodes(r, mark, 1));
    pair->origin = r->origin;
    pair->line = (int)mark.line + 1;
    pair->column = (int)mark.column + 1;
    for (int i = 0; i < map->count; i++)
        if (strcmp(map->pairs[i].key, pair->key) == 0)
            return refuse_mark(r, mark, "the key %s is given twice (first in line %d)", pair->key,
                               map->pairs[i].line);
    return STATUS_OK;
}

static Status read_map(Reader *r, const yaml_event_t *begin, YamlNode **out)
{
    const long before = r->nodes;
    TRY(refuse_tag(r, begin->data.mapping_start.tag, begin->start_mark));
    TRY(new_node(r, YAML_IS_MAP, begin->start_mark, out));
    TRY(add_anchor(r, begin->data.mapping_start.anchor, *out));
    for (;;) {
        yaml_event_t e;
        YamlPair pair = {0};
        TRY(next_event(r, &e));
        if (e.type == YAML_MAPPING_END_EVENT)
            break;
        TRY(read_key(r, &e, *out, &pair));
        TRY(next_event(r, &e));
        TRY(read_node(r, &e, &pair.value));
        TRY(map_add(r->doc, *out, pair));
    }
    (*out)->expanded = r->nodes - before;
    return STATUS_OK;
}

/* The node that begins with e; frees e's memory. */
static Status read_node(Reader *r, yaml_event_t *e, YamlNode **out)
{
    Status s;
    if (++r->depth > YAML_MAX_DEPTH)
        s = refuse_mark(r, e->start_mark, "nested more than %d levels deep", YAML_MAX_DEPTH);
    else if (e->type == YAML_ALIAS_EVENT)
        s = read_alias(r, e, out);
    else if (e->type == YAML_SCALAR_EVENT)
        s = read_scalar(r, e, out);
    else if (e->type == YAML_SEQUENCE_START_EVENT)
        s = read_list(r, e, out);
    else
        s = read_map(r, e, out);
    r->depth--;
    yaml_event_delete(e);
    return s;
}

static Status read_document(Reader *r, YamlNode **root)
{
    yaml_event_t e;
    TRY(next_event(r, &e)); /* stream start: owns nothing, as the ends below */
    TRY(next_event(r, &e));
    if (e.type == YAML_STREAM_END_EVENT)
        return refuse_mark(r, e.start_mark, "there is nothing in it");
    yaml_event_delete(&e); /* document start */
    TRY(next_event(r, &e));
    TRY(read_node(r, &e, root));
    TRY(next_event(r, &e)); /* document end */
    TRY(next_event(r, &e));
    if (e.type == YAML_STREAM_END_EVENT)
        return STATUS_OK;
    const Status s = refuse_mark(r, e.start_mark, "a second document begins; one file holds one");
    yaml_event_delete(&e);
    return s;
}

Status yaml_parse(YamlDoc *d, const char *origin, const char *text, size_t size, YamlNode **root)
{
    static const char MARK[] = "\xEF\xBB\xBF"; /* a byte order mark, from editors on Windows */
    if (size >= 3 && memcmp(text, MARK, 3) == 0)
        text += 3, size -= 3;
    Reader r = {.doc = d, .text = text, .size = size};
    r.origin = doc_text(d, origin, strlen(origin));
    if (!r.origin)
        return STATUS_FAILED;
    const int64_t bad = text_invalid_utf8(text, size);
    if (bad >= 0)
        return refuse_mark(&r, mark_of_byte(&r, (size_t)bad),
                           "byte 0x%02X is not UTF-8; save the text as UTF-8", (unsigned char)text[bad]);
    if (!yaml_parser_initialize(&r.parser))
        return status_memory("%s: out of memory", origin);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    const Status s = read_document(&r, root);
    yaml_parser_delete(&r.parser);
    return s;
}

/* sd-scripts' configurations, whose first line of words is "[general]" or "key = value": no YAML begins so.
 */
static bool is_toml(const char *text)
{
    static const char NAME[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    while (*text && strchr(" \t\r\n#", *text))
        text += *text == '#' ? strcspn(text, "\n") : 1;
    const size_t open = strspn(text, "["), name = strspn(text + open, NAME);
    const char *rest = text + open + name;
    if (!name)
        return false;
    if (!open)
        return rest[strspn(rest, " ")] == '=';
    return strspn(rest, "]") == open && strchr("\r\n", rest[open]);
}

Status yaml_read(YamlDoc *d, const char *path, YamlNode **root)
{
    char *text;
    size_t size;
    if (!file_exists(path))
        return file_missing(path, "configuration");
    TRY(stream_read(path, YAML_MAX_BYTES, &text, &size));
    const Status s =
        is_toml(text)
            ? status_refuse(
                  "%s: is TOML, as sd-scripts has it; a configuration is YAML here, as the files in "
                  "configs/ are (docs/coming-from.md#training says what the keys are called)",
                  path)
            : yaml_parse(d, path, text, size, root);
    mem_free(text);
    return s;
}

Status yaml_scalar(YamlDoc *d, const char *origin, const char *text, YamlNode **out)
{
    YamlNode *n = *out = doc_alloc(d, sizeof *n);
    if (!n)
        return STATUS_FAILED;
    n->kind = YAML_IS_TEXT;
    n->quoted = true;
    n->expanded = 1;
    n->origin = doc_text(d, origin, strlen(origin));
    n->text = doc_text(d, text, strlen(text));
    return n->origin && n->text ? STATUS_OK : STATUS_FAILED;
}

void yaml_forget_lines(YamlNode *n)
{
    n->line = 0;
    for (int i = 0; i < n->count; i++) {
        if (n->kind == YAML_IS_MAP)
            n->pairs[i].line = 0;
        yaml_forget_lines(n->kind == YAML_IS_MAP ? n->pairs[i].value : n->items[i]);
    }
}

/* Looking and changing --------------------------------------------------------------------------------- */

bool yaml_is_empty(const YamlNode *n)
{
    return n->kind == YAML_IS_TEXT && !n->quoted && n->text[0] == 0;
}

YamlNode *yaml_get(const YamlNode *map, const char *key)
{
    if (map && map->kind == YAML_IS_MAP)
        for (int i = 0; i < map->count; i++)
            if (strcmp(map->pairs[i].key, key) == 0)
                return map->pairs[i].value;
    return NULL;
}

/* A copy of a list or map that shares its children. */
static YamlNode *shallow_copy(YamlDoc *d, const YamlNode *n)
{
    YamlNode *copy = doc_alloc(d, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *n;
    copy->items = NULL;
    copy->pairs = NULL;
    copy->count = 0;
    for (int i = 0; i < n->count; i++)
        if (n->kind == YAML_IS_LIST ? list_add(d, copy, n->items[i]) : map_add(d, copy, n->pairs[i]))
            return NULL;
    return copy;
}

/* Where part leads inside a list. A list of one may be passed over without a number: *used is false then. */
static Status step_into_list(YamlNode *list, const char *part, const YamlNode *value, YamlNode ***place,
                             bool *used)
{
    int64_t index = 0;
    *used = text_to_int(part, &index);
    if (!*used && list->count != 1)
        return yaml_refuse(value, "the list there has %d items: write the number of one (from 0) before %s",
                           list->count, part);
    if (index < 0 || index >= list->count)
        return yaml_refuse(value, "the list there has %d items, numbered from 0", list->count);
    *place = &list->items[index];
    return STATUS_OK;
}

/* Makes *place a list or map that may be changed: a copy of its own, or a new map where there is nothing. */
static Status own(YamlDoc *d, YamlNode **place, const YamlNode *value, const char *part)
{
    const YamlNode *n = *place;
    if (n && n->kind == YAML_IS_TEXT && !yaml_is_empty(n))
        return yaml_refuse(value, "there is nothing named %s below a text", part);
    if (n && n->kind != YAML_IS_TEXT) {
        *place = shallow_copy(d, n);
        return *place ? STATUS_OK : STATUS_FAILED;
    }
    YamlNode *map = *place = doc_alloc(d, sizeof *map);
    if (!map)
        return STATUS_FAILED;
    *map = (YamlNode){
        .kind = YAML_IS_MAP, .origin = value->origin, .line = value->line, .column = value->column};
    return STATUS_OK;
}

Status yaml_set(YamlDoc *d, YamlNode **root, const char *path, YamlNode *value)
{
    YamlNode **place = root;
    for (const char *part = path; *part;) {
        const size_t length = strcspn(part, ".");
        const char *word = doc_text(d, part, length);
        bool used = true;
        if (!word)
            return STATUS_FAILED;
        TRY(own(d, place, value, word));
        YamlNode *n = *place;
        if (n->kind == YAML_IS_LIST) {
            TRY(step_into_list(n, word, value, &place, &used));
        } else if (strcmp(word, "0") != 0 || yaml_get(n, word)) { /* else: a map stands for a list of one */
            int i = 0;
            while (i < n->count && strcmp(n->pairs[i].key, word) != 0)
                i++;
            if (i == n->count)
                TRY(map_add(
                    d, n,
                    (YamlPair){
                        .key = word, .origin = value->origin, .line = value->line, .column = value->column}));
            place = &n->pairs[i].value;
        }
        if (used)
            part += length + (part[length] == '.');
    }
    *place = value;
    return STATUS_OK;
}
