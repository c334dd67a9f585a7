/* Texts that come with pictures: caption files, metadata.jsonl, names of files and folders; and a caption or
 * prompt made into tokens. */
#include "fuzz.h"

#include "data/dataset/captions.h"
#include "data/dataset/folders.h"
#include "infer/text/tokenizer.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <stdlib.h>
#include <string.h>

static Tokenizer *tokenizer;

__attribute__((destructor)) static void free_tokenizer(void)
{
    tokenizer_free(tokenizer);
}

static void tokens_of(const char *text)
{
    int32_t *ids = NULL, padded[77];
    int count = 0, used = 0;
    if (!tokenizer && tokenizer_builtin(&tokenizer) != STATUS_OK)
        fuzz_fail(status_message());
    const Status s = tokenizer_encode(tokenizer, text, &ids, &count);
    fuzz_check(s);
    if (s != STATUS_OK)
        return;
    for (int i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= tokenizer_vocab_size(tokenizer))
            fuzz_fail("a token outside the vocabulary");
    fuzz_check(tokenizer_encode_padded(tokenizer, text, 77, padded, &used));
    if (used != count)
        fuzz_fail("two numbers of tokens for one text");
    mem_free(ids);
}

static void clean(const char *text, size_t size)
{
    char *caption, *twice;
    const Status s = caption_clean(text, size, &caption);
    fuzz_check(s);
    if (s != STATUS_OK || !caption)
        return;
    const size_t length = strlen(caption);
    if (text_invalid_utf8(caption, length) >= 0 || length > size || strpbrk(caption, "\r\t") ||
        strchr("\n ", caption[0]) || strchr("\n ", caption[length - 1]))
        fuzz_fail("a caption that is not clean");
    if (caption_clean(caption, length, &twice) != STATUS_OK || strcmp(caption, twice ? twice : "") != 0)
        fuzz_fail("a clean caption changes when cleaned again");
    mem_free(twice);
    mem_free(caption);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    MetadataFile m;
    char *text = malloc(size + 1);
    int repeats;
    const char *caption;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    clean(text, size);
    fuzz_check(metadata_read(fuzz_file(data, size), &m));
    metadata_free(&m);
    char *shown = text_escape(text);
    if (!shown || text_invalid_utf8(shown, strlen(shown)) >= 0 || strpbrk(shown, "\r\n\x1b"))
        fuzz_fail("a name that cannot be shown");
    mem_free(shown);
    if (folder_name_read(text, &repeats, &caption) && (repeats < 1 || !caption[0]))
        fuzz_fail("a folder's name without repeats or caption");
    tokens_of(text);
    free(text);
    return 0;
}
