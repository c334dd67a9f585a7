/* Reading a command line by its table (options.h). */
#include "options.h"

#include "text.h"

#include <stdio.h>
#include <string.h>

#define MAX_OPTIONS 128

const Option *options_find(const Command *c, const char *name, size_t length)
{
    for (int i = 0; i < c->option_count; i++) {
        const Option *o = &c->options[i];
        if (o->kind != OPTION_HEADING && strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    }
    return NULL;
}

/* Whether the name is one of "a|b|c"; - and _ are the same. */
static bool is_named(const char *names, const char *name, size_t length)
{
    for (const char *p = names; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        size_t same = 0;
        while (same < length && (p[same] == name[same] || (p[same] == '-' && name[same] == '_')))
            same++;
        if (same == length && (!p[same] || p[same] == '|'))
            return true;
    }
    return false;
}

const char *options_answer(const OptionElsewhere *list, int count, const char *name, size_t length)
{
    for (int i = 0; i < count; i++)
        if (is_named(list[i].names, name, length))
            return list[i].answer;
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
    const char *answer = options_answer(c->elsewhere, c->elsewhere_count, name, length);
    if (answer)
        return status_refuse("%s: --%s is another program's: %s", c->name, word, answer);
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
    const Option *o = options_find(c, name, length);
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

typedef enum Help { HELP_NONE, HELP_TEXT, HELP_PAGE } Help;

static Help help_asked(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return HELP_TEXT;
        if (strcmp(argv[i], OPTIONS_HELP_PAGE) == 0)
            return HELP_PAGE;
    }
    return HELP_NONE;
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
    const Help help = help_asked(argc, argv);
    *done = help != HELP_NONE;
    if (*done)
        return help == HELP_TEXT ? options_help(command) : options_page(command);
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
