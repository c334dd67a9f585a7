/* `atelier doctor`: what this machine has, what will be used, and what is missing. */
#include "infer/models/model.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"
#include "kernels/base/options.h"
#include "kernels/base/stop.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/onednn/onednn.h"
#include "kernels/cuda/cuda.h"
#include "kernels/device.h"
#include "kernels/devices/devices.h"
#include "commands.h"
#include "dispatch.h"
#include "doctor_processes.h"
#include "facts.h"
#include "launch.h"
#include "together.h"

#include <hdf5.h>
#include <jconfig.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#include <webp/decode.h>
#include <yaml.h>

/* What of the processor's flags matters to speed, as /proc/cpuinfo spells them. */
static const char *const FLAGS[] = {"sse4_2",      "avx",         "avx2",     "fma",      "f16c",
                                    "avx512f",     "avx512bw",    "avx512dq", "avx512vl", "avx512_vnni",
                                    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd",
                                    "bf16",        "sve",         "sve2"};

/* The value of the first line of /proc/cpuinfo that begins with name; "" if there is none. */
static void cpuinfo_line(const char *name, char *out, size_t size)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    out[0] = 0;
    while (f && !out[0] && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, name, strlen(name)) != 0 || !colon)
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, size, "%s", colon + 1 + (colon[1] == ' '));
    }
    if (f)
        fclose(f);
}

static json_t *instruction_sets(void)
{
    static char flags[8192 + 2];
    json_t *list = json_array();
    flags[0] = ' ';
    cpuinfo_line("flags", flags + 1, sizeof flags - 2);
    if (!flags[1])
        cpuinfo_line("Features", flags + 1, sizeof flags - 2);
    strcat(flags, " ");
    for (size_t i = 0; i < sizeof FLAGS / sizeof *FLAGS; i++) {
        char word[32];
        snprintf(word, sizeof word, " %s ", FLAGS[i]);
        if (strstr(flags, word))
            json_array_append_new(list, json_string(FLAGS[i]));
    }
    return list;
}

static json_t *processor(void)
{
    char name[256];
    const char *cap = getenv("ATELIER_ISA");
    cpuinfo_line("model name", name, sizeof name);
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(name[0] ? name : "unknown"));
    json_object_set_new(o, "logical_cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(o, "threads_used", json_integer(ctx_threads(0)));
    json_object_set_new(o, "instruction_sets", instruction_sets());
    json_object_set_new(o, "path_chosen", json_string(device_cpu_isa()));
    json_object_set_new(o, "capped_by_ATELIER_ISA", cap && *cap ? json_string(cap) : json_null());
    json_object_set_new(o, "bf16_arithmetic", json_boolean(cpu_has_bf16()));
    return o;
}

static json_t *memory(void)
{
    json_t *o = json_object();
    json_object_set_new(o, "total_bytes", json_integer((json_int_t)machine_total_bytes()));
    json_object_set_new(o, "available_bytes", json_integer((json_int_t)machine_available_bytes()));
    return o;
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static void add_version(json_t *o, const char *name, int major, int minor, int patch)
{
    char version[48];
    snprintf(version, sizeof version, "%d.%d.%d", major, minor, patch);
    json_object_set_new(o, name, json_string(version));
}

static json_t *libraries(void)
{
    unsigned major = 0, minor = 0, patch = 0;
    const int webp = WebPGetDecoderVersion();
    json_t *o = json_object();
    json_object_set_new(o, "oneDNN", json_string(onednn_version()));
    H5get_libversion(&major, &minor, &patch);
    add_version(o, "HDF5", (int)major, (int)minor, (int)patch);
    json_object_set_new(o, "libyaml", json_string(yaml_get_version_string()));
    json_object_set_new(o, "libjpeg-turbo", json_string(TEXT(LIBJPEG_TURBO_VERSION)));
    json_object_set_new(o, "libpng", json_string(png_get_libpng_ver(NULL)));
    add_version(o, "libwebp", webp >> 16, webp >> 8 & 0xFF, webp & 0xFF);
    json_object_set_new(o, "jansson", json_string(jansson_version_str()));
    json_object_set_new(o, "utf8proc", json_string(utf8proc_version()));
    return o;
}

/* "13.0" of 13000; null of 0. */
static json_t *cuda_version(int version)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%d", version / 1000, version % 1000 / 10);
    return version ? json_string(text) : json_null();
}

