/* Tokens into chunks (chunks.h). First the prompt becomes pieces, a token or an embedding each, with its
 * weight; then chunks are filled with them. A1111 ends a full one at a comma that is near, and moves what
 * came after it on; ComfyUI moves a group of fewer than 8 tokens, all that has one weight, on as a whole. An
 * embedding is never split. */
#include "chunks.h"

#include "kernels/base/mem.h"

#include <string.h>

#define COMFY_WHOLE 8 /* a group of so many tokens is split where a chunk ends */

typedef struct Piece {
    int32_t id;
    const Embedding *embedding; /* or NULL */
    float weight;
    int group;      /* ComfyUI's: tokens of one text, or one embedding */
    bool chunk_end; /* nothing else */
} Piece;
typedef struct Pieces {
    Piece *items;
    int count, capacity;
} Pieces;

static Status add_piece(Pieces *p, Piece piece)
{
    if (!mem_grow(&p->items, p->count, &p->capacity, sizeof *p->items))
        return STATUS_FAILED;
    p->items[p->count++] = piece;
    return STATUS_OK;
}

static int size_of(const Piece *p)
{
    return p->embedding ? p->embedding->vectors : 1;
}

/* Pieces ------------------------------------------------------------------------------------------------- */

typedef struct Reader {
    const Tokenizer *t;
    const EmbeddingSet *set;
    PromptSyntax syntax;
    int32_t **names; /* tokens that the embeddings' names are, as A1111 finds them */
    int *name_lengths;
    Pieces pieces;
    int group;
} Reader;

/* The embedding with the longest name that stands in ids, or -1. */
static int name_at(const Reader *r, const int32_t *ids, int count)
{
    int best = -1;
    for (int i = 0; r->names && i < r->set->count; i++) {
        const int n = r->name_lengths[i];
        if (n > 0 && n <= count && !memcmp(ids, r->names[i], (size_t)n * sizeof *ids) &&
            (best < 0 || n > r->name_lengths[best]))
            best = i;
    }
    return best;
}

static Status add_ids(Reader *r, const int32_t *ids, int count, float weight)
{
    for (int i = 0; i < count; i++) {
        const int found = name_at(r, ids + i, count - i);
        TRY(add_piece(&r->pieces, (Piece){.id = ids[i],
                                          .embedding = found < 0 ? NULL : &r->set->items[found],
                                          .weight = weight,
                                          .group = r->group}));
        i += found < 0 ? 0 : r->name_lengths[found] - 1;
    }
    return STATUS_OK;
}

/* The part of a text before `end`. */
static Status add_words(Reader *r, const char *text, const char *end, float weight)
{
    int32_t *ids;
    int count;
    char *part = mem_printf("%.*s", (int)(end - text), text);
    Status s = part ? tokenizer_encode(r->t, part, &ids, &count) : STATUS_FAILED;
    mem_free(part);
    TRY(s);
    r->group++;
    s = add_ids(r, ids, count, weight);
    mem_free(ids);
    return s;
}

static Status add_embedding(Reader *r, const Embedding *e, float weight)
{
    r->group++;
    return add_piece(&r->pieces, (Piece){.embedding = e, .weight = weight, .group = r->group});
}

/* A token such as "<cat-toy>" at p, as its file calls it. */
static const Embedding *token_at(const EmbeddingSet *set, const char *p)
{
    const Embedding *best = NULL;
    for (int i = 0; i < set->count; i++) {
        const char *token = set->items[i].token;
        if (token && !strncmp(p, token, strlen(token)) && (!best || strlen(token) > strlen(best->token)))
            best = &set->items[i];
    }
    return best;
}

static Status add_text(Reader *r, const char *text, float weight)
{
    const char *from = text, *p = text;
    while (r->set && *p) {
        const Embedding *e = token_at(r->set, p);
        if (!e) {
            p++;
            continue;
        }
        if (p > from)
            TRY(add_words(r, from, p, weight));
        TRY(add_embedding(r, e, weight));
        from = p += strlen(e->token);
    }
    return *from || from == text ? add_words(r, from, from + strlen(from), weight) : STATUS_OK;
}

