/* A tokenizer's files, parted by lines "----": vocab.json, merges.txt, tokenizer_config.json,
 * special_tokens_map.json, tokenizer.json, and a text to encode. Empty: not there. */
#include "fuzz.h"

#include "infer/text/tokenizer.h"
#include "kernels/base/mem.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const NAMES[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "special_tokens_map.json", "tokenizer.json"};
    char *text = NULL;
    size_t length;
    for (int i = 0; i < 5; i++) {
        const bool there = fuzz_part(&data, &size, &text, &length);
        fuzz_put(NAMES[i], there ? text : NULL, there ? length : 0);
        if (there)
            free(text);
    }
    const bool given = fuzz_part(&data, &size, &text, &length);
    Tokenizer *t;
    const Status s = tokenizer_open(fuzz_folder(), &t);
    fuzz_check(s);
    if (s == STATUS_OK) {
        int32_t *ids = NULL, padded[16];
        int count = 0;
        const Status encoded =
            tokenizer_encode(t, given ? text : "a photo of a cat<|endoftext|>", &ids, &count);
        fuzz_check(encoded);
        for (int i = 0; i < count && encoded == STATUS_OK; i++)
            if (ids[i] < 0 || ids[i] >= tokenizer_vocab_size(t))
                fuzz_fail("a token outside the vocabulary");
        mem_free(ids);
        tokenizer_encode_padded(t, "a b c", 16, padded, NULL);
        tokenizer_free(t);
    }
    if (given)
        free(text);
    return 0;
}
