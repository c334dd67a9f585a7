/* What lint says of a set of pictures as a whole, once it has looked at each. */
#ifndef ATL_LINT_SET_H
#define ATL_LINT_SET_H

#include "data/dataset/remarks.h"
#include "kernels/base/sha256.h"
#include "alike.h"
#include "lint.h"

/* The pictures of a folder or of a dataset. */
typedef struct LintPictures {
    const void *set;
    int count;
    const char *(*name)(const void *set, int i);
    const char *(*caption)(const void *set, int i); /* NULL: none */
} LintPictures;

typedef struct LintSet LintSet;

Status lint_set_new(const Lint *l, const LintPictures *pictures, LintSet **out);
void lint_set_free(LintSet *s); /* NULL allowed */
/* Picture i could be read: its bytes' hash. */
void lint_set_hash(LintSet *s, int i, const uint8_t sha256[SHA256_SIZE]);
/* And decoded. small: of ALIKE_SIZE. */
Status lint_set_look(LintSet *s, int i, const PictureFacts *facts, const Picture *small);
/* And its mask looked at. */
typedef enum LintMask { LINT_NO_MASK, LINT_GOOD_MASK, LINT_BLACK_MASK } LintMask;
Status lint_set_mask(LintSet *s, int i, LintMask mask);
Status lint_set_tell(LintSet *s);

void lint_tell(const Lint *l, LintKind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
