/* Families of commands as tables (dispatch.h). */
#include "dispatch.h"

#include "../../kernels/log.h"
#include "../../kernels/text.h"

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

static void print_help(const Family *f, FILE *out)
{
    const char *name = f->name ? f->name : "";
    const char *space = f->name ? " " : "";
    int width = 0;
    for (int i = 0; i < f->count; i++) {
        const int w = (int)(strlen(f->commands[i].name) + 1 + strlen(f->commands[i].arguments));
        if (!f->commands[i].hidden && w > width)
            width = w;
    }
    fprintf(out, "usage: atelier %s%sCOMMAND [options]\n\n%s\n\n", name, space, f->summary);
    for (int i = 0; i < f->count; i++) {
        const Subcommand *s = &f->commands[i];
        if (!s->hidden)
            fprintf(out, "  %s %-*s  %s\n", s->name, width - 1 - (int)strlen(s->name), s->arguments,
                    s->summary);
    }
    fprintf(out, "\n`atelier %s%sCOMMAND --help` explains a command, with an example.\n", name, space);
    if (f->notes)
        fprintf(out, "\n%s", f->notes);
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
    if (argc < 2) {
        print_help(f, stderr);
        return STATUS_REFUSED;
    }
    const bool help = strcmp(argv[1], "help") == 0;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (help && argc == 2)) {
        print_help(f, stdout);
        return STATUS_OK;
    }
    const Subcommand *s = find(f, argv[help ? 2 : 1]);
    if (!s)
        return command_end(refuse_unknown(f, argv[help ? 2 : 1]));
    if (!help)
        return s->run(argc - 1, argv + 1);
    char flag[] = "--help"; /* "help config show" is "config show --help" */
    char *words[3] = {argv[2], argc > 3 ? argv[3] : flag, flag};
    return s->run(argc > 3 ? 3 : 2, words);
}
