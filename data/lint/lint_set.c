/* Pictures and captions of a set against each other (lint_set.h): of each finding how many, and the first
 * names. */
#include "lint_set.h"

#include "data/dataset/caption_styles.h"
#include "kernels/base/mem.h"
#include "words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_KEPT 5
#define CAPTION_SHOWN 60
#define FEWEST_CAPTIONS 4 /* of which one can name nothing that the others name */
#define ODD_SHARE 5       /* at most one in five: else they have little in common anyway */

typedef struct Known {
    uint8_t sha256[SHA256_SIZE];
    const char *name; /* NULL: could not be read */
} Known;

typedef struct BucketCount {
    Size size;
    int pictures;
} BucketCount;

typedef struct Named {
    ScanList first;
    int count;
    bool failed; /* no memory */
} Named;

struct LintSet {
    const Lint *l;
    LintPictures pictures;
    Known *known;
    AlikePicture *looks;
    Remarks remarks;
    BucketCount *buckets;
    int bucket_count, bucket_room;
    Named unmasked, black; /* pictures without a mask, and with one that is black */
    int masked;
};

void lint_tell(const Lint *l, LintKind kind, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    l->report(kind, text, l->arg);
}

/* Names and how many ------------------------------------------------------------------------------------- */

static void name_one(Named *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void name_one(Named *n, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n->count++ < NAMES_KEPT && scan_list_add(&n->first, "%s", text) != STATUS_OK)
        n->failed = true;
}

/* "3 captions are …: a.jpg, b.jpg"; what: "caption is …|captions are …". Frees n. */
static Status tell_named(const Lint *l, LintKind kind, Named *n, const char *one, const char *many)
{
    char names[2048], more[32] = "";
    if (n->count > NAMES_KEPT)
        snprintf(more, sizeof more, " and %d more", n->count - NAMES_KEPT);
    if (n->count)
        lint_tell(l, kind, "%d %s: %s%s", n->count, n->count == 1 ? one : many,
                  scan_list_names(&n->first, names, sizeof names), more);
    scan_list_free(&n->first);
    return n->failed ? STATUS_FAILED : STATUS_OK;
}

/* Looking ------------------------------------------------------------------------------------------------ */

Status lint_set_new(const Lint *l, const LintPictures *pictures, LintSet **out)
{
    LintSet *s = *out = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->l = l;
    s->pictures = *pictures;
    s->known = mem_calloc((size_t)pictures->count, sizeof *s->known);
    s->looks = mem_calloc((size_t)pictures->count, sizeof *s->looks);
    for (int i = 0; i < pictures->count && s->looks; i++)
        s->looks[i].number = i;
    return s->known && s->looks ? STATUS_OK : STATUS_FAILED;
}

void lint_set_free(LintSet *s)
{
    if (!s)
        return;
    remarks_free(&s->remarks);
    scan_list_free(&s->unmasked.first);
    scan_list_free(&s->black.first);
    mem_free(s->buckets);
    mem_free(s->known);
    mem_free(s->looks);
    mem_free(s);
}

void lint_set_hash(LintSet *s, int i, const uint8_t sha256[SHA256_SIZE])
{
    memcpy(s->known[i].sha256, sha256, SHA256_SIZE);
    s->known[i].name = s->pictures.name(s->pictures.set, i);
}

static Status count_bucket(LintSet *s, Size size)
{
    int k = 0;
    while (k < s->bucket_count && !size_equal(s->buckets[k].size, size))
        k++;
    if (k == s->bucket_count) {
        if (!mem_grow(&s->buckets, s->bucket_count, &s->bucket_room, sizeof *s->buckets))
            return STATUS_FAILED;
        s->buckets[s->bucket_count++] = (BucketCount){.size = size};
    }
    s->buckets[k].pictures++;
    return STATUS_OK;
}

Status lint_set_look(LintSet *s, int i, const PictureFacts *facts, const Picture *small)
{
    s->looks[i].look = alike_look(small);
    const char *name = s->pictures.name(s->pictures.set, i);
    BucketFit fit;
    if (!s->l->framer)
        return remarks_add(&s->remarks, name, facts->odd, facts->size, NULL);
    if (framer_fit(s->l->framer, facts->size, &fit) != STATUS_OK) {
        lint_tell(s->l, LINT_ERROR, "%s: %s", name, status_message());
        return remarks_add(&s->remarks, name, facts->odd, facts->size, NULL);
    }
    TRY(count_bucket(s, fit.bucket));
    return remarks_add(&s->remarks, name, facts->odd, facts->size, &fit);
}

Status lint_set_mask(LintSet *s, int i, LintMask mask)
{
    const char *name = s->pictures.name(s->pictures.set, i);
    s->masked += mask != LINT_NO_MASK;
    if (mask != LINT_GOOD_MASK)
        name_one(mask == LINT_NO_MASK ? &s->unmasked : &s->black, "%s", name);
    return s->unmasked.failed || s->black.failed ? STATUS_FAILED : STATUS_OK;
}

/* Pictures ----------------------------------------------------------------------------------------------- */

static int by_hash(const void *a, const void *b)
{
    const Known *p = a, *q = b;
    const int order = memcmp(p->sha256, q->sha256, SHA256_SIZE);
    return order ? order : strcmp(p->name ? p->name : "", q->name ? q->name : "");
}

typedef struct Pairs {
    const LintSet *set;
    Named alike;
} Pairs;

static void note_pair(int a, int b, void *arg)
{
    Pairs *p = arg;
    const Known *x = &p->set->known[a], *y = &p->set->known[b];
    if (memcmp(x->sha256, y->sha256, SHA256_SIZE) != 0) /* the same file is told of in other words */
        name_one(&p->alike, "%s and %s", x->name, y->name);
}

