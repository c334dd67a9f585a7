/* From text to ids, in the steps that transformers' CLIPTokenizer takes:
 *
 *   1. special tokens are taken out, exactly as written;
 *   2. what lies between is normalised: NFC, runs of white space to one space, each character to lower case
 * by itself (so a capital sigma at a word's end becomes σ, and İ becomes i and U+0307);
 *   3. special tokens that are marked "normalized" are taken out of that;
 *   4. what lies between is split into pieces:
 *      <|startoftext|> | <|endoftext|> | 's | 't | 're | 've | 'm | 'll | 'd | letters | one number | other
 *   5. each piece's bytes are merged (bpe.c).
 *
 * The byte level's own split, which comes after 4, only takes <|startoftext|> and <|endoftext|> apart again
 * (they can arrive there as <|STARTOFTEXT|>): so they are cut here into "<|", "startoftext", "|>", which
 * differs from the ordinary split where other signs follow. Letters and numbers are Unicode's categories L
 * and N, by utf8proc. */
#include "tokenizer.h"

#include "kernels/base/mem.h"
#include "kernels/base/text.h"
#include "bpe.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct Tokenizer {
    Vocabulary v;
};

#define TEXT_LIMIT ((size_t)16 << 20) /* bytes; ids are counted in int */

/* Characters ------------------------------------------------------------------------------------------- */

typedef enum CharClass { CLASS_SPACE, CLASS_LETTER, CLASS_NUMBER, CLASS_OTHER } CharClass;

/* Unicode's White_Space. */
static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

static CharClass classify(int32_t c)
{
    if (is_space(c))
        return CLASS_SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_NUMBER;
    default:
        return CLASS_OTHER;
    }
}

/* The character at p (valid UTF-8); *length: its bytes. */
static int32_t character(const char *p, const char *end, size_t *length)
{
    utf8proc_int32_t c;
    *length = (size_t)utf8proc_iterate((const uint8_t *)p, end - p, &c);
    return c;
}

/* Normalising ------------------------------------------------------------------------------------------ */

/* White space to one space, and lower case; out has room for two bytes for each of text's: no character's
 * lower case takes more than that (Ⱥ takes 3 for 2, İ 3 for 2). Returns the end of what was written. */
static char *squeeze_and_lower(const char *text, const char *end, char *out)
{
    bool space = false;
    while (text < end) {
        size_t length;
        const int32_t c = character(text, end, &length);
        text += length;
        if (is_space(c)) {
            if (!space)
                *out++ = ' ';
            space = true;
            continue;
        }
        space = false;
        if (c == 0x130) { /* the only one whose lower case is two characters */
            memcpy(out, "i\xcc\x87", 3);
            out += 3;
        } else {
            out += utf8proc_encode_char(utf8proc_tolower(c), (uint8_t *)out);
        }
    }
    return out;
}

/* *out: mem_free; not 0-terminated. */
static Status normalise(const char *text, size_t size, char **out, size_t *out_size)
{
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t length = utf8proc_map((const uint8_t *)text, (utf8proc_ssize_t)size, &composed,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0)
        return status_fail("normalising text: %s", utf8proc_errmsg(length));
    *out = mem_alloc(2 * (size_t)length + 1);
    if (*out)
        *out_size = (size_t)(squeeze_and_lower((char *)composed, (char *)composed + length, *out) - *out);
    free(composed); /* utf8proc's own malloc */
    return *out ? STATUS_OK : STATUS_FAILED;
}

/* Splitting -------------------------------------------------------------------------------------------- */

/* Bytes of the longest of words that stands at p, or 0. */
static size_t starts_with_any(const char *p, const char *end, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(words[i]);
        if (length <= (size_t)(end - p) && memcmp(p, words[i], length) == 0)
            return length;
    }
    return 0;
}

/* Bytes of the run of `class` at p. */
static size_t run_length(const char *p, const char *end, CharClass class)
{
    const char *start = p;
    size_t length;
    while (p < end && classify(character(p, end, &length)) == class)
        p += length;
    return (size_t)(p - start);
}

static Status encode_piece(const Vocabulary *v, const char *p, size_t size, IdList *out)
{
    return bpe_encode(v, (const uint8_t *)p, size, out);
}

