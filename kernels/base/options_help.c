/* A command's table (options.h) as its help on a terminal and as a section of the reference page. Both say
 * the same: what the option does, the words it takes, what it is without being given. */
#include "buffer.h"
#include "mem.h"
#include "options.h"
#include "text.h"

#include <string.h>

#define HELP_COLUMN 26 /* where an option's description begins */

static const Option HELP_OPTION = {"help", OPTION_FLAG, .help = "Prints this text."};

/* "What it does. One of f32|bf16|f16. Default: f32." Where the help has lines, so have these. */
static void add_description(Buffer *b, const Option *o)
{
    const char between = strchr(o->help, '\n') ? '\n' : ' ';
    buffer_add(b, "%s", o->help);
    if (o->choices && strchr(o->choices, '|'))
        buffer_add(b, "%cOne of %s.", between, o->choices);
    if (o->shown)
        buffer_add(b, "%cDefault: %s.", between, o->shown);
}

/* Text for a terminal ---------------------------------------------------------------------------------- */

static void add_option(Buffer *b, const Option *o)
{
    const size_t start = b->length;
    Buffer text = {0};
    add_description(&text, o);
    buffer_add(b, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    int column = b->failed ? 0 : text_columns(b->data + start, b->length - start);
    if (column + 2 > HELP_COLUMN) {
        buffer_add(b, "\n");
        column = 0;
    }
    char *description = NULL;
    if (buffer_take(&text, &description) == STATUS_OK)
        buffer_add_wrapped(b, column, HELP_COLUMN, description);
    else
        b->failed = true;
    mem_free(description);
}

/* Command lines as they are, each after `before`. */
static void add_example(Buffer *b, const char *before, const char *text)
{
    while (*text) {
        const size_t length = strcspn(text, "\n");
        buffer_add(b, "%s%.*s\n", before, (int)length, text);
        text += length + (text[length] == '\n');
    }
}

Status options_help(const Command *c)
{
    Buffer b = {0};
    buffer_add(&b, "usage: atelier %s", c->name);
    buffer_add_wrapped(&b, 15 + text_columns(c->name, strlen(c->name)),
                       16 + text_columns(c->name, strlen(c->name)), c->usage);
    buffer_add(&b, "\n");
    buffer_add_wrapped(&b, 0, 0, c->summary);
    if (c->option_count == 0 || c->options[0].kind != OPTION_HEADING)
        buffer_add(&b, "\nOptions:\n");
    for (int i = 0; i < c->option_count; i++)
        if (c->options[i].kind == OPTION_HEADING)
            buffer_add(&b, "\n%s:\n", c->options[i].help);
        else
            add_option(&b, &c->options[i]);
    add_option(&b, &HELP_OPTION);
    if (c->notes) {
        buffer_add(&b, "\n");
        buffer_add_wrapped(&b, 0, 0, c->notes);
    }
    if (c->example) {
        buffer_add(&b, "\nExample:\n");
        add_example(&b, "  ", c->example);
    }
    return buffer_print(&b);
}

/* A section in Markdown -------------------------------------------------------------------------------- */

/* text with what Markdown would take for the end of a table's cell or row escaped. */
static void add_cell(Buffer *b, const char *text)
{
    for (; *text; text++)
        buffer_add(b, *text == '|' ? "\\|" : "%c", *text == '\n' ? ' ' : *text);
}

static void add_row(Buffer *b, const Option *o)
{
    char *description = NULL;
    Buffer text = {0};
    add_description(&text, o);
    if (buffer_take(&text, &description) != STATUS_OK) {
        b->failed = true;
        return;
    }
    buffer_add(b, "| `--%s%s", o->name, o->value ? " " : "");
    add_cell(b, o->value ? o->value : "");
    buffer_add(b, "` | ");
    add_cell(b, description);
    buffer_add(b, " |\n");
    mem_free(description);
}

Status options_page(const Command *c)
{
    Buffer b = {0};
    buffer_add(&b, "\n%s atelier %s\n\n```text\natelier %s%s%s\n```\n\n%s\n",
               strchr(c->name, ' ') ? "###" : "##", c->name, c->name, *c->usage ? " " : "", c->usage,
               c->summary);
    for (int i = 0; i < c->option_count; i++) {
        const Option *o = &c->options[i];
        if (o->kind == OPTION_HEADING)
            buffer_add(&b, "\n| %s | |\n|---|---|\n", o->help);
        else if (i == 0)
            buffer_add(&b, "\n| option | |\n|---|---|\n");
        if (o->kind != OPTION_HEADING)
            add_row(&b, o);
    }
    if (c->notes)
        buffer_add(&b, "\n%s\n", c->notes);
    if (c->example) {
        buffer_add(&b, "\n```sh\n");
        add_example(&b, "", c->example);
        buffer_add(&b, "```\n");
    }
    return buffer_print(&b);
}
