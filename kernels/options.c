/* Reading a command line by its table, and printing the table as help (options.h). */
#include "options.h"

#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HELP_WIDTH 79
#define HELP_COLUMN 26 /* where an option's description begins */
#define MAX_OPTIONS 128

/* Reading ---------------------------------------------------------------------------------------------- */

static const Option *find_option(const Command *c, const char *name, size_t length)
{
    for (int i = 0; i < c->option_count; i++) {
        const Option *o = &c->options[i];
        if (o->kind != OPTION_HEADING && strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    }
    return NULL;
}

static Status refuse_unknown(const Command *c, const char *name, size_t length)
{
    const char *names[MAX_OPTIONS] = {"help"};
    int count = 1;
    for (int i = 0; i < c->option_count && count < MAX_OPTIONS; i++)
        if (c->options[i].kind != OPTION_HEADING)
            names[count++] = c->options[i].name;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)(length < 63 ? length : 63), name);
    const char *nearest = text_nearest(word, names, count);
    if (nearest)
        return status_refuse("%s: unknown option --%s; did you mean --%s?", c->name, word, nearest);
    return status_refuse("%s: unknown option --%s; see `atelier %s --help`", c->name, word, c->name);
}

static Status check_range(const Command *c, const Option *o, double value, const char *text)
{
    if ((o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max))
        return STATUS_OK;
    return status_refuse("%s: --%s %s is out of range (%.15g to %.15g)", c->name, o->name, text, o->min,
                         o->max);
}

static Status read_whole(const Command *c, const Option *o, const char *text)
{
    int64_t value;
    if (o->kind == OPTION_UINT64) {
        if (!text_to_uint(text, o->out))
            return status_refuse("%s: --%s %s: a whole number of 0 or more is expected", c->name, o->name,
                                 text);
        return STATUS_OK;
    }
    if (!text_to_int(text, &value) || (o->kind == OPTION_INT && value != (int)value))
        return status_refuse("%s: --%s %s: a whole number is expected", c->name, o->name, text);
    TRY(check_range(c, o, (double)value, text));
    if (o->kind == OPTION_INT)
        *(int *)o->out = (int)value;
    else
        *(int64_t *)o->out = value;
    return STATUS_OK;
}

static Status read_float(const Command *c, const Option *o, const char *text)
{
    double value;
    if (!text_to_float(text, &value))
        return status_refuse("%s: --%s %s: a number is expected", c->name, o->name, text);
    TRY(check_range(c, o, value, text));
    *(double *)o->out = value;
    return STATUS_OK;
}

/* choices is "a|b|c". */
static Status read_choice(const Command *c, const Option *o, const char *text)
{
    const size_t length = strlen(text);
    for (const char *p = o->choices; p;) {
        const char *end = strchr(p, '|');
        const size_t size = end ? (size_t)(end - p) : strlen(p);
        if (size == length && memcmp(p, text, size) == 0) {
            *(const char **)o->out = text;
            return STATUS_OK;
        }
        p = end ? end + 1 : NULL;
    }
    return status_refuse("%s: --%s %s: expected one of %s", c->name, o->name, text, o->choices);
}

static Status add_to_list(const Command *c, OptionList *list, const char *text)
{
    if (list->count == OPTION_LIST_MAX)
        return status_refuse("%s: more than %d values are given where %s stands", c->name, OPTION_LIST_MAX,
                             text);
    list->items[list->count++] = text;
    return STATUS_OK;
}

static Status read_value(const Command *c, const Option *o, const char *text)
{
    switch (o->kind) {
    case OPTION_INT:
    case OPTION_INT64:
    case OPTION_UINT64:
        return read_whole(c, o, text);
    case OPTION_FLOAT:
        return read_float(c, o, text);
    case OPTION_LIST:
        return add_to_list(c, o->out, text);
    case OPTION_TEXT:
        if (o->choices)
            return read_choice(c, o, text);
        *(const char **)o->out = text;
        return STATUS_OK;
    case OPTION_FLAG:
    case OPTION_HEADING:
        break;
    }
    return STATUS_OK;
}

/* argv[*at] is "--name" or "--name=value"; moves *at over a value that stands by itself. */
static Status read_option(const Command *c, int argc, char **argv, int *at, bool *given)
{
    const char *name = argv[*at] + 2;
    const char *equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const Option *o = find_option(c, name, length);
    if (!o)
        return refuse_unknown(c, name, length);
    given[o - c->options] = true;
    if (o->given)
        *o->given = true;
    if (o->kind == OPTION_FLAG) {
        if (equals)
            return status_refuse("%s: --%s takes no value", c->name, o->name);
        *(bool *)o->out = true;
        return STATUS_OK;
    }
    if (equals)
        return read_value(c, o, equals + 1);
    if (*at + 1 >= argc)
        return status_refuse("%s: --%s needs a value (%s)", c->name, o->name, o->value ? o->value : "text");
    return read_value(c, o, argv[++*at]);
}

