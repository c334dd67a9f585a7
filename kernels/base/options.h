/* A command's options as one table, from which the command line is read, the help is printed, and unknown
 * options are answered with the nearest right one.
 *
 *     static int steps = 20; ...
 *     const Option table[] = {
 *         {"model", OPTION_TEXT, &model, .value = "M", .help = "diffusers folder, .safetensors file or
 * builtin:NAME"},
 *         {"steps", OPTION_INT, &steps, .value = "N", .help = "sampling steps", .min = 1, .max = 1000, .shown
 * = "20"},
 *     };
 *     const Command command = {.name = "sample", .usage = "--model M --prompt TEXT [options]",
 *                              .summary = "Makes pictures from a prompt.",
 *                              .example = "atelier sample --model builtin:tiny --prompt \"a red heart\"",
 *                              .options = table, .option_count = 2};
 *     bool done;
 *     TRY(options_parse(&command, argc, argv, &done));   // done: --help was asked for and has been printed
 *
 * Understood: "--name value", "--name=value", flags, repeated options, positional arguments in between, and
 * "--" after which everything is positional. "--help" and "-h" are always there. All failures are
 * STATUS_REFUSED. Values are borrowed from argv. */
#ifndef ATL_OPTIONS_H
#define ATL_OPTIONS_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum OptionKind {
    OPTION_FLAG,   /* out: bool *; set to true */
    OPTION_INT,    /* out: int *; in [min, max] */
    OPTION_INT64,  /* out: int64_t *; in [min, max] */
    OPTION_UINT64, /* out: uint64_t * */
    OPTION_FLOAT,  /* out: double *; in [min, max] */
    OPTION_TEXT,   /* out: const char ** */
    OPTION_LIST,   /* out: OptionList *; may be given several times */
    OPTION_HEADING /* help, or name: a line over the options that follow, "" for a gap; nothing else is read
                    */
} OptionKind;

/* What becomes of an option that was given: a picture holds how it was made, and a sheet tries one option's
 * values after another. */
typedef enum OptionUse {
    OPTION_KEPT,   /* kept in these words with what is made */
    OPTION_UNKEPT, /* not: it has a name of its own there, or no part in what is made */
    OPTION_ONCE    /* nor does it vary: it is the whole command's */
} OptionUse;

/* Values of a repeatable option, or positional arguments. */
#define OPTION_LIST_MAX 256
typedef struct OptionList {
    const char *items[OPTION_LIST_MAX];
    int count;
} OptionList;

typedef struct Option {
    const char *name; /* without "--" */
    OptionKind kind;
    void *out;           /* as the kind says; holds the default before */
    const char *value;   /* the value's name in the help: "N"; NULL for flags */
    const char *help;    /* one or two sentences; wrapped to 80 columns */
    double min, max;     /* numbers only; both 0: any */
    const char *choices; /* OPTION_TEXT: the words allowed, "f32|bf16|f16"; NULL: any */
    const char *shown;   /* the default as the help shows it; NULL: none */
    bool *given;         /* set to true when the option is given; NULL: not wanted */
    bool required;
    OptionUse use;
} Option;

/* Options of other programs, and what is said to those who write them here. */
typedef struct OptionElsewhere {
    const char *names; /* "medvram|lowvram"; with - where they are written with _ too */
    const char *answer;
} OptionElsewhere;
/* What is said to who writes this name; NULL: it is in none of the rows. */
const char *options_answer(const OptionElsewhere *list, int count, const char *name, size_t length);

typedef struct Command {
    const char *name;    /* "sample", "data build": after "atelier" in messages and help */
    const char *usage;   /* what follows the name */
    const char *summary; /* a sentence or a paragraph; wrapped */
    const char *example; /* one or more whole command lines, each its own line */
    const char *notes;   /* printed after the options, wrapped by paragraph; NULL: nothing */
    const Option *options;
    int option_count;
    const OptionElsewhere *elsewhere; /* NULL: none */
    int elsewhere_count;
    OptionList *positional; /* NULL: none allowed */
    int min_positional, max_positional;
    const char *positional_name; /* "FOLDER": for messages; NULL: "argument" */
} Command;

/* The option of that name, without "--", or NULL. */
const Option *options_find(const Command *c, const char *name, size_t length);
/* argv[0] is the command's own name and is not looked at. */
Status options_parse(const Command *command, int argc, char **argv, bool *done);
/* Prints the help to standard output: for a terminal, or as a section of docs/commands.md, which
 * OPTIONS_HELP_PAGE asks for (options_help.c). */
#define OPTIONS_HELP_PAGE "--help=markdown"
Status options_help(const Command *command);
Status options_page(const Command *command);

#endif
