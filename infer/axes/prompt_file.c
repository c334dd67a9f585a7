#include "prompt_file.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "kernels/base/text.h"

#include <ctype.h>
#include <string.h>

#define FILE_LIMIT ((size_t)16 << 20)

/* Other programs' names for options: sd-scripts' letters, A1111's words. */
static const struct {
    const char *theirs, *ours;
} NAMES[] = {{"n", "negative"},
             {"w", "width"},
             {"h", "height"},
             {"d", "seed"},
             {"l", "cfg"},
             {"s", "steps"},
             {"cfg_scale", "cfg"},
             {"negative_prompt", "negative"},
             {"prompt_2", "prompt-2"},
             {"negative_prompt_2", "negative-prompt-2"},
             {"batch_size", "batch"},
             {"sampler_name", "sampler"}};

static Status add_name(Axis *a, const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (strlen(NAMES[i].theirs) == length && !memcmp(NAMES[i].theirs, name, length))
            return words_add(axis_words(a), "--%s", NAMES[i].ours);
    return words_add(axis_words(a), "--%.*s", (int)length, name);
}

static bool begins_option(const char *p)
{
    return p[0] == '-' && p[1] == '-' && isalpha((unsigned char)p[2]);
}

static size_t without_blanks(const char *text, size_t length)
{
    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    return length;
}

/* " --name value up to the next option --name …" */
static Status add_options(Axis *a, const char *p)
{
    while (*p) {
        p += 2;
        const size_t length = strcspn(p, " \t=");
        TRY(add_name(a, p, length));
        p += length;
        p += strspn(p, " \t=");
        const char *value = p;
        while (*p && !(begins_option(p) && p > value && isspace((unsigned char)p[-1])))
            p++;
        const size_t value_length = p == value ? 0 : without_blanks(value, (size_t)(p - value));
        if (value_length)
            TRY(words_add(axis_words(a), "%.*s", (int)value_length, value));
    }
    return STATUS_OK;
}

/* "PROMPT --name value": the prompt ends where an option begins. */
static Status add_prompt_line(Axis *a, const char *line)
{
    const char *options = line;
    while (*options && !(begins_option(options) && isspace((unsigned char)options[-1])))
        options++;
    const size_t length = without_blanks(line, (size_t)(options - line));
    char *prompt = mem_printf("%.*s", (int)length, line);
    if (!prompt)
        return STATUS_FAILED;
    Status s = axis_add(a, prompt, NULL);
    if (s == STATUS_OK)
        s = words_add(axis_words(a), "--prompt");
    if (s == STATUS_OK)
        s = words_add(axis_words(a), "%s", prompt);
    mem_free(prompt);
    return s == STATUS_OK ? add_options(a, options) : s;
}

/* One word as a shell reads it, into word (as long as the line); returns what comes after it. NULL: a quote
 * stays open. */
static const char *shell_word(const char *p, char *word)
{
    char quote = 0;
    for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
        if (quote ? *p == quote : *p == '"' || *p == '\'') {
            quote = quote ? 0 : *p;
            continue;
        }
        if (*p == '\\' && quote != '\'' && p[1])
            p++;
        *word++ = *p;
    }
    *word = 0;
    return quote ? NULL : p;
}

static Status add_shell_line(Axis *a, const char *line)
{
    char *word = mem_alloc(strlen(line) + 1);
    Status s = word ? axis_add(a, line, NULL) : STATUS_FAILED;
    while (s == STATUS_OK && *line) {
        line = shell_word(line, word);
        if (!line)
            s = status_refuse("a quote is not closed");
        else if (begins_option(word) && !strchr(word, '='))
            s = add_name(a, word + 2, strlen(word + 2));
        else
            s = words_add(axis_words(a), "%s", word);
        while (line && isspace((unsigned char)*line))
            line++;
    }
    mem_free(word);
    return s;
}

static Status add_line(Axis *a, const char *line)
{
    if (!*line || *line == '#')
        return STATUS_OK;
    return begins_option(line) ? add_shell_line(a, line) : add_prompt_line(a, line);
}

static Status read_lines(Axis *a, char *text, const char *path)
{
    int number = 1;
    for (char *p = text; *p; number++) {
        const size_t length = strcspn(p, "\n");
        char *next = p + length + (p[length] != 0);
        p[length] = 0;
        p[without_blanks(p, length)] = 0;
        TRY(status_in(add_line(a, p + strspn(p, " \t")), "%s:%d", path, number));
        p = next;
    }
    return a->count ? STATUS_OK : status_refuse("%s: holds no prompt", path);
}

Status prompt_file_read(const char *path, Axis *out)
{
    char *text;
    size_t size;
    *out = (Axis){.key = mem_strdup("prompt")};
    if (!out->key)
        return STATUS_FAILED;
    TRY(stream_read(strcmp(path, "-") ? path : "/dev/stdin", FILE_LIMIT, &text, &size));
    Status s = STATUS_OK;
    const int64_t bad = text_invalid_utf8(text, size);
    if (bad >= 0)
        s = status_refuse("%s: is no text in UTF-8 (byte %lld)", path, (long long)bad);
    else if (memchr(text, 0, size))
        s = status_refuse("%s: is no text (it holds zero bytes)", path);
    if (s == STATUS_OK)
        s = read_lines(out, text + (strncmp(text, "\xEF\xBB\xBF", 3) ? 0 : 3), path);
    mem_free(text);
    return s;
}
