/* atelier train: configuration, signals, exit status. The work is in train/run/trainer.c. */
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "kernels/devices/devices.h"
#include "train/config/other_names.h"
#include "train/run/resume.h"
#include "train/run/trainer.h"
#include "commands.h"
#include "launch.h"
#include "together.h"

#include <string.h>

#define AFTER_TIMEOUT                                                                                        \
    10.0 /* seconds: the processes notice by themselves who lets them wait for train.timeout */

typedef struct Arguments {
    OptionList config, sets;
    const char *resume, *device, *trace, *gpus;
    int processes;
    bool allow_changes, plan, no_time, json;
} Arguments;

static Status parse(int argc, char **argv, Arguments *a, bool *done)
{
    int elsewhere;
    const Option table[] = {
        {"set", OPTION_LIST, &a->sets, .value = "key.path=value",
         .help = "Replaces a value of the configuration: --set train.steps=500. May be given several times."},
        {"resume", OPTION_TEXT, &a->resume, .value = "RUN|auto",
         .help =
             "Goes on with a run from its last checkpoint. RUN is the run's folder; auto takes the "
             "configuration's output.dir, and begins at step 1 where it holds no checkpoint yet. RUN@250 or "
             "auto@250 goes on from the checkpoint of step 250, and removes those after it."},
        {"allow-changes", OPTION_FLAG, &a->allow_changes,
         .help =
             "With --resume: goes on though the configuration, the model or the pictures have changed in a "
             "way that changes the result."},
        {"device", OPTION_TEXT, &a->device, .value = DEVICE_VALUES, .help = DEVICE_HELP,
         .shown = "train.device of the configuration"},
        {"processes", OPTION_INT, &a->processes, .value = "N", .min = 1, .max = LAUNCH_MOST, .shown = "1",
         .help = LAUNCH_PROCESSES_HELP},
        {"gpus", OPTION_TEXT, &a->gpus, .value = "all|N", .help = LAUNCH_GPUS_HELP},
        {"plan", OPTION_FLAG, &a->plan,
         .help = "Says what the run comes to (steps, memory, disk, time), and keeps nothing. The time is "
                 "measured, for up to 20 seconds or one step."},
        {"no-time", OPTION_FLAG, &a->no_time,
         .help = "Goes with --plan: leaves the time out, and loads and measures nothing."},
        {"json", OPTION_FLAG, &a->json, .help = "Prints the plan as JSON."},
        {"trace", OPTION_TEXT, &a->trace, .value = "DIR[:N]",
         .help =
             "Writes what goes into and comes out of the first N steps, or of all, as safetensors, one file "
             "a step."},
    };
    const Command command = {
        .name = "train",
        .usage = "CONFIG.yaml [options]",
        .summary = "Fine-tunes a model on pictures, as a configuration says: a LoRA, or the whole UNet. Log, "
                   "previews, checkpoints and the result go into its output.dir. Ctrl-C saves the state and "
                   "says how to go on.",
        .notes = "Configurations to copy lie in configs/; `atelier config explain` lists all keys, and "
                 "`atelier config check` says what is wrong with a file.",
        .example = "atelier train cat.yaml --plan\n"
                   "atelier train cat.yaml --set train.steps=500\n"
                   "atelier train cat.yaml --resume auto",
        .options = table,
        .option_count = sizeof table / sizeof *table,
        .positional = &a->config,
        .min_positional = 1,
        .max_positional = 1,
        .positional_name = "CONFIG.yaml",
        .elsewhere = other_names_options(&elsewhere),
        .elsewhere_count = elsewhere};
    TRY(options_parse(&command, argc, argv, done));
    if (!*done && a->device && !device_word_is_good(a->device))
        return status_refuse("--device wants one of " DEVICE_FORMS ", not \"%s\"", a->device);
    if (!*done && a->gpus && a->device && strcmp(a->device, "cuda") != 0)
        return status_refuse("--gpus goes with --device cuda, or none: each process takes a GPU of its own");
    if (!*done && a->gpus)
        a->device = "cuda";
    if (!*done && a->allow_changes && !a->resume)
        return status_refuse("--allow-changes goes with --resume");
    if (!*done && a->json && !a->plan)
        return status_refuse("--json goes with --plan; a run's numbers are in its log.jsonl");
    if (!*done && a->no_time && !a->plan)
        return status_refuse("--no-time goes with --plan");
    return STATUS_OK;
}

