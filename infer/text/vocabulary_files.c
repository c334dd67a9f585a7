/* A vocabulary from the files that transformers writes beside a text encoder.
 *
 * The tokens and merges are in vocab.json ({"text": id}) and merges.txt ("left right" a line, most frequent
 * first), or both in tokenizer.json. Which tokens are special, and whether they are looked for before or
 * after the text is normalised, follows transformers 5 (tokenization_utils_base.py): tokenizer.json's
 * added_tokens, else added_tokens_decoder of tokenizer_config.json, else the named tokens of
 * tokenizer_config.json under those of special_tokens_map.json, where a plain string means "exactly" and the
 * last mention of a text wins. */
#include "vocabulary.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "merge_table.h"

#include <stdio.h>
#include <string.h>

#define JSON_LIMIT ((size_t)256 << 20)
#define TOKEN_BYTES                                                                                          \
    1024 /* longest token text: a byte takes two bytes here, and CLIP's longest has 256 bytes */

#define MAX_ID ((int64_t)1 << 24) /* of a token; the largest vocabularies have a quarter of a million */

/* Where the texts come from: a folder, or a function. */
typedef struct Origin {
    const char *folder; /* and its name in messages */
    const char *(*text)(void *arg, const char *name);
    void *arg;
} Origin;

typedef struct Files {
    json_t *vocab;     /* text -> id; borrowed from tokenizer or own */
    json_t *tokenizer; /* tokenizer.json, or NULL */
    json_t *config;    /* tokenizer_config.json, or NULL */
    json_t *map;       /* special_tokens_map.json, or NULL */
} Files;

/* A text of the caller's, with its length; NULL: it is not there. */
static Status read_text(const Origin *o, const char *name, char **text, size_t *size)
{
    *text = NULL;
    if (o->text) {
        const char *there = o->text(o->arg, name);
        *size = there ? strlen(there) : 0;
        return there && !(*text = mem_strdup(there)) ? STATUS_FAILED : STATUS_OK;
    }
    char *path = path_join(o->folder, name);
    if (!path)
        return STATUS_FAILED;
    const Status s = file_exists(path) ? file_read(path, JSON_LIMIT, text, size) : STATUS_OK;
    mem_free(path);
    return s;
}

/* NULL in *out where the file is not there. */
static Status read_json(const Origin *o, const char *name, json_t **out)
{
    char *text;
    size_t size;
    json_error_t error;
    *out = NULL;
    TRY(read_text(o, name, &text, &size));
    Status s = STATUS_OK;
    if (text && !(*out = json_read(text, size, 0, &error)))
        s = status_refuse("%s/%s:%d:%d: not valid JSON: %s", o->folder, name, error.line, error.column,
                          error.text);
    if (s == STATUS_OK && *out && !json_is_object(*out))
        s = status_refuse("%s/%s: a JSON object is expected", o->folder, name);
    mem_free(text);
    return s;
}

static Status token_id(const Files *f, const char *text, int32_t *id)
{
    const json_t *value = json_object_get(f->vocab, text);
    if (!value)
        return status_refuse("token `%s` is not in the vocabulary", text);
    *id = (int32_t)json_integer_value(value);
    return STATUS_OK;
}

/* A JSON number as a token's id; -1: it is none. */
static int32_t id_of(const json_t *value)
{
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id <= MAX_ID ? (int32_t)id : -1;
}

/* Tokens and merges ------------------------------------------------------------------------------------ */

static Status check_ids(Vocabulary *v, const Files *f)
{
    const char *text;
    json_t *value;
    int32_t largest = -1;
    json_object_foreach(f->vocab, text, value)
    {
        const int32_t id = id_of(value);
        if (id < 0)
            return status_refuse("token `%s` has no valid id (a whole number from 0 to %lld)", text,
                                 (long long)MAX_ID);
        largest = id > largest ? id : largest;
    }
    v->size = largest + 1;
    return STATUS_OK;
}

/* The stand-in character of each byte (U+0021 to U+0143, so one or two bytes of UTF-8), alone and with
 * "</w>". */