/* Step 4 on normalised text without special tokens. */
static Status encode_plain(const Vocabulary *v, const char *p, size_t size, IdList *out)
{
    static const char *const CONTRACTIONS[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    static const char *const MARKS[] = {"<|startoftext|>", "<|endoftext|>"};
    const char *end = p + size;
    while (p < end) {
        size_t length = starts_with_any(p, end, MARKS, 2);
        if (length) {
            TRY(encode_piece(v, p, 2, out));
            TRY(encode_piece(v, p + 2, length - 4, out));
            TRY(encode_piece(v, p + length - 2, 2, out));
            p += length;
            continue;
        }
        length = starts_with_any(p, end, CONTRACTIONS, 7);
        if (!length) {
            size_t first;
            const CharClass class = classify(character(p, end, &first));
            if (class == CLASS_SPACE) {
                p += first;
                continue;
            }
            length = class == CLASS_NUMBER ? first : run_length(p, end, class);
        }
        TRY(encode_piece(v, p, length, out));
        p += length;
    }
    return STATUS_OK;
}

/* The longest special token of this kind that stands at p. */
static const SpecialToken *special_at(const Vocabulary *v, const char *p, const char *end, bool normalized)
{
    const SpecialToken *best = NULL;
    for (int i = 0; i < v->special_count; i++) {
        const SpecialToken *t = &v->special[i];
        if (t->normalized == normalized && t->length && t->length <= (size_t)(end - p) && *p == t->text[0] &&
            memcmp(p, t->text, t->length) == 0 && (!best || t->length > best->length))
            best = t;
    }
    return best;
}

static Status encode_between(const Vocabulary *v, const char *p, size_t size, bool normalized, IdList *out);

/* Takes special tokens of one kind out of text, and hands what lies between to the next step. */
static Status encode_text(const Vocabulary *v, const char *p, size_t size, bool normalized, IdList *out)
{
    const char *end = p + size, *start = p;
    while (p < end) {
        const SpecialToken *t = special_at(v, p, end, normalized);
        if (!t) {
            p++;
            continue;
        }
        TRY(encode_between(v, start, (size_t)(p - start), normalized, out));
        TRY(idlist_add(out, t->id));
        start = p += t->length;
    }
    return encode_between(v, start, (size_t)(end - start), normalized, out);
}

static Status encode_between(const Vocabulary *v, const char *p, size_t size, bool normalized, IdList *out)
{
    if (!size)
        return STATUS_OK;
    if (normalized)
        return encode_plain(v, p, size, out);
    char *text;
    size_t length;
    TRY(normalise(p, size, &text, &length));
    const Status s = encode_text(v, text, length, true, out);
    mem_free(text);
    return s;
}

/* The tokenizer ---------------------------------------------------------------------------------------- */

/* Special tokens that are looked for in normalised text are normalised themselves. */
static Status normalise_specials(Vocabulary *v)
{
    for (int i = 0; i < v->special_count; i++) {
        SpecialToken *t = &v->special[i];
        if (!t->normalized)
            continue;
        char *text;
        size_t size;
        TRY(normalise(t->text, t->length, &text, &size));
        mem_free(t->text);
        text[size] = 0;
        t->text = text;
        t->length = size;
    }
    return STATUS_OK;
}

Status tokenizer_builtin(Tokenizer **out)
{
    *out = NULL;
    Tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    const Status s = vocabulary_builtin(&t->v);
    if (s != STATUS_OK)
        mem_free(t);
    else
        *out = t;
    return s;
}

static Status open_from(const char *folder, TokenizerText *text, void *arg, Tokenizer **out)
{
    *out = NULL;
    Tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return STATUS_FAILED;
    Status s = folder ? vocabulary_open(folder, &t->v) : vocabulary_open_texts(text, arg, &t->v);
    if (s == STATUS_OK)
        s = normalise_specials(&t->v);
    if (s != STATUS_OK)
        tokenizer_free(t);
    else
        *out = t;
    return s;
}

Status tokenizer_open(const char *folder, Tokenizer **out)
{
    return open_from(folder, NULL, NULL, out);
}

Status tokenizer_open_texts(TokenizerText *text, void *arg, Tokenizer **out)
{
    return open_from(NULL, text, arg, out);
}

void tokenizer_free(Tokenizer *t)
{
    if (!t)
        return;
    vocabulary_free(&t->v);
    mem_free(t);
}

int tokenizer_vocab_size(const Tokenizer *t)
{
    return t->v.size;
}

Status tokenizer_set_pad(Tokenizer *t, const char *token, int32_t id)
{
    t->v.pad = id;
    return vocabulary_add_special(&t->v, token, id, false);
}

Status tokenizer_encode(const Tokenizer *t, const char *text, int32_t **ids, int *count)
{
    *ids = NULL;
    *count = 0;
    const size_t size = strlen(text);
    const int64_t bad = text_invalid_utf8(text, size);
    if (bad >= 0)
        return status_refuse("text is not valid UTF-8: byte 0x%02x at offset %lld", (unsigned char)text[bad],
                             (long long)bad);
    if (size > TEXT_LIMIT)
        return status_refuse("text of %zu bytes is too long (limit %zu)", size, TEXT_LIMIT);
    IdList list = {0};
    const Status s = encode_text(&t->v, text, size, false, &list);
    if (s != STATUS_OK) {
        mem_free(list.items);
        return s;
    }
    *ids = list.items;
    *count = list.count;
    return STATUS_OK;
}

Status tokenizer_encode_padded(const Tokenizer *t, const char *text, int length, int32_t *out, int *used)
{
    int32_t *ids;
    int count;
    TRY(tokenizer_encode(t, text, &ids, &count));
    if (used)
        *used = count;
    const int kept = count < length - 2 ? count : length - 2;
    out[0] = t->v.bos;
    if (kept > 0)
        memcpy(out + 1, ids, (size_t)kept * sizeof *out);
    out[kept + 1] = t->v.eos;
    for (int i = kept + 2; i < length; i++)
        out[i] = t->v.pad;
    mem_free(ids);
    return STATUS_OK;
}

Status tokenizer_hash(const Tokenizer *t, Sha256 *s)
{
    static const char probe[] =
        "A photo of 2 astronauts, riding (wet) horses' backs; naïve café, 猫 & 🐈 <no> #1 don't";
    int32_t ids[128];
    TRY(tokenizer_encode_padded(t, probe, sizeof ids / sizeof *ids, ids, NULL));
    sha256_update(s, &t->v.size, sizeof t->v.size);
    sha256_update(s, ids, sizeof ids);
    for (int i = 0; i < t->v.special_count; i++) {
        const SpecialToken *token = &t->v.special[i];
        if (token->id == t->v.bos || token->id == t->v.eos || token->id == t->v.pad || token->id == t->v.unk)
            continue;
        sha256_update(s, token->text, token->length + 1);
        sha256_update(s, &token->id, sizeof token->id);
        sha256_update(s, &token->normalized, sizeof token->normalized);
    }
    return STATUS_OK;
}