static json_t *card(int number, const CudaCardInfo *info)
{
    char text[32];
    json_t *o = json_object();
    snprintf(text, sizeof text, "cuda:%d", number);
    json_object_set_new(o, "device", json_string(text));
    json_object_set_new(o, "name", json_string(info->name));
    json_object_set_new(o, "uuid", json_string(info->uuid));
    json_object_set_new(o, "bus", json_string(info->pci));
    snprintf(text, sizeof text, "%d.%d", info->major, info->minor);
    json_object_set_new(o, "compute_capability", json_string(text));
    json_object_set_new(o, "processors", json_integer(info->processors));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)info->memory));
    json_object_set_new(o, "usable", json_boolean(info->usable));
    json_object_set_new(o, "why", info->usable ? json_null() : json_string(info->why));
    json_object_set_new(o, "bf16_is_stored_as",
                        info->usable ? json_string(info->major < CUDA_BF16_MAJOR ? "f16" : "bf16")
                                     : json_null());
    json_object_set_new(o, "tf32", json_boolean(info->usable && info->major >= CUDA_TF32_MAJOR));
    return o;
}

/* Why there is no CUDA; where a GPU is there, that is said too. NULL: out of memory. */
static char *why_no_cuda(void)
{
    const bool there = file_exists("/dev/nvidia0") || file_exists("/proc/driver/nvidia/version") ||
                       file_exists("/dev/dxg"); /* WSL's */
    return mem_printf("%s%s", there ? "a GPU may be there, but " : "", status_message());
}

/* All of them, and whether one is what `--device auto` takes. */
static json_t *gpu(void)
{
    int toolkit, driver;
    bool used = false;
    CudaCardInfo info;
    json_t *o = json_object(), *devices = json_array();
    const char *no_nccl, *nccl = device_cuda_nccl(&no_nccl);
    char *why = device_cuda_why() == STATUS_OK ? NULL : why_no_cuda();
    for (int i = 0; !why && device_cuda_info(i, &info); i++) {
        used |= info.usable;
        json_array_append_new(devices, card(i, &info));
    }
    device_cuda_versions(&toolkit, &driver);
    json_object_set_new(o, "used", json_boolean(used));
    json_object_set_new(o, "why", why ? json_string(why) : json_null());
    json_object_set_new(o, "CUDA_built_with", cuda_version(toolkit));
    json_object_set_new(o, "CUDA_of_the_driver", cuda_version(driver));
    json_object_set_new(o, "NCCL", nccl ? json_string(nccl) : json_null());
    json_object_set_new(o, "without_NCCL", no_nccl ? json_string(no_nccl) : json_null());
    json_object_set_new(o, "devices", devices);
    mem_free(why);
    return o;
}

/* Where builtin:tiny lies, and whether its weights are there. *missing is the caller's (json_decref). */
static json_t *builtin_model(json_t *missing)
{
    char *path = NULL, *weights = NULL;
    json_t *o = json_object();
    if (model_find("builtin:tiny", &path) == STATUS_OK)
        weights = mem_printf("%s/unet/diffusion_pytorch_model.safetensors", path);
    const bool complete = weights && file_exists(weights);
    json_object_set_new(o, "name", json_string("builtin:tiny"));
    json_object_set_new(o, "found", json_boolean(path != NULL));
    json_object_set_new(o, "folder", path ? json_name(path) : json_null());
    json_object_set_new(o, "complete", json_boolean(complete));
    if (!path)
        json_array_append_new(missing, json_string(status_message()));
    else if (!complete) {
        char *message = mem_printf("builtin:tiny: %s is not there", weights ? weights : "its UNet");
        json_array_append_new(missing, json_string(message ? message : "builtin:tiny"));
        mem_free(message);
    }
    mem_free(path);
    mem_free(weights);
    return o;
}

