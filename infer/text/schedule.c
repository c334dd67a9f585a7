/* A1111's grammar (schedule.h):
 *
 *     prompt    = { emphasis | scheduled | alternate | text }
 *     emphasis  = "(" prompt [ ":" prompt ] ")"  |  "[" prompt "]"
 *     scheduled = "[" [ prompt ":" ] prompt ":" number "]"
 *     alternate = "[" prompt "|" prompt { "|" prompt } "]"
 *     text      = signs but [ ] ( ) : | \, and \ with any sign
 *
 * At the outermost level brackets and colons that belong to none of these are text; a "|" or a "\" at the end
 * is not, and then nothing of the whole prompt is read. A bracket is tried from its opening sign, and where
 * that fails, all that the try has made is dropped.
 *
 * What is read is a tree of nodes in one list: text that never changes, and choices, whose options are lists
 * of nodes again. A number of steps picks an option of each. */
#include "schedule.h"

#include "kernels/base/buffer.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DEEPEST 64 /* brackets within brackets; deeper ones are text */

typedef enum NodeType { NODE_TEXT, NODE_SCHEDULED, NODE_ALTERNATE } NodeType;

/* Nodes of a list are linked by next; an option is a list, of which an empty one is -1. */
typedef struct PromptNode {
    NodeType type;
    int next, option; /* of a choice: its first option, a NODE_TEXT of length 0 that stands for it */
    int list;         /* of an option: its first node */
    const char *text; /* NODE_TEXT */
    size_t length;
    const char *number; /* NODE_SCHEDULED: where the number stands, */
    int when;           /* and the last step of the first option, once the steps are known */
} PromptNode;

typedef struct Parser {
    PromptNode *nodes;
    int count, capacity;
    bool no_memory;
} Parser;

static int new_node(Parser *p, PromptNode node)
{
    if (p->no_memory || !mem_grow(&p->nodes, p->count, &p->capacity, sizeof *p->nodes)) {
        p->no_memory = true;
        return -1;
    }
    p->nodes[p->count] = node;
    return p->count++;
}

/* A list while it grows. */
typedef struct NodeList {
    int first, last;
} NodeList;
#define EMPTY_LIST ((NodeList){-1, -1})

static void link_node(Parser *p, NodeList *l, int node)
{
    if (node < 0)
        return;
    if (l->last >= 0)
        p->nodes[l->last].next = node;
    else
        l->first = node;
    l->last = node;
}

static void add_text(Parser *p, NodeList *l, const char *text, size_t length)
{
    if (length)
        link_node(p, l,
                  new_node(p, (PromptNode){.type = NODE_TEXT, .next = -1, .text = text, .length = length}));
}

/* Reading ------------------------------------------------------------------------------------------------ */

/* Bytes of plain text at s. */
static size_t text_length(const char *s)
{
    const char *p = s;
    while (*p && !strchr("[]():|", *p)) {
        if (*p == '\\' && (!p[1] || p[1] == '\n'))
            break;
        p += *p == '\\' ? 2 : 1;
    }
    return (size_t)(p - s);
}

/* "  10 ]" at s: the end, behind the bracket; NULL: it is none. */
static const char *scheduled_end(const char *s, const char **number)
{
    while (isspace((unsigned char)*s))
        s++;
    const char *from = s, *p = s + (*s == '+' || *s == '-');
    const size_t whole = strspn(p, "0123456789");
    p += whole;
    const size_t fraction = *p == '.' ? strspn(p + 1, "0123456789") : 0;
    if (*p == '.' && (whole || fraction))
        p += 1 + fraction;
    if (!whole && !fraction)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        const char *digits = p + 1 + (p[1] == '+' || p[1] == '-');
        const size_t n = strspn(digits, "0123456789");
        p = n ? digits + n : p;
    }
    while (isspace((unsigned char)*p))
        p++;
    *number = from;
    return *p == ']' ? p + 1 : NULL;
}

static NodeList read_prompt(Parser *p, const char **s, int depth);

static int option_of(Parser *p, NodeList list)
{
    return new_node(p, (PromptNode){.type = NODE_TEXT, .next = -1, .list = list.first});
}