/* "DIR:N" in two; a number after the last colon, else all of it is the folder. */
static Status split_trace(const char *text, char **folder, int *steps)
{
    *folder = NULL;
    *steps = 0;
    if (!text)
        return STATUS_OK;
    *folder = mem_strdup(text);
    if (!*folder)
        return STATUS_FAILED;
    char *colon = strrchr(*folder, ':');
    int64_t n;
    if (colon && text_to_int(colon + 1, &n)) {
        if (n < 1 || n > 1000000)
            return status_refuse("--trace %s: N has to be from 1 to 1000000", text);
        *colon = 0;
        *steps = (int)n;
    }
    if (!**folder)
        return status_refuse("--trace %s: names no folder", text);
    return status_in(path_check_words(*folder, NULL), "--trace");
}

/* line, which it frees, and one more word; NULL where there is no memory. */
static char *add_word(char *line, const char *word)
{
    char *quoted = line ? text_for_shell(word) : NULL;
    char *more = quoted ? mem_printf("%s %s", line, quoted) : NULL;
    mem_free(quoted);
    mem_free(line);
    return more;
}

/* The command line again with --resume, quoted where a shell needs it. Caller: mem_free. */
static char *command_again(int argc, char **argv)
{
    char *all = mem_strdup("atelier train"), *run;
    const char *resume = "auto";
    int64_t step; /* is where it was begun, not where to go on */
    for (int i = 1; i < argc && all; i++) {
        if (strcmp(argv[i], "--resume") == 0 && i + 1 < argc) {
            resume = argv[++i];
            continue;
        }
        if (strncmp(argv[i], "--resume=", 9) == 0) {
            resume = argv[i] + 9;
            continue;
        }
        all = add_word(all, argv[i]);
    }
    run = mem_printf("%.*s", (int)resume_split(resume, &step), resume);
    all = add_word(all, "--resume");
    if (run) {
        all = add_word(all, run);
    } else {
        mem_free(all);
        all = NULL;
    }
    mem_free(run);
    return all;
}

static Status read_config(const Arguments *a, Config **out)
{
    TRY(config_read(a->config.items[0], a->sets.items, a->sets.count, out));
    return a->device ? config_set_device(*out, a->device) : STATUS_OK;
}

/* One process that cannot read it ends all. */
static Status read_together(const Arguments *a, Comm *comm, Config **out)
{
    const Status s = read_config(a, out);
    return a->plan ? s : comm_agree(comm, s);
}

/* As a whole, or as one of several. */
static Status run(const Arguments *a, int argc, char **argv)
{
    char *folder = NULL, *again = command_again(argc, argv);
    Config *config = NULL;
    Comm *comm = NULL;
    TrainOptions o = {.resume = a->resume,
                      .allow_changes = a->allow_changes,
                      .plan = a->plan,
                      .json = a->json,
                      .time = a->plan && !a->no_time,
                      .again = again,
                      .stop = stop_flag()};
    Status s = split_trace(a->trace, &folder, &o.trace_steps);
    o.trace = folder;
    stop_catch();
    stop_outlive_terminal();
    if (s == STATUS_OK)
        s = together_begin(a->plan, &comm);
    if (s == STATUS_OK)
        s = read_together(a, comm, &config);
    if (s == STATUS_OK && !together_idle(comm, a->plan)) {
        comm_set_timeout(comm, config->train.timeout);
        o.comm = comm;
        s = trainer_run(config, &o);
    }
    together_end(comm, s);
    config_free(config);
    mem_free(folder);
    mem_free(again);
    return s;
}

/* What is wrong with the configuration is said once, before there are many. */
static Status run_several(const Arguments *a, int count, int argc, char **argv, int *ended)
{
    Config *config;
    TRY(read_config(a, &config));
    const double patience = config->train.timeout + AFTER_TIMEOUT;
    config_free(config);
    return launch(count, argc, argv, patience, ended);
}

/* *ended: the exit status of processes that this one has started; they have said how they ended. */
static Status train(int argc, char **argv, int *ended)
{
    Arguments a = {0};
    bool done = false;
    int count;
    TRY(parse(argc, argv, &a, &done));
    if (done)
        return STATUS_OK;
    TRY(launch_count(a.processes, a.gpus, &count));
    return count > 1 && !launch_was_here() ? run_several(&a, count, argc, argv, ended) : run(&a, argc, argv);
}

int command_train(int argc, char **argv)
{
    int ended = STATUS_OK;
    const Status s = train(argc, argv, &ended);
    if (s != STATUS_OK && s != STATUS_INTERRUPTED)
        log_error("%s", status_message());
    return s != STATUS_OK ? (int)s : ended;
}
