/* `atelier config`: a configuration checked, written out whole, and explained. */
#include "train/config/config.h"
#include "infer/models/model.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/text.h"
#include "commands.h"
#include "dispatch.h"
#include "facts.h"

#include <stdio.h>
#include <string.h>

#define SET_OPTION(list)                                                                                     \
    {                                                                                                        \
        .name = "set", .kind = OPTION_LIST, .out = (list), .value = "KEY=VALUE",                             \
        .help = "Replaces a value of the file: --set train.steps=500. May be given several times."           \
    }

static void print_and_free(char *text)
{
    fputs(text, stdout);
    mem_free(text);
}

/* show ------------------------------------------------------------------------------------------------- */

static Status show(int argc, char **argv)
{
    OptionList files = {0}, sets = {0};
    const Option options[] = {SET_OPTION(&sets)};
    const Command command = {
        .name = "config show",
        .usage = "FILE.yaml [--set KEY=VALUE]...",
        .summary =
            "Prints a configuration with every default written out and every path made absolute: what a run "
            "would do, and what it keeps as its own config.yaml. Keys that do nothing in it are left out.",
        .example = "atelier config show configs/lora.yaml --set method.rank=8",
        .options = options,
        .option_count = 1,
        .positional = &files,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "FILE.yaml",
    };
    bool done;
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    Config *c;
    char *text = NULL;
    TRY(config_read(files.items[0], sets.items, sets.count, &c));
    const Status s = config_write(c, &text);
    config_free(c);
    if (s == STATUS_OK)
        print_and_free(text);
    return s;
}

static int command_show(int argc, char **argv)
{
    return command_end(show(argc, argv));
}

/* check ------------------------------------------------------------------------------------------------ */

static void look_for(const Config *c, const char *key, const char *path, json_t *missing)
{
    if (file_exists(path))
        return;
    if (missing)
        json_array_append_new(missing, json_pack("{s:s, s:s}", "key", key, "path", path));
    else
        log_warn("%s: %s: %s is not there (yet)", c->origin, key, path);
}

/* There is a built-in model of this name. */
static bool is_built_in(const char *name)
{
    char *path;
    const bool is = model_find(name, &path) == STATUS_OK;
    mem_free(path);
    return is;
}

/* Files that are not there yet: worth a word, but a dataset may be built later. missing: a list for them;
 * NULL: they are warned of. */
static void look_for_files(const Config *c, json_t *missing)
{
    for (int i = 0; i < c->dataset_count; i++)
        look_for(c, "dataset.path", c->datasets[i].path, missing);
    if (!model_is_builtin(c->model.base) || !is_built_in(c->model.base))
        look_for(c, "model.base", c->model.base, missing);
    if (c->model.vae)
        look_for(c, "model.vae", c->model.vae, missing);
}

static void summarize(const Config *c)
{
    printf("%s: all right: ", c->origin);
    if (c->method.kind == METHOD_LORA)
        printf("a LoRA of rank %d", c->method.rank);
    else
        printf("a whole model");
    printf(", on %s", path_base(c->model.base));
    if (c->train.epochs > 0)
        printf(", %lld epoch%s", (long long)c->train.epochs, text_plural(c->train.epochs));
    else
        printf(", %lld step%s", (long long)c->train.steps, text_plural(c->train.steps));
    printf(" with %d picture%s each\n", c->train.batch * c->train.accumulate,
           text_plural(c->train.batch * c->train.accumulate));
}

static json_t *right_facts(const Config *c)
{
    json_t *missing = json_array();
    look_for_files(c, missing);
    return json_pack("{s:o, s:b, s:s, s:s, s:I, s:I, s:i, s:i, s:o}", "file", json_name(c->origin), "right",
                     1, "method", c->method.kind == METHOD_LORA ? "lora" : "full", "model", c->model.base,
                     "steps", (json_int_t)c->train.steps, "epochs", (json_int_t)c->train.epochs, "batch",
                     c->train.batch, "accumulate", c->train.accumulate, "missing", missing);
}

/* One file. list: for its facts; NULL: it is told. */
static Status check_file(const char *file, const OptionList *sets, json_t *list)
{
    Config *c;
    const Status s = config_read(file, sets->items, sets->count, &c);
    if (s != STATUS_OK) {
        if (list)
            json_array_append_new(list, json_pack("{s:o, s:b, s:s}", "file", json_name(file), "right", 0,
                                                  "error", status_message()));
        return list ? s : (Status)command_end(s);
    }
    if (list) {
        json_array_append_new(list, right_facts(c));
    } else {
        summarize(c);
        look_for_files(c, NULL);
    }
    config_free(c);
    return STATUS_OK;
}