static Status read_positional(const Command *c, const char *text)
{
    if (!c->positional || c->positional->count >= c->max_positional)
        return status_refuse("%s: `%s` is one argument too many; see `atelier %s --help`", c->name, text,
                             c->name);
    return add_to_list(c, c->positional, text);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static Status check_complete(const Command *c, const bool *given)
{
    for (int i = 0; i < c->option_count; i++)
        if (c->options[i].required && !given[i])
            return status_refuse("%s: --%s is missing; see `atelier %s --help`", c->name, c->options[i].name,
                                 c->name);
    if (c->positional && c->positional->count < c->min_positional)
        return status_refuse("%s: %s is missing; see `atelier %s --help`", c->name,
                             c->positional_name ? c->positional_name : "an argument", c->name);
    return STATUS_OK;
}

Status options_parse(const Command *command, int argc, char **argv, bool *done)
{
    bool given[MAX_OPTIONS] = {false};
    *done = wants_help(argc, argv);
    if (*done) {
        options_help(command);
        return STATUS_OK;
    }
    bool only_positional = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_positional || word[0] != '-' || !word[1]) {
            TRY(read_positional(command, word));
        } else if (strcmp(word, "--") == 0) {
            only_positional = true;
        } else if (word[1] == '-') {
            TRY(read_option(command, argc, argv, &i, given));
        } else {
            return status_refuse("%s: unknown option %s; options begin with two dashes", command->name, word);
        }
    }
    return check_complete(command, given);
}

/* Help ------------------------------------------------------------------------------------------------- */

/* Columns that n bytes of UTF-8 take: continuation bytes take none. */
static int columns(const char *text, size_t n)
{
    int width = 0;
    for (size_t i = 0; i < n; i++)
        width += (text[i] & 0xc0) != 0x80;
    return width;
}

/* Prints text in lines of at most HELP_WIDTH, the first starting at column `at`, the others at `indent`. A
 * newline in the text is a newline. */
static void print_wrapped(const char *text, int at, int indent)
{
    bool line_start = true;
    while (*text) {
        if (*text == '\n' || *text == ' ') {
            if (*text == '\n') {
                putchar('\n');
                at = 0;
                line_start = true;
            }
            text++;
            continue;
        }
        const size_t length = strcspn(text, " \n");
        const int width = columns(text, length);
        if (!line_start && at + 1 + width > HELP_WIDTH) {
            putchar('\n');
            at = 0;
            line_start = true;
        }
        if (line_start && at < indent) {
            printf("%*s", indent - at, "");
            at = indent;
        } else if (!line_start) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)length, text);
        at += width;
        line_start = false;
        text += length;
    }
    putchar('\n');
}

static void print_option(const char *name, const char *value, const char *help, const char *choices,
                         const char *shown)
{
    char left[128];
    snprintf(left, sizeof left, "  --%s%s%s", name, value ? " " : "", value ? value : "");
    char text[1024];
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", help, choices ? " (" : "", choices ? choices : "",
             choices ? ")" : "", shown ? " [" : "", shown ? shown : "", shown ? "]" : "");
    fputs(left, stdout);
    int at = columns(left, strlen(left));
    if (at + 2 > HELP_COLUMN) {
        putchar('\n');
        at = 0;
    }
    print_wrapped(text, at, HELP_COLUMN);
}

/* Command lines as they are, each indented. */
static void print_example(const char *text)
{
    printf("\nexample:\n");
    while (*text) {
        const size_t length = strcspn(text, "\n");
        printf("  %.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

void options_help(const Command *c)
{
    printf("usage: atelier %s ", c->name);
    print_wrapped(c->usage, 16 + columns(c->name, strlen(c->name)), 8);
    putchar('\n');
    print_wrapped(c->summary, 0, 0);
    if (c->option_count && c->options[0].kind != OPTION_HEADING)
        printf("\noptions:\n");
    for (int i = 0; i < c->option_count; i++) {
        const Option *o = &c->options[i];
        const char *title = o->help ? o->help : o->name ? o->name : "";
        if (o->kind == OPTION_HEADING)
            printf(*title ? "\n%s:\n" : "\n%s", title);
        else
            print_option(o->name, o->value, o->help, o->choices, o->shown);
    }
    print_option("help", NULL, "this text", NULL, NULL);
    if (c->notes) {
        putchar('\n');
        print_wrapped(c->notes, 0, 0);
    }
    if (c->example)
        print_example(c->example);
}