/* "|b|c]" at *s, after the first option. */
static bool read_alternate(Parser *p, const char **s, NodeList first, int depth, NodeList *out)
{
    NodeList options = EMPTY_LIST;
    link_node(p, &options, option_of(p, first));
    while (**s == '|') {
        ++*s;
        link_node(p, &options, option_of(p, read_prompt(p, s, depth)));
    }
    if (**s != ']')
        return false;
    ++*s;
    link_node(p, out, new_node(p, (PromptNode){.type = NODE_ALTERNATE, .next = -1, .option = options.first}));
    return true;
}

/* ":0.5]" or ":b:0.5]" at *s, after the first prompt. */
static bool read_scheduled(Parser *p, const char **s, NodeList first, int depth, NodeList *out)
{
    const char *number;
    NodeList before = EMPTY_LIST, after = first;
    const char *end = scheduled_end(*s + 1, &number);
    if (!end) {
        ++*s;
        before = first;
        after = read_prompt(p, s, depth);
        end = **s == ':' ? scheduled_end(*s + 1, &number) : NULL;
    }
    if (!end)
        return false;
    *s = end;
    NodeList options = EMPTY_LIST;
    link_node(p, &options, option_of(p, before));
    link_node(p, &options, option_of(p, after));
    link_node(
        p, out,
        new_node(
            p, (PromptNode){.type = NODE_SCHEDULED, .next = -1, .option = options.first, .number = number}));
    return true;
}

/* Puts a list between two signs into out. */
static void enclose(Parser *p, const char *open, NodeList list, NodeList *out)
{
    add_text(p, out, open, 1);
    if (list.first >= 0) {
        link_node(p, out, list.first);
        out->last = list.last;
    }
}

/* What begins with the bracket at *s. False: nothing does; *s is where it was, and nothing has been added. */
static bool read_bracket(Parser *p, const char **s, int depth, NodeList *out)
{
    const char *start = *s;
    const int count = p->count, last = out->last;
    if (depth >= DEEPEST)
        return false;
    ++*s;
    const NodeList first = read_prompt(p, s, depth + 1);
    bool good = false;
    if (*start == '[' && **s == '|') {
        good = read_alternate(p, s, first, depth + 1, out);
    } else if (*start == '[' && **s == ':') {
        good = read_scheduled(p, s, first, depth + 1, out);
    } else if (**s == (*start == '[' ? ']' : ')') || (*start == '(' && **s == ':')) {
        enclose(p, start, first, out);
        if (**s == ':') {
            const char *colon = (*s)++;
            enclose(p, colon, read_prompt(p, s, depth + 1), out);
        }
        good = **s == (*start == '[' ? ']' : ')');
        if (good)
            add_text(p, out, (*s)++, 1);
    }
    if (!good) {
        p->count = count;
        out->last = last;
        if (last >= 0)
            p->nodes[last].next = -1;
        else
            out->first = -1;
        *s = start;
    }
    return good;
}

static NodeList read_prompt(Parser *p, const char **s, int depth)
{
    NodeList list = EMPTY_LIST;
    for (;;) {
        const size_t n = text_length(*s);
        add_text(p, &list, *s, n);
        *s += n;
        if (n)
            continue;
        if ((**s != '(' && **s != '[') || !read_bracket(p, s, depth, &list))
            return list;
    }
}

/* False: the prompt is not written in the grammar. */
static bool read_all(Parser *p, const char *s, NodeList *out)
{
    *out = EMPTY_LIST;
    while (*s && !p->no_memory) {
        const NodeList list = read_prompt(p, &s, 0);
        if (list.first >= 0) {
            link_node(p, out, list.first);
            out->last = list.last;
        }
        if (!*s)
            break;
        if (!strchr("[]():", *s))
            return false;
        add_text(p, out, s++, 1);
    }
    return true;
}

/* Steps -------------------------------------------------------------------------------------------------- */

/* A number with a point is a share of the steps, one without a step; in a second pass both go on from the
 * first. */