/* Each failure is printed, as there may be several; *status is the exit status. */
static Status check(int argc, char **argv, int *status)
{
    OptionList files = {0}, sets = {0};
    bool done, json = false;
    const Option options[] = {SET_OPTION(&sets),
                              {"json", OPTION_FLAG, &json, .help = "Prints what each file is, as JSON."}};
    const Command command = {
        .name = "config check",
        .usage = "FILE.yaml... [--set KEY=VALUE]... [--json]",
        .summary =
            "Says what is wrong with configurations, with line and column. Nothing is loaded or written. The "
            "exit status is 0 if all are right, 2 if not.",
        .example = "atelier config check configs/*.yaml",
        .options = options,
        .option_count = 2,
        .positional = &files,
        .min_positional = 1,
        .max_positional = OPTION_LIST_MAX,
        .positional_name = "FILE.yaml",
    };
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    json_t *list = json ? json_array() : NULL;
    for (int i = 0; i < files.count; i++) {
        const Status s = check_file(files.items[i], &sets, list);
        *status = s == STATUS_OK ? *status : (int)s;
    }
    return json ? facts_print(json_pack("{s:o}", "files", list), true) : STATUS_OK;
}

static int command_check(int argc, char **argv)
{
    int status = STATUS_OK;
    const Status s = check(argc, argv, &status);
    return s == STATUS_OK ? status : command_end(s);
}

/* schema, explain, reference --------------------------------------------------------------------------- */

static Status schema(int argc, char **argv)
{
    const Command command = {
        .name = "config schema",
        .usage = "",
        .summary = "Prints a JSON Schema (draft 2020-12) of configurations. Editors with a YAML language "
                   "server use it to "
                   "complete, explain and check keys as they are typed.",
        .example = "atelier config schema > atelier.schema.json",
        .notes = "To use it, begin a configuration with the line\n"
                 "`# yaml-language-server: $schema=atelier.schema.json`.",
    };
    bool done;
    char *text = NULL;
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    TRY(config_json_schema(&text));
    print_and_free(text);
    return STATUS_OK;
}

static int command_schema(int argc, char **argv)
{
    return command_end(schema(argc, argv));
}

static Status explain(int argc, char **argv)
{
    OptionList keys = {0};
    const Command command = {
        .name = "config explain",
        .usage = "[KEY]",
        .summary =
            "Says what a key of the configuration does, what it wants and what it is without being given. "
            "KEY "
            "may be a whole path (train.steps), a name (steps) or a section (train). Without KEY all are "
            "listed.",
        .example = "atelier config explain method.rank",
        .positional = &keys,
        .max_positional = 1,
        .positional_name = "KEY",
    };
    bool done;
    char *text = NULL;
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    TRY(config_explain(keys.count ? keys.items[0] : NULL, &text));
    print_and_free(text);
    return STATUS_OK;
}

static int command_explain(int argc, char **argv)
{
    return command_end(explain(argc, argv));
}

static Status reference(int argc, char **argv)
{
    const Command command = {
        .name = "config reference",
        .usage = "",
        .summary = "Prints docs/configuration.md, the reference page of all keys.",
        .example = "atelier config reference > docs/configuration.md",
    };
    bool done;
    char *text = NULL;
    TRY(options_parse(&command, argc, argv, &done));
    if (done)
        return STATUS_OK;
    TRY(config_reference(&text));
    print_and_free(text);
    return STATUS_OK;
}

static int command_reference(int argc, char **argv)
{
    return command_end(reference(argc, argv));
}

int command_config(int argc, char **argv)
{
    static const Subcommand COMMANDS[] = {
        {"show", "FILE.yaml", "print it with every default written out", command_show, false},
        {"check", "FILE.yaml...", "say what is wrong with it, by line", command_check, false},
        {"explain", "[KEY]", "say what a key does", command_explain, false},
        {"schema", "", "print a JSON Schema for editors", command_schema, false},
        {"reference", "", "print the reference page", command_reference, true},
    };
    static const Family FAMILY = {
        .name = "config",
        .summary = "Configurations of training runs: checked, written out, explained.",
        .commands = COMMANDS,
        .count = sizeof COMMANDS / sizeof *COMMANDS,
    };
    return dispatch(&FAMILY, argc, argv);
}
