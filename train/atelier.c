/* What the program does once its library is loaded: the table of commands. */
#include "infer/sample.h"
#include "train/commands/commands.h"
#include "train/commands/dispatch.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const Subcommand COMMANDS[] = {
    {"train", "CONFIG.yaml", "fine-tune a model as a configuration says", command_train, false},
    {"sample", "--model M --prompt TEXT", "make pictures from a prompt", command_sample, false},
    {"data", "build|lint|info", "make and look at datasets of pictures", command_data, false},
    {"config", "show|check|explain|schema", "check and explain configurations", command_config, false},
    {"lora", "info", "look at LoRA files", command_lora, false},
    {"model", "info", "look at models", command_model, false},
    {"bench", "unet|vae|clip|train", "measure the speed of this machine", command_bench, false},
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

int atelier_main(int argc, char **argv);

/* Called by the launcher (main.c) with the program's own arguments. Returns the exit status. */
int atelier_main(int argc, char **argv)
{
    mem_keep_large_apart();
    open_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* `atelier config show F | head` must not end a run, nor look like a crash */
    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
        printf("atelier %s\n", ATELIER_VERSION);
        return STATUS_OK;
    }
    const int status = dispatch(&PROGRAM, argc, argv);
    const bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written && status == STATUS_OK && !reader_left()) {
        log_error("cannot write to standard output (is the disk full?)");
        return STATUS_FAILED;
    }
    return status;
}
