/* Choosing among several commands by the first word: the program's own, and those of `config`, `lora`,
 * `model`. */
#ifndef ATL_DISPATCH_H
#define ATL_DISPATCH_H

#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct Subcommand {
    const char *name;
    const char *arguments;             /* "FILE [--json]", as the family's help shows them */
    const char *summary;               /* one line */
    int (*run)(int argc, char **argv); /* argv[0] is the name */
    bool hidden;                       /* not in the help */
} Subcommand;

typedef struct Family {
    const char *name; /* "config"; NULL: the program itself */
    const char *summary;
    const char *example; /* command lines to begin with; NULL: none */
    const char *notes;   /* paragraphs printed at the end; NULL: nothing */
    const Subcommand *commands;
    int count;
} Family;

/* Runs the command that argv[1] names, and returns its exit status. "help" and "--help" print the table,
 * "help NAME" the command's own help; OPTIONS_HELP_PAGE prints docs/commands.md; an unknown word is answered
 * with the nearest. */
int dispatch(const Family *f, int argc, char **argv);

/* How a command ends: prints the failure, if s is one, and returns the exit status. */
int command_end(Status s);

#endif
