/* What A1111, ComfyUI and others read into prompts (foreign_syntax.h): weights, "(red:1.5)"; words that
 * change with the step, "[cat:dog:0.5]"; the end of a chunk, BREAK; networks, "<lora:cat:0.8>". */
#include "foreign_syntax.h"

#include "kernels/base/log.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_number(const char *text, const char *end)
{
    char word[32];
    double value;
    while (*text == ' ')
        text++;
    const int n = snprintf(word, sizeof word, "%.*s", (int)(end - text), text);
    return n > 0 && n < (int)sizeof word && text_to_float(word, &value);
}

/* Length of "(…:1.5)" or "[…:0.5]" that begins at p; 0: it is none. */
static size_t weighted(const char *p)
{
    const char *end = strpbrk(p + 1, *p == '(' ? "()" : "[]"), *colon = NULL;
    if (!end || *end != (*p == '(' ? ')' : ']'))
        return 0;
    for (const char *q = p + 1; q < end; q++)
        colon = *q == ':' ? q : colon;
    return colon && is_number(colon + 1, end) ? (size_t)(end + 1 - p) : 0;
}

static size_t network(const char *p)
{
    static const char *const KINDS[] = {"<lora:", "<lyco:", "<hypernet:"};
    const char *end = strchr(p, '>');
    for (int i = 0; i < 3 && end; i++)
        if (strncmp(p, KINDS[i], strlen(KINDS[i])) == 0)
            return (size_t)(end + 1 - p);
    return 0;
}

static size_t chunk_end(const char *text, const char *p)
{
    const bool whole = strncmp(p, "BREAK", 5) == 0 && (p == text || !isalnum((unsigned char)p[-1])) &&
                       !isalnum((unsigned char)p[5]);
    return whole ? 5 : 0;
}

/* The first of a text that other programs take for more than words, in out: "(red:1.5)", "BREAK",
 * "<lora:cat:0.8>",
 * "[a:b:0.5]". Returns out, or NULL where there is nothing. */
static const char *find(const char *text, char *out, int size)
{
    for (const char *p = text; (p = strpbrk(p, "([<B")); p++) {
        const size_t n = *p == '<' ? network(p) : *p == 'B' ? chunk_end(text, p) : weighted(p);
        if (n) {
            snprintf(out, (size_t)size, "%.*s", (int)n, p);
            return out;
        }
    }
    return NULL;
}

void foreign_syntax_tell(const char *const *texts, int count)
{
    char found[96];
    for (int i = 0; i < count; i++)
        if (texts[i] && find(texts[i], found, sizeof found)) {
            log_warn("prompts are plain text: \"%s\" is read as the words that stand there, not as weights, "
                     "parts or "
                     "LoRAs (%s)",
                     found,
                     found[0] == '<'
                         ? "a LoRA is given with --lora FILE:SCALE, or with --lora-dir as the prompt names it"
                         : "atelier sample reads them with --prompt-syntax a1111");
            return;
        }
}
