/* CLIP's tokenizer: byte-level BPE with "</w>" (Sennrich 2016; Radford 2021), exact against transformers. */
#ifndef ATL_TOKENIZER_H
#define ATL_TOKENIZER_H

#include "kernels/base/sha256.h"
#include "kernels/base/status.h"

#include <stdint.h>

typedef struct Tokenizer Tokenizer;

Status tokenizer_builtin(Tokenizer **out); /* CLIP's own 49,408 entries */
Status tokenizer_open(const char *folder,
                      Tokenizer **out); /* vocab.json, merges.txt, tokenizer_config.json */
/* The same from texts: the file of that name in such a folder, or NULL. */
typedef const char *TokenizerText(void *arg, const char *name);
Status tokenizer_open_texts(TokenizerText *text, void *arg, Tokenizer **out);
void tokenizer_free(Tokenizer *t);
int tokenizer_vocab_size(const Tokenizer *t);
/* Pads with `token`, whose id it is, and makes it special as transformers does with a pad token: SD2's is
 * "!", 0. */
Status tokenizer_set_pad(Tokenizer *t, const char *token, int32_t id);

/* text (UTF-8, 0-terminated) to ids without BOS and EOS. *ids: caller's, mem_free. Invalid UTF-8 is an error
 * that names the byte. */
Status tokenizer_encode(const Tokenizer *t, const char *text, int32_t **ids, int *count);
/* BOS + ids cut to length-2 + EOS + padding, into out[length]. *used (may be NULL): tokens before cutting. */
Status tokenizer_encode_padded(const Tokenizer *t, const char *text, int length, int32_t *out, int *used);

/* Adds to a hash what a tokenizer is known by: what it makes of a text with something of everything, and the
 * tokens that were added to its vocabulary. */
Status tokenizer_hash(const Tokenizer *t, Sha256 *s);

#endif
