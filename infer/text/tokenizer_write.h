/* CLIP's own vocabulary as files, for models that bring none. */
#ifndef ATL_TOKENIZER_WRITE_H
#define ATL_TOKENIZER_WRITE_H

#include "kernels/base/status.h"

/* vocab.json, merges.txt and tokenizer_config.json of CLIP's own vocabulary. pad: "<|endoftext|>", SD2: "!".
 */
Status clip_tokenizer_write(const char *folder, const char *pad);

#endif
