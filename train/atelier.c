/* What libatelier exports (atelier.h): the table of commands, and what makes a process the program's own. */
#include "atelier.h"

#include "data/dataset/h5.h"
#include "infer/sample/sample.h"
#include "kernels/base/json.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/cpu/onednn/reserve.h"
#include "train/commands/commands.h"
#include "train/commands/dispatch.h"
#include "train/pictures/preview_words.h"
#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int sample(int argc, char **argv)
{
    return command_sample(argc, argv, preview_words);
}

static const Subcommand COMMANDS[] = {
    {"train", "CONFIG.yaml", "fine-tune a model as a configuration says", command_train, false},
    {"sample", "--model M --prompt TEXT", "make pictures from a prompt", sample, false},
    {"data", "build|lint|info", "make and look at datasets of pictures", command_data, false},
    {"config", "show|check|explain|schema", "check and explain configurations", command_config, false},
    {"lora", "info", "look at LoRA files", command_lora, false},
    {"model", "info|convert|quantize", "look at models, write them anew", command_model, false},
    {"picture", "watermark", "look at pictures that were made", command_picture, false},
    {"bench", "[unet|train|...]", "measure the speed of this machine", command_bench, false},
    {"doctor", "", "what this machine has, and what will be used", command_doctor, false},
};

static const Family PROGRAM = {
    .summary = "Atelier " ATELIER_VERSION ": fine-tunes Stable Diffusion and makes pictures with it.",
    .example = "atelier doctor\n"
               "atelier sample --model builtin:tiny --prompt \"a red heart\" --out heart.png\n"
               "atelier train configs/quickstart.yaml\n",
    .notes =
        "Exit status: 0 done, 1 failed while working, 2 the request was wrong, 130 interrupted after "
        "saving.\n"
        "\n"
        "Environment: ATELIER_MODELS is a folder to look for built-in models in; ATELIER_ISA=avx2 or "
        "baseline makes a better processor work like a lesser one; NO_COLOR turns colours off; temporary "
        "files go into TMPDIR.",
    .commands = COMMANDS,
    .count = sizeof COMMANDS / sizeof *COMMANDS,
};

/* Standard output is a pipe that nobody reads any more: `atelier config explain | head`. That is no failure.
 */
static bool reader_left(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

/* A number below 3 that is not open would be given to the next file, and messages be written into it. */
static void open_standard_streams(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_WRONLY : O_RDONLY) < 0)
            return;
}

/* All that is the program's and no library's business, in one place. */
void atl_own_process(void)
{
    open_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* `atelier config show F | head` must not end a run, nor look like a crash */
    stop_own_process();
    mem_keep_large_apart();
    json_own_process();
    h5_own_process();
    reserve_own_process();
    log_to(log_terminal, NULL);
    progress_to(progress_terminal, NULL);
}

/* A host's functions, behind the ones that the library's own parts know. */
static struct {
    AtlLog log;
    AtlProgress progress;
    void *log_arg, *progress_arg;
    HostThread thread; /* that runs a command */
} host;

int atl_main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("atelier %s\n", ATELIER_VERSION);
        return STATUS_OK;
    }
    host.thread = host_enter();
    const int status = dispatch(&PROGRAM, argc, argv);
    host_leave(&host.thread);
    const bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written && status == STATUS_OK && !reader_left()) {
        log_error("cannot write to standard output (is the disk full?)");
        return STATUS_FAILED;
    }
    return status;
}

const char *atl_version(void)
{
    return ATELIER_VERSION;
}

const char *atl_message(void)
{
    return status_message();
}

static void pass_message(void *arg, LogLevel level, const char *text)
{
    (void)arg;
    const locale_t ours = host_call(&host.thread);
    host.log(host.log_arg, (int)level, text);
    host_back(ours);
}

void atl_set_log(AtlLog log, void *arg)
{
    host.log = log;
    host.log_arg = arg;
    log_to(log ? pass_message : NULL, NULL);
}

static void pass_progress(void *arg, Progress *p, ProgressEvent event)
{
    (void)arg;
    if (event != PROGRESS_UPDATE)
        return;
    const locale_t ours = host_call(&host.thread);
    host.progress(host.progress_arg, p->label, p->unit, p->done, p->total, p->note);
    host_back(ours);
}

void atl_set_progress(AtlProgress progress, void *arg)
{
    host.progress = progress;
    host.progress_arg = arg;
    progress_to(progress ? pass_progress : NULL, NULL);
}