/* ComfyUI's "embedding:NAME" ----------------------------------------------------------------------------- */

#define COMFY_MARK "embedding:"

static const Embedding *embedding_named(const EmbeddingSet *set, const char *name, size_t size)
{
    for (int i = 0; set && i < set->count; i++) {
        const char *own = set->items[i].name;
        const size_t n = strlen(own);
        if ((n == size || (n < size && name[n] == '.')) && !strncmp(own, name, n))
            return &set->items[i];
    }
    return NULL;
}

/* The next mark from p on that begins a word; the text's end: there is none. */
static const char *next_mark(const char *text, const char *p)
{
    const char *at = p;
    while ((at = strstr(at, COMFY_MARK)) && at > text && at[-1] != ' ' && at[-1] != '\n')
        at++;
    return at ? at : p + strlen(p);
}

static Status comfy_text(Reader *r, const char *text, float weight)
{
    const char *p = text;
    while (*p) {
        const char *mark = next_mark(text, p);
        const bool is_space = mark > p && *mark;
        if (mark > p)
            TRY(add_words(r, p, mark - is_space, weight));
        p = mark;
        if (!*p)
            break;
        const char *name = p + strlen(COMFY_MARK);
        size_t size = strcspn(name, " \t\r\n"), whole = size;
        const Embedding *e = embedding_named(r->set, name, size);
        while (!e && size && name[size - 1] == ',')
            e = embedding_named(r->set, name, --size);
        if (!e)
            return status_refuse("the prompt names `" COMFY_MARK
                                 "%.*s`, but no such embedding was given (--embedding, --embedding-dir)",
                                 (int)whole, name);
        TRY(add_embedding(r, e, weight));
        p = name + size;
    }
    return STATUS_OK;
}

/* All runs ----------------------------------------------------------------------------------------------- */

static Status read_names(Reader *r)
{
    if (!r->set || !r->set->count || r->syntax == PROMPT_COMFY)
        return STATUS_OK;
    r->names = mem_calloc((size_t)r->set->count, sizeof *r->names);
    r->name_lengths = mem_calloc((size_t)r->set->count, sizeof *r->name_lengths);
    if (!r->names || !r->name_lengths)
        return STATUS_FAILED;
    for (int i = 0; i < r->set->count; i++)
        TRY(tokenizer_encode(r->t, r->set->items[i].name, &r->names[i], &r->name_lengths[i]));
    return STATUS_OK;
}

static Status read_pieces(Reader *r, const PromptRuns *runs)
{
    TRY(read_names(r));
    for (int i = 0; i < runs->count; i++) {
        const PromptRun *run = &runs->items[i];
        if (run->chunk_end)
            TRY(add_piece(&r->pieces, (Piece){.chunk_end = true}));
        else if (r->syntax == PROMPT_COMFY)
            TRY(comfy_text(r, run->text, (float)run->weight));
        else
            TRY(add_text(r, run->text, (float)run->weight));
    }
    return STATUS_OK;
}

static void reader_end(Reader *r)
{
    for (int i = 0; r->names && i < r->set->count; i++)
        mem_free(r->names[i]);
    mem_free(r->names);
    mem_free(r->name_lengths);
    mem_free(r->pieces.items);
}

/* Filling ------------------------------------------------------------------------------------------------ */

/* Chunks as ranges of pieces: chunk k is pieces [starts[k], starts[k + 1]). */
typedef struct Fill {
    const Pieces *pieces;
    int room; /* tokens of a chunk, without BOS and EOS */
    int *starts, count, capacity;
} Fill;

static Status begin_chunk(Fill *f, int piece)
{
    if (!mem_grow(&f->starts, f->count, &f->capacity, sizeof *f->starts))
        return STATUS_FAILED;
    f->starts[f->count++] = piece;
    return STATUS_OK;
}

/* Where a chunk that piece i does not fit into ends: behind the last comma, if that is near; else before i.
 */
