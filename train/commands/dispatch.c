/* Families of commands as tables (dispatch.h). */
#include "dispatch.h"

#include "kernels/base/buffer.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/text.h"

#include <stdio.h>
#include <string.h>

#define MAX_COMMANDS 32

int command_end(Status s)
{
    if (s != STATUS_OK && status_message()[0])
        log_error("%s", status_message());
    return (int)s;
}

static const Subcommand *find(const Family *f, const char *name)
{
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->commands[i].name, name) == 0)
            return &f->commands[i];
    return NULL;
}

static int entry_width(const Subcommand *s)
{
    return (int)(strlen(s->name) + 1 + strlen(s->arguments));
}

static void add_help(Buffer *b, const Family *f)
{
    const char *name = f->name ? f->name : "";
    const char *space = f->name ? " " : "";
    int width = 0;
    for (int i = 0; i < f->count; i++)
        if (!f->commands[i].hidden && entry_width(&f->commands[i]) > width)
            width = entry_width(&f->commands[i]);
    buffer_add(b, "usage: atelier %s%sCOMMAND ...\n\n%s\n\nCommands:\n", name, space, f->summary);
    for (int i = 0; i < f->count; i++) {
        const Subcommand *s = &f->commands[i];
        if (!s->hidden)
            buffer_add(b, "  %s %-*s  %s\n", s->name, width - 1 - (int)strlen(s->name), s->arguments,
                       s->summary);
    }
    buffer_add(b, "\n`atelier %s%sCOMMAND --help` explains a command, with an example.\n", name, space);
    if (f->example) {
        buffer_add(b, "\nTo begin:\n");
        for (const char *line = f->example; *line; line += strcspn(line, "\n") + 1)
            buffer_add(b, "  %.*s\n", (int)strcspn(line, "\n"), line);
    }
    if (f->notes) {
        buffer_add(b, "\n");
        buffer_add_wrapped(b, 0, 0, f->notes);
    }
}

/* Who names no command is told as by a message, without its last line end. */
static int refuse_no_command(const Family *f)
{
    Buffer help = {0};
    char *text = NULL;
    add_help(&help, f);
    const Status s = buffer_take(&help, &text);
    if (s != STATUS_OK)
        return command_end(s);
    text[strlen(text) - 1] = 0;
    log_info("%s", text);
    mem_free(text);
    return STATUS_REFUSED;
}

static int print_help(const Family *f)
{
    Buffer help = {0};
    add_help(&help, f);
    return command_end(buffer_print(&help));
}

/* docs/commands.md, or the section of a family: the table of its commands, then each of them. */
static int print_page(const Family *f)
{
    if (!f->name)
        printf("# Commands\n\n<!-- Made by `atelier " OPTIONS_HELP_PAGE "`, which scripts/docs calls; a test "
               "compares them. Change the commands' own tables. -->\n");
    else
        printf("\n## atelier %s\n", f->name);
    printf("\n%s\n\n| command | |\n|---|---|\n", f->summary);
    for (int i = 0; i < f->count; i++)
        if (!f->commands[i].hidden)
            printf("| [`atelier %s%s%s`](#atelier-%s%s%s) | %s |\n", f->name ? f->name : "",
                   f->name ? " " : "", f->commands[i].name, f->name ? f->name : "", f->name ? "-" : "",
                   f->commands[i].name, f->commands[i].summary);
    if (f->notes)
        printf("\n%s\n", f->notes);
    if (f->example)
        printf("\nTo begin:\n\n```sh\n%s```\n", f->example);
    int status = STATUS_OK;
    char page[] = OPTIONS_HELP_PAGE;
    for (int i = 0; i < f->count && status == STATUS_OK; i++) {
        char *words[] = {(char *)f->commands[i].name, page, NULL};
        if (!f->commands[i].hidden)
            status = f->commands[i].run(2, words);
    }
    return status;
}

static Status refuse_unknown(const Family *f, const char *word)
{
    const char *names[MAX_COMMANDS];
    int count = 0;
    for (int i = 0; i < f->count && count < MAX_COMMANDS; i++)
        if (!f->commands[i].hidden)
            names[count++] = f->commands[i].name;
    const char *near = text_nearest(word, names, count);
    const char *name = f->name ? f->name : "", *space = f->name ? " " : "";
    if (near)
        return status_refuse("unknown command `%s%s%.60s`; did you mean `%s%s%s`?", name, space, word, name,
                             space, near);
    return status_refuse("unknown command `%s%s%.60s`; `atelier %s%s--help` lists them", name, space, word,
                         name, space);
}

int dispatch(const Family *f, int argc, char **argv)
{
    if (argc < 2)
        return refuse_no_command(f);
    if (strcmp(argv[1], OPTIONS_HELP_PAGE) == 0)
        return print_page(f);
    const bool help = strcmp(argv[1], "help") == 0;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc == 2))
        return print_help(f);
    const Subcommand *s = find(f, argv[help ? 2 : 1]);
    if (!s)
        return command_end(refuse_unknown(f, argv[help ? 2 : 1]));
    if (!help)
        return s->run(argc - 1, argv + 1);
    char flag[] = "--help"; /* "help config show" is "config show --help" */
    char *words[3] = {argv[2], argc > 3 ? argv[3] : flag, flag};
    return s->run(argc > 3 ? 3 : 2, words);
}