static Status tell_alike(LintSet *s)
{
    Pairs pairs = {.set = s};
    alike_pairs(s->looks, s->pictures.count, note_pair, &pairs);
    return tell_named(s->l, LINT_NOTE, &pairs.alike, "pair of pictures looks nearly the same",
                      "pairs of pictures look nearly the same");
}

/* Puts them in another order: the last that is told of the hashes. */
static void tell_equal(LintSet *s)
{
    Known *known = s->known;
    const int count = s->pictures.count;
    if (count)
        qsort(known, (size_t)count, sizeof *known, by_hash);
    for (int i = 1; i < count; i++)
        if (known[i].name && known[i - 1].name &&
            memcmp(known[i].sha256, known[i - 1].sha256, SHA256_SIZE) == 0)
            lint_tell(s->l, LINT_NOTE, "%s is the same file as %s", known[i].name, known[i - 1].name);
}

static void tell_remarks(const LintSet *s)
{
    char text[2048];
    for (int k = 0; k < REMARK_LISTS; k++)
        if (!(k == REMARK_ENLARGED && s->l->any_size) &&
            remark_text(&s->remarks, (RemarkKind)k, text, sizeof text))
            lint_tell(s->l, k == REMARK_CUT || k == REMARK_TRIMMED ? LINT_LOSS : LINT_NOTE, "%s", text);
}

/* Where most have masks, a picture without one is hardly meant to count whole. */
static Status tell_masks(LintSet *s)
{
    if (s->masked < s->unmasked.count)
        s->unmasked.count = 0;
    TRY(tell_named(s->l, LINT_LOSS, &s->black, "mask is black: nothing of its picture counts",
                   "masks are black: nothing of their pictures counts"));
    return tell_named(s->l, LINT_NOTE, &s->unmasked,
                      "picture has no mask where others have one, and counts whole",
                      "pictures have no mask where others have one, and count whole");
}

/* Captions ----------------------------------------------------------------------------------------------- */

/* Of the longest of several captions. */
static Status count_tokens(const Lint *l, const char *captions, int *most)
{
    size_t length;
    const char *part;
    for (int k = 0; (part = caption_part(captions, k, &length)) != NULL; k++) {
        int tokens = 0;
        char *one = mem_printf("%.*s", (int)length, part);
        const Status s = one ? l->tokens(one, &tokens, l->arg) : STATUS_FAILED;
        mem_free(one);
        TRY(s);
        *most = tokens > *most ? tokens : *most;
    }
    return STATUS_OK;
}

static Status tell_long(const LintSet *s)
{
    const LintPictures *p = &s->pictures;
    Named cut = {0};
    char one[128], many[128];
    for (int i = 0; i < p->count && s->l->tokens; i++) {
        const char *caption = p->caption(p->set, i);
        int tokens = 0;
        if (!caption || strlen(caption) <= (size_t)s->l->tokens_seen) /* a token has a byte or more */
            continue;
        if (count_tokens(s->l, caption, &tokens) != STATUS_OK) {
            scan_list_free(&cut.first);
            return status_in(STATUS_FAILED, "caption of %s", p->name(p->set, i));
        }
        if (tokens > s->l->tokens_seen)
            name_one(&cut, "%s (%d)", p->name(p->set, i), tokens);
    }
    snprintf(one, sizeof one, "caption is longer than the %d tokens that a text encoder sees",
             s->l->tokens_seen);
    snprintf(many, sizeof many, "captions are longer than the %d tokens that a text encoder sees",
             s->l->tokens_seen);
    return tell_named(s->l, LINT_LOSS, &cut, one, many);
}

/* Its length, or that of as much as is shown. */
static int first_line(const char *caption)
{
    const size_t n = strcspn(caption, "\n");
    return n < CAPTION_SHOWN ? (int)n : CAPTION_SHOWN;
}

/* Where captions have words in common, one without is mostly a mistake: a subject that is not named. */
static Status tell_alone(const LintSet *s)
{
    const LintPictures *p = &s->pictures;
    bool *alone = mem_calloc((size_t)p->count + 1, sizeof *alone);
    Named named = {0};
    if (!alone)
        return STATUS_FAILED;
    Status status = words_alone(p->caption, p->set, p->count, alone);
    for (int i = 0; i < p->count && status == STATUS_OK; i++)
        if (alone[i])
            name_one(&named, "%s (\"%.*s\")", p->name(p->set, i), first_line(p->caption(p->set, i)),
                     p->caption(p->set, i));
    mem_free(alone);
    if (p->count < FEWEST_CAPTIONS || named.count * ODD_SHARE > p->count)
        named.count = 0;
    const Status told = tell_named(s->l, LINT_NOTE, &named, "caption has no word that another one has",
                                   "captions have no word that another one has");
    return status == STATUS_OK ? told : status;
}

/* A step has pictures of one size: it is filled with the same ones again where there are fewer. */
static Status tell_few(const LintSet *s)
{
    Named named = {0};
    for (int i = 0; i < s->bucket_count; i++) {
        const BucketCount *b = &s->buckets[i];
        if (b->pictures < s->l->batch)
            name_one(&named, "%dx%d (%d picture%s)", b->size.width, b->size.height, b->pictures,
                     b->pictures == 1 ? "" : "s");
    }
    return tell_named(s->l, LINT_NOTE, &named,
                      "bucket has fewer pictures than a step, which shows them more than once",
                      "buckets have fewer pictures than a step, which shows them more than once");
}

Status lint_set_tell(LintSet *s)
{
    TRY(tell_alike(s));
    tell_equal(s);
    tell_remarks(s);
    TRY(tell_few(s));
    TRY(tell_masks(s));
    TRY(tell_long(s));
    return tell_alone(s);
}
