#include "devices.h"

#include "kernels/base/log.h"
#include "kernels/cuda/cuda.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CUDA "cuda"

static bool is_cuda(const char *word)
{
    return strncmp(word, CUDA, strlen(CUDA)) == 0 && (word[strlen(CUDA)] == ':' || !word[strlen(CUDA)]);
}

/* "2", "GPU-3f1c…": what follows the colon. */
static bool is_number_or_uuid(const char *which)
{
    const bool uuid = strncasecmp(which, "GPU-", 4) == 0;
    const char *digits = which + (uuid ? 4 : 0);
    size_t n = 0;
    while (uuid ? isxdigit((unsigned char)digits[n]) || digits[n] == '-' : isdigit((unsigned char)digits[n]))
        n++;
    return n > 0 && !digits[n];
}

bool device_word_is_good(const char *word)
{
    if (!is_cuda(word))
        return strcmp(word, DEVICE_AUTO) == 0 || strcmp(word, "cpu") == 0;
    return !word[strlen(CUDA)] || is_number_or_uuid(word + strlen(CUDA) + 1);
}

/* Why auto takes the processor, where somebody might wonder: the driver is old or fails, or there are GPUs.
 * That there is none is nothing to say. */
static void say_why_not(void)
{
    static bool said;
    int toolkit, driver;
    device_cuda_versions(&toolkit, &driver);
    const bool old = driver && driver / 1000 < toolkit / 1000;
    const Status why = device_cuda_why(); /* which leaves the message as it is */
    if (!said && (old || why != STATUS_REFUSED))
        log_warn("computing on the processor: %s", status_message());
    said = true;
}

static void store_what_it_can(const Device *dev, DType *stored)
{
    if (*stored != DTYPE_BF16 || !dev->lacks_bf16)
        return;
    *stored = DTYPE_F16;
    log_info("this GPU has no bf16 (those of compute capability 8.0 and later have): f16 takes its place, in "
             "training with a scaled loss");
}

/* What auto means here. */
static Status usual(const char **word)
{
    const char *set = getenv("ATELIER_DEVICE");
    if (!set || !*set)
        return STATUS_OK;
    if (!device_word_is_good(set))
        return status_refuse("ATELIER_DEVICE: `%s` is no device; it is one of " DEVICE_FORMS, set);
    *word = set;
    return STATUS_OK;
}

static int turn;

void device_set_turn(int n)
{
    turn = n;
}

/* cuda without a number means the GPU whose turn it is. */
static const Device *find_gpu(const char *word)
{
    char numbered[32];
    CudaCardInfo info;
    int usable = 0;
    for (int i = 0; device_cuda_info(i, &info); i++)
        usable += info.usable;
    if (turn == 0 || usable == 0 || (is_cuda(word) && word[strlen(CUDA)]))
        return device_cuda(is_cuda(word) ? word : CUDA);
    for (int i = 0, left = turn % usable; device_cuda_info(i, &info); i++)
        if (info.usable && left-- == 0)
            snprintf(numbered, sizeof numbered, CUDA ":%d", i);
    return device_cuda(numbered);
}

static Status find(const char *word, const Device **dev)
{
    if (!device_word_is_good(word))
        return status_refuse("`%s` is no device; it is one of " DEVICE_FORMS, word);
    if (strcmp(word, DEVICE_AUTO) == 0)
        TRY(usual(&word));
    const Device *gpu = strcmp(word, "cpu") != 0 ? find_gpu(word) : NULL;
    if (!gpu && is_cuda(word))
        return status_refuse("%s: %s", word, status_message());
    if (!gpu && strcmp(word, DEVICE_AUTO) == 0)
        say_why_not();
    *dev = gpu ? gpu : device_cpu();
    return STATUS_OK;
}

Status device_choose_tf32(const Device *dev, DType stored, bool *tf32)
{
    static bool said;
    if (*tf32 && stored != DTYPE_F32)
        return status_refuse("is a way to multiply f32, and %s is stored, which tensor cores multiply as it "
                             "is: leave it out, or set the dtype to f32",
                             dtype_name(stored));
    if (!*tf32 || dev->has_tf32)
        return STATUS_OK;
    if (!said)
        log_info("%s has no TF32 (GPUs of compute capability 8.0 and later have): f32 is multiplied as it is",
                 dev->host_memory ? "the processor" : "this GPU");
    said = true;
    *tf32 = false;
    return STATUS_OK;
}

Status device_choose(const char *word, DType *stored, const Device **dev)
{
    TRY(find(word, dev));
    store_what_it_can(*dev, stored);
    return STATUS_OK;
}