static int chunk_break(const Fill *f, int i, int comma, int comma_place, int used)
{
    const bool near_comma = comma >= 0 && used == f->room && used - comma_place <= COMMA_BACKTRACK;
    return near_comma ? comma + 1 : i;
}

/* comma: the token "," where a chunk may end behind one, else -1. */
static Status fill_a1111(Fill *f, int32_t comma)
{
    int used = 0, last = -1, last_place = 0;
    TRY(begin_chunk(f, 0));
    for (int i = 0; i < f->pieces->count; i++) {
        const Piece *p = &f->pieces->items[i];
        if (p->chunk_end) {
            TRY(begin_chunk(f, i + 1));
            used = 0, last = -1;
            continue;
        }
        const bool is_comma = !p->embedding && p->id == comma;
        if (is_comma) {
            last = i;
            last_place = used;
        }
        if (used + size_of(p) > f->room) {
            const int from = chunk_break(f, i, is_comma ? -1 : last, last_place, used);
            TRY(begin_chunk(f, from));
            used = 0, last = -1;
            for (int k = from; k < i; k++)
                used += size_of(&f->pieces->items[k]);
            if (used + size_of(p) > f->room) { /* an embedding, behind what was moved on */
                TRY(begin_chunk(f, i));
                used = 0;
            }
        }
        used += size_of(p);
    }
    return STATUS_OK;
}

static Status fill_comfy(Fill *f)
{
    int used = 0, group = 0;
    TRY(begin_chunk(f, 0));
    for (int i = 0; i < f->pieces->count; i += group) {
        const Piece *p = &f->pieces->items[i];
        int size = 0;
        for (group = 0; i + group < f->pieces->count && p[group].group == p->group; group++)
            size += size_of(&p[group]);
        if (used + size > f->room && (size < COMFY_WHOLE || p->embedding)) {
            TRY(begin_chunk(f, i));
            used = 0;
        }
        for (int k = 0; k < group && !p->embedding; k++) {
            if (used == f->room) {
                TRY(begin_chunk(f, i + k));
                used = 0;
            }
            used++;
        }
        used += p->embedding ? size : 0;
    }
    return STATUS_OK;
}

static Status find_comma(const Tokenizer *t, int32_t *out)
{
    int32_t *ids;
    int count;
    TRY(tokenizer_encode(t, ",", &ids, &count));
    *out = count == 1 ? ids[0] : -1;
    mem_free(ids);
    return STATUS_OK;
}

static Status fill(Fill *f, const Tokenizer *t, PromptReading how)
{
    int32_t comma = -1;
    if (how.syntax == PROMPT_COMFY)
        return fill_comfy(f);
    if (how.syntax == PROMPT_A1111)
        TRY(find_comma(t, &comma));
    TRY(fill_a1111(f, comma));
    /* BREAK at the very end begins nothing */
    const int n = f->pieces->count;
    if (n && f->pieces->items[n - 1].chunk_end && f->count > 1)
        f->count--;
    return STATUS_OK;
}

/* Writing ------------------------------------------------------------------------------------------------ */

/* Room for `count` chunks, all of the empty prompt. */
static Status make_room(const Tokenizer *t, int count, PromptChunks *c)
{
    const size_t n = (size_t)count * (size_t)c->length, had = (size_t)c->count * (size_t)c->length;
    int32_t *ids = mem_realloc(c->ids, n * sizeof *c->ids);
    c->ids = ids ? ids : c->ids;
    float *weights = mem_realloc(c->weights, n * sizeof *c->weights);
    c->weights = weights ? weights : c->weights;
    const float **vectors = mem_realloc(c->vectors, n * sizeof *c->vectors);
    c->vectors = vectors ? vectors : c->vectors;
    if (!ids || !weights || !vectors)
        return STATUS_FAILED;
    for (size_t i = had; i < n; i++) {
        c->weights[i] = 1;
        c->vectors[i] = NULL;
    }
    for (; c->count < count; c->count++)
        TRY(tokenizer_encode_padded(t, "", c->length, c->ids + (size_t)c->count * (size_t)c->length, NULL));
    return STATUS_OK;
}