static int step_of(const char *number, int steps, int before)
{
    char word[64], full[72];
    double v = 0;
    const size_t n = strspn(number, "+-.0123456789eE");
    const bool plus = *number == '+';
    snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60) - plus, number + plus);
    char *point = strchr(word, '.');
    const bool bare_begin = point && (point == word || !isdigit((unsigned char)point[-1]));
    const bool bare_end = point && !isdigit((unsigned char)point[1]);
    if (point)
        snprintf(full, sizeof full, "%.*s%s.%s%s", (int)(point - word), word, bare_begin ? "0" : "",
                 bare_end ? "0" : "", point + 1);
    else
        snprintf(full, sizeof full, "%s", word);
    text_to_float(full, &v);
    v = point ? (v - (before > 0)) * steps : v - before;
    return v >= steps ? steps : v < 0 ? 0 : (int)v;
}

/* marks[i]: a part ends at step i. */
static void mark_ends(Parser *p, int steps, int before, bool *marks)
{
    marks[steps] = true;
    for (int i = 0; i < p->count; i++) {
        PromptNode *n = &p->nodes[i];
        if (n->type == NODE_SCHEDULED) {
            n->when = step_of(n->number, steps, before);
            marks[n->when] = true;
        }
        for (int k = 1; n->type == NODE_ALTERNATE && k <= steps; k++)
            marks[k] = true;
    }
    marks[0] = false;
}

static int option_at(const Parser *p, const PromptNode *n, int step)
{
    int count = 0, at = n->option;
    for (int o = n->option; o >= 0; o = p->nodes[o].next)
        count++;
    int k = n->type == NODE_SCHEDULED ? step > n->when : (step - 1) % count;
    while (k--)
        at = p->nodes[at].next;
    return at;
}

static void write_list(const Parser *p, int node, int step, Buffer *out)
{
    for (; node >= 0; node = p->nodes[node].next) {
        const PromptNode *n = &p->nodes[node];
        if (n->type == NODE_TEXT)
            buffer_add(out, "%.*s", (int)n->length, n->text);
        else
            write_list(p, p->nodes[option_at(p, n, step)].list, step, out);
    }
}

static Status add_part(PromptSchedule *s, int end, char *text)
{
    if (!text || !mem_grow(&s->items, s->count, &s->capacity, sizeof *s->items)) {
        mem_free(text);
        return STATUS_FAILED;
    }
    s->items[s->count++] = (PromptPart){.end = end, .text = text};
    return STATUS_OK;
}

static Status write_parts(const Parser *p, NodeList all, const bool *marks, int steps, PromptSchedule *out)
{
    for (int i = 1; i <= steps; i++) {
        if (!marks[i])
            continue;
        Buffer b = {0};
        char *text = NULL;
        write_list(p, all.first, i, &b);
        buffer_add(&b, "%s", "");
        TRY(buffer_take(&b, &text));
        TRY(add_part(out, i, text));
    }
    return STATUS_OK;
}

Status prompt_schedule(const char *text, int steps, int before, PromptSchedule *out)
{
    *out = (PromptSchedule){0};
    Parser p = {0};
    NodeList all;
    const bool good = read_all(&p, text, &all);
    Status s = p.no_memory ? STATUS_FAILED : STATUS_OK;
    bool *marks = good && s == STATUS_OK ? mem_calloc((size_t)steps + 1, sizeof *marks) : NULL;
    if (s == STATUS_OK && good && !marks)
        s = STATUS_FAILED;
    if (s == STATUS_OK && good) {
        mark_ends(&p, steps, before, marks);
        s = write_parts(&p, all, marks, steps, out);
    } else if (s == STATUS_OK) {
        s = add_part(out, steps, mem_strdup(text));
    }
    mem_free(marks);
    mem_free(p.nodes);
    if (s != STATUS_OK)
        prompt_schedule_free(out);
    return s;
}

void prompt_schedule_free(PromptSchedule *s)
{
    for (int i = 0; i < s->count; i++)
        mem_free(s->items[i].text);
    mem_free(s->items);
    *s = (PromptSchedule){0};
}

static bool is_word_sign(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

const char *prompt_find_and(const char *text)
{
    for (const char *p = text; (p = strstr(p, "AND")); p += 3)
        if ((p == text || !is_word_sign(p[-1])) && !is_word_sign(p[3]))
            return p;
    return NULL;
}