static void find_bytes(Vocabulary *v, const Files *f)
{
    int others = 0;
    for (int b = 0; b < 256; b++) {
        const int c = byte_is_printable(b) ? b : 256 + others++;
        char text[8];
        if (c < 128)
            snprintf(text, sizeof text, "%c", c);
        else
            snprintf(text, sizeof text, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        for (int end = 0; end < 2; end++) {
            if (end)
                memcpy(text + strlen(text), "</w>", 5);
            const json_t *id = json_object_get(f->vocab, text);
            v->byte_id[end][b] = id ? (int32_t)json_integer_value(id) : v->unk;
        }
    }
}

static Status add_merge(Vocabulary *v, const Files *f, const char *left, size_t left_size, const char *right,
                        size_t right_size, int rank)
{
    if (left_size + right_size >= TOKEN_BYTES)
        return status_refuse("merge %d: longer than %d bytes", rank + 1, TOKEN_BYTES);
    char whole[TOKEN_BYTES], part[TOKEN_BYTES];
    Merge m = {.rank = rank};
    snprintf(part, sizeof part, "%.*s", (int)left_size, left);
    TRY(status_in(token_id(f, part, &m.left), "merge %d", rank + 1));
    snprintf(part, sizeof part, "%.*s", (int)right_size, right);
    TRY(status_in(token_id(f, part, &m.right), "merge %d", rank + 1));
    snprintf(whole, sizeof whole, "%.*s%.*s", (int)left_size, left, (int)right_size, right);
    TRY(status_in(token_id(f, whole, &m.merged), "merge %d", rank + 1));
    merge_table_add(&v->merges, m);
    return STATUS_OK;
}

/* "left right" of the given size. */
static Status add_merge_line(Vocabulary *v, const Files *f, const char *line, size_t size, int rank)
{
    const char *space = memchr(line, ' ', size);
    if (!space || memchr(space + 1, ' ', size - (size_t)(space + 1 - line)))
        return status_refuse("merge %d: two tokens and a space are expected, not `%.*s`", rank + 1, (int)size,
                             line);
    const size_t left = (size_t)(space - line);
    return add_merge(v, f, line, left, space + 1, size - left - 1, rank);
}

static Status read_merges_text(Vocabulary *v, const Files *f, const char *text)
{
    int lines = 0, rank = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    TRY(merge_table_new(&v->merges, lines + 1));
    for (const char *line = text; *line;) {
        const size_t length = strcspn(line, "\n");
        const size_t size = length && line[length - 1] == '\r' ? length - 1 : length;
        if (size && strncmp(line, "#version", 8) != 0)
            TRY(add_merge_line(v, f, line, size, rank++));
        line += length + (line[length] == '\n');
    }
    return STATUS_OK;
}

/* tokenizer.json: a list of "left right", or of ["left", "right"]. */
static Status read_merges_json(Vocabulary *v, const Files *f, const json_t *merges)
{
    size_t i;
    json_t *item;
    TRY(merge_table_new(&v->merges, (int)json_array_size(merges)));
    json_array_foreach(merges, i, item)
    {
        const char *left = json_string_value(json_is_array(item) ? json_array_get(item, 0) : item);
        const char *right = json_string_value(json_array_get(item, 1));
        if (!left || (json_is_array(item) && !right))
            return status_refuse("merge %zu: two tokens are expected", i + 1);
        if (right)
            TRY(add_merge(v, f, left, strlen(left), right, strlen(right), (int)i));
        else
            TRY(add_merge_line(v, f, left, strlen(left), (int)i));
    }
    return STATUS_OK;
}

static Status read_merges(Vocabulary *v, const Files *f, const Origin *o)
{
    if (f->tokenizer)
        return status_in(
            read_merges_json(v, f, json_object_get(json_object_get(f->tokenizer, "model"), "merges")),
            "%s/tokenizer.json", o->folder);
    char *text;
    size_t size;
    TRY(read_text(o, "merges.txt", &text, &size));
    const Status s = status_in(text ? read_merges_text(v, f, text) : status_refuse("there is no such file"),
                               "%s/merges.txt", o->folder);
    mem_free(text);
    return s;
}

/* Special tokens --------------------------------------------------------------------------------------- */

/* A named token is a string or {"content": …}. */
static const char *token_text(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

/* id -1: the vocabulary's, or a new one after all others. */
static Status add_special(Vocabulary *v, const Files *f, const json_t *token, int32_t id)
{
    const char *unsupported[] = {"lstrip", "rstrip", "single_word"};
    const char *text = token_text(token);
    if (!text || !*text)
        return status_refuse("a special token without text");
    for (int i = 0; i < 3; i++)
        if (json_is_true(json_object_get(token, unsupported[i])))
            return status_refuse("special token `%s`: \"%s\" is not supported", text, unsupported[i]);
    const json_t *known = json_object_get(f->vocab, text);
    if (known)
        id = (int32_t)json_integer_value(known);
    for (int i = 0; id < 0 && i < v->special_count; i++)
        if (strcmp(v->special[i].text, text) == 0)
            id = v->special[i].id;
    if (id < 0)
        id = v->size;
    if (id >= v->size)
        v->size = id + 1;
    return vocabulary_add_special(v, text, id, json_is_true(json_object_get(token, "normalized")));
}

static const char *const NAMED[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
static const char *const NAMED_DEFAULT[] = {
    "<|startoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>", NULL, NULL};
enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, NAMED_COUNT };

static json_t *named_token(const Files *f, int which, bool with_map)
{
    json_t *token = with_map ? json_object_get(f->map, NAMED[which]) : NULL;
    if (!token)
        token = json_object_get(f->config, NAMED[which]);
    return token_text(token) ? token : NULL;
}

/* tokenizer.json's list, or tokenizer_config.json's {"id": token}. *listed: texts that need no second
 * mention. */
static Status add_listed(Vocabulary *v, const Files *f, bool *decoder)
{
    const json_t *list = json_object_get(f->tokenizer, "added_tokens");
    json_t *by_id = json_object_get(f->config, "added_tokens_decoder"), *token;
    const char *key;
    size_t i;
    *decoder = by_id || list;
    json_object_foreach(by_id, key, token)
    {
        int64_t id;
        if (!text_to_int(key, &id) || id < 0 || id > MAX_ID)
            return status_refuse("added_tokens_decoder: `%s` is no id", key);
        TRY(add_special(v, f, token, (int32_t)id));
    }
    for (i = 0; !by_id && i < json_array_size(list); i++) {
        token = json_array_get(list, i);
        const int32_t id = id_of(json_object_get(token, "id"));
        if (id < 0)
            return status_refuse("added_tokens: number %zu has no valid id", i + 1);
        TRY(add_special(v, f, token, id));
    }
    return STATUS_OK;
}

static Status add_specials(Vocabulary *v, const Files *f)
{
    bool listed;
    int32_t *const ids[NAMED_COUNT] = {[BOS] = &v->bos, [EOS] = &v->eos, [UNK] = &v->unk, [PAD] = &v->pad};
    TRY(add_listed(v, f, &listed));
    const int from_list = v->special_count;
    for (int k = 0; k < NAMED_COUNT; k++) {
        json_t *token = named_token(f, k, !listed);
        const char *text = token ? token_text(token) : NAMED_DEFAULT[k];
        if (!text)
            continue;
        int at = 0;
        while (at < from_list && strcmp(v->special[at].text, text) != 0)
            at++;
        if (at == from_list) { /* the list has the last word about what it holds */
            json_t *plain = token ? json_incref(token) : json_string(text);
            const Status s = add_special(v, f, plain, -1);
            json_decref(plain);
            TRY(s);
            for (at = 0; strcmp(v->special[at].text, text) != 0;)
                at++;
        }
        if (ids[k])
            *ids[k] = v->special[at].id;
    }
    return STATUS_OK;
}

/* The whole -------------------------------------------------------------------------------------------- */

static Status open_files(const Origin *o, Files *f)
{
    TRY(read_json(o, "tokenizer_config.json", &f->config));
    TRY(read_json(o, "special_tokens_map.json", &f->map));
    TRY(read_json(o, "tokenizer.json", &f->tokenizer));
    if (f->tokenizer)
        f->vocab = json_incref(json_object_get(json_object_get(f->tokenizer, "model"), "vocab"));
    else
        TRY(read_json(o, "vocab.json", &f->vocab));
    if (!f->vocab)
        return status_refuse("%s: neither tokenizer.json nor vocab.json gives a vocabulary", o->folder);
    if (!json_is_object(f->vocab))
        return status_refuse("%s: the vocabulary is not of CLIP's kind (byte-level BPE)", o->folder);
    return STATUS_OK;
}

static Status fill(Vocabulary *v, const Files *f, const Origin *o)
{
    TRY(status_in(check_ids(v, f), "%s", o->folder));
    TRY(status_in(add_specials(v, f), "%s", o->folder));
    find_bytes(v, f);
    return read_merges(v, f, o);
}

static Status open_origin(const Origin *o, Vocabulary *out)
{
    Files f = {0};
    *out = (Vocabulary){0};
    Status s = open_files(o, &f);
    if (s == STATUS_OK)
        s = fill(out, &f, o);
    if (s != STATUS_OK)
        vocabulary_free(out);
    json_decref(f.vocab);
    json_decref(f.tokenizer);
    json_decref(f.config);
    json_decref(f.map);
    return s;
}

Status vocabulary_open(const char *folder, Vocabulary *out)
{
    return open_origin(&(Origin){.folder = folder}, out);
}

Status vocabulary_open_texts(const char *(*text)(void *arg, const char *name), void *arg, Vocabulary *out)
{
    return open_origin(&(Origin){.folder = "tokenizer", .text = text, .arg = arg}, out);
}
