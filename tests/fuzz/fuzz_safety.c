/* Texts that tell what may be drawn: a list of forbidden phrases, which is then held against itself as a
 * prompt, and a model card. */
#include "fuzz.h"

#include "infer/safety/licence.h"
#include "infer/safety/prompt_filter.h"
#include "kernels/base/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PromptFilter *f = NULL;
    char name[128], *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    const Status s = prompt_filter_parse(text, size, "list", &f);
    fuzz_check(s);
    if ((s == STATUS_OK) != (f != NULL))
        fuzz_fail("a list without a list");
    if (f)
        fuzz_check(prompt_filter_check(f, text));
    prompt_filter_free(f);
    licence_of_card(text, size, name);
    if (strlen(name) > 127 || text_invalid_utf8(name, strlen(name)) >= 0 || strpbrk(name, "\r\n\x1b"))
        fuzz_fail("a licence that cannot be shown");
    (void)licence_of_text(text);
    free(text);
    return 0;
}