/* Vector number v of an embedding, for the text encoder that is written for. */
static const float *vector_of(const Embedding *e, int v, bool second)
{
    return second ? e->values_2 + (size_t)v * (size_t)e->width_2 : e->values + (size_t)v * (size_t)e->width;
}

/* Pieces [from, to) into chunk k, as many as go in. */
static void write_chunk(const Pieces *p, int from, int to, int k, bool second, PromptChunks *c)
{
    int32_t *ids = c->ids + (size_t)k * (size_t)c->length;
    float *weights = c->weights + (size_t)k * (size_t)c->length;
    const float **vectors = c->vectors + (size_t)k * (size_t)c->length;
    const int32_t eos = ids[1];
    int at = 1;
    for (int i = from; i < to && !p->items[i].chunk_end; i++) {
        const Piece *piece = &p->items[i];
        if (at + size_of(piece) > c->length - 1) /* where all that is too long is cut */
            break;
        for (int v = 0; v < size_of(piece); v++, at++) {
            ids[at] = piece->embedding ? 0 : piece->id;
            vectors[at] = piece->embedding ? vector_of(piece->embedding, v, second) : NULL;
            weights[at] = piece->weight;
            c->weighted |= piece->weight != 1;
        }
    }
    ids[at] = eos; /* behind it the empty prompt's padding stays */
}

static Status write_chunks(const Tokenizer *t, const Fill *f, PromptReading how, bool second,
                           PromptChunks *out)
{
    const int count = how.chunks ? f->count : 1;
    TRY(make_room(t, count, out));
    for (int k = 0; k < count; k++)
        write_chunk(f->pieces, f->starts[k],
                    how.chunks && k + 1 < f->count ? f->starts[k + 1] : f->pieces->count, k, second, out);
    for (int i = 0; i < f->pieces->count; i++)
        out->tokens += f->pieces->items[i].chunk_end ? 0 : size_of(&f->pieces->items[i]);
    return STATUS_OK;
}

static Status check_embeddings(const EmbeddingSet *set, const Pieces *p, int room)
{
    for (int i = 0; i < p->count; i++) {
        if (p->items[i].embedding && set->width)
            TRY(embedding_check(p->items[i].embedding, set->width, set->width_2));
        if (size_of(&p->items[i]) > room)
            return status_refuse(
                "the embedding `%s` has %d vectors; the text encoder takes %d tokens at once",
                p->items[i].embedding->name, p->items[i].embedding->vectors, room);
    }
    return STATUS_OK;
}

static Status make_chunks(const Tokenizer *t, Reader *r, PromptReading how, const char *text,
                          PromptChunks *out)
{
    PromptRuns runs;
    Status s = prompt_runs(how.syntax, text, &runs);
    if (s == STATUS_OK)
        s = read_pieces(r, &runs);
    prompt_runs_free(&runs);
    TRY(s);
    TRY(check_embeddings(r->set, &r->pieces, out->length - 2));
    Fill f = {.pieces = &r->pieces, .room = out->length - 2};
    s = fill(&f, t, how);
    if (s == STATUS_OK)
        s = write_chunks(t, &f, how, r->set && r->set->second, out);
    mem_free(f.starts);
    return s;
}

Status prompt_chunks(const Tokenizer *t, const EmbeddingSet *embeddings, PromptReading how, const char *text,
                     int length, PromptChunks *out)
{
    *out = (PromptChunks){.length = length};
    Reader r = {.t = t, .set = embeddings, .syntax = how.syntax};
    const Status s = make_chunks(t, &r, how, text, out);
    reader_end(&r);
    if (s != STATUS_OK)
        prompt_chunks_free(out);
    return s;
}

Status prompt_chunks_pad(const Tokenizer *t, int count, PromptChunks *c)
{
    return c->count < count ? make_room(t, count, c) : STATUS_OK;
}

void prompt_chunks_free(PromptChunks *c)
{
    mem_free(c->ids);
    mem_free(c->weights);
    mem_free((void *)c->vectors);
    *c = (PromptChunks){0};
}