static Status everything(bool as_json)
{
    json_t *facts = json_object(), *missing = json_array();
    json_object_set_new(facts, "atelier", json_string(ATELIER_VERSION));
    json_object_set_new(facts, "processor", processor());
    json_object_set_new(facts, "memory", memory());
    json_object_set_new(facts, "gpu", gpu());
    json_object_set_new(facts, "several_processes", doctor_libraries());
    json_object_set_new(facts, "libraries", libraries());
    json_object_set_new(facts, "builtin_model", builtin_model(missing));
    const size_t count = json_array_size(missing);
    json_object_set(facts, "missing", as_json ? missing : json_null());
    const Status s = facts_print(facts, as_json);
    for (size_t i = 0; i < count; i++)
        log_error("%s", json_string_value(json_array_get(missing, i)));
    json_decref(missing);
    if (s == STATUS_OK && count == 0 && !as_json)
        printf("\nNothing is missing.\n");
    return s != STATUS_OK || count == 0 ? s : STATUS_FAILED;
}

typedef struct Arguments {
    bool json, mpi;
    int processes;
    const char *gpus, *device;
} Arguments;

static Status parse(int argc, char **argv, Arguments *a, bool *done)
{
    const Option options[] = {
        {.name = "json", .kind = OPTION_FLAG, .out = &a->json, .help = "Prints JSON."},
        {.name = "mpi",
         .kind = OPTION_FLAG,
         .out = &a->mpi,
         .help =
             "From several processes (mpirun -np 4 atelier doctor --mpi; srun and torchrun too): who they "
             "are, and how long the exchanges of a training step take between them."},
        {"processes", OPTION_INT, &a->processes, .value = "N", .min = 2, .max = LAUNCH_MOST,
         .help = "With --mpi: starts so many on this machine."},
        {"gpus", OPTION_TEXT, &a->gpus, .value = "all|N",
         .help = "With --mpi: the same with a GPU for each, all or the first N."},
        {"device", OPTION_TEXT, &a->device, .value = "D",
         .help = "With --mpi: where the blocks lie that travel; auto, cpu or cuda.", .shown = "auto"},
    };
    const Command command = {
        .name = "doctor",
        .usage = "[--json] [--mpi [--processes N]]",
        .summary = "Prints what this machine has, what of it will be used, and what is missing. The exit "
                   "status is 0 if nothing is missing, else 1.",
        .example = "atelier doctor\n"
                   "atelier doctor --mpi --processes 2",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    TRY(options_parse(&command, argc, argv, done));
    if (!*done && !a->mpi && (a->processes || a->gpus || a->device))
        return status_refuse("--processes, --gpus and --device go with --mpi");
    if (!a->device)
        a->device = a->gpus ? "cuda" : DEVICE_AUTO;
    return STATUS_OK;
}

static Status one_of_several(const Arguments *a)
{
    Comm *comm = NULL;
    stop_catch();
    Status s = together_begin(false, &comm);
    if (s == STATUS_OK)
        s = doctor_together(comm, a->device, a->json);
    if (s != STATUS_OK && s != STATUS_INTERRUPTED)
        command_end(s);
    together_end(comm, s);
    return s;
}

#define PATIENCE 30.0 /* seconds: there is nothing to save */

static Status doctor(int argc, char **argv, int *ended)
{
    Arguments a = {0};
    bool done;
    int count;
    TRY(parse(argc, argv, &a, &done));
    if (done)
        return STATUS_OK;
    TRY(launch_count(a.processes, a.gpus, &count));
    if (count > 1 && !launch_was_here())
        return launch(count, argc, argv, PATIENCE, ended);
    *ended = a.mpi ? one_of_several(&a) : everything(a.json);
    return STATUS_OK;
}

int command_doctor(int argc, char **argv)
{
    int ended = STATUS_OK; /* and said */
    const Status s = doctor(argc, argv, &ended);
    return s != STATUS_OK ? command_end(s) : ended;
}
