/* Prompts as other programs' users write them: tags, schedules, weights, chunks; and strengths of adapters.
 */
#include "fuzz.h"

#include "infer/adapters/strength.h"
#include "infer/text/chunks.h"
#include "infer/text/schedule.h"
#include "infer/text/tags.h"
#include "kernels/base/mem.h"

#include <stdlib.h>
#include <string.h>

#define STEPS 20
#define LENGTH 77

static const Tokenizer *tokenizer(void)
{
    static Tokenizer *t;
    if (!t && tokenizer_builtin(&t) != STATUS_OK)
        fuzz_fail("there is no tokenizer");
    return t;
}

static void look_at_chunks(const char *text)
{
    float vector[8] = {0};
    Embedding e = {.name = "cat", .token = "<cat-toy>", .vectors = 2, .width = 4, .values = vector};
    const EmbeddingSet set = {.items = &e, .count = 1};
    for (int s = PROMPT_PLAIN; s <= PROMPT_COMFY; s++)
        for (int all = 0; all < 2; all++) {
            PromptChunks c;
            const Status status =
                prompt_chunks(tokenizer(), &set, (PromptReading){(PromptSyntax)s, all}, text, LENGTH, &c);
            fuzz_check(status);
            if (status == STATUS_OK && (c.count < 1 || (!all && c.count > 1)))
                fuzz_fail("no chunk, or more than one");
            for (int i = 0; status == STATUS_OK && i < c.count * LENGTH; i++)
                if (c.ids[i] < 0 || c.ids[i] >= tokenizer_vocab_size(tokenizer()))
                    fuzz_fail("a token that there is not");
            prompt_chunks_free(&c);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text, *words;
    size_t length;
    PromptTags tags;
    PromptSchedule schedule;
    AdapterStrength strength;
    fuzz_part(&data, &size, &text, &length);
    fuzz_check(adapter_strength_parse(text, &strength));
    const Status tagged = prompt_tags(text, &words, &tags);
    fuzz_check(tagged);
    if (tagged == STATUS_OK && strlen(words) > strlen(text))
        fuzz_fail("tags were added");
    if (tagged == STATUS_OK)
        prompt_tags_free(&tags);
    mem_free(words);
    const Status scheduled = prompt_schedule(text, STEPS, (int)(length % 3) * STEPS, &schedule);
    fuzz_check(scheduled);
    if (scheduled == STATUS_OK && (!schedule.count || schedule.items[schedule.count - 1].end != STEPS))
        fuzz_fail("a schedule that does not end with the steps");
    prompt_schedule_free(&schedule);
    look_at_chunks(text);
    free(text);
    return 0;
}
