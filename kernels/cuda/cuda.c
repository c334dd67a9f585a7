/* GPUs as devices: which there are, why there is none, and the table of the one that is computed on. */
#include "cuda.h"
#include "kernels/cuda/base/families.h"
#include "kernels/cuda/base/lt.h"
#include "kernels/cuda/base/queue.h"
#include "nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Device device;
static CudaCard card;
static char chip[256];
static int chosen = -1; /* its number */

const Device *cuda_device(void)
{
    return &device;
}

void cuda_own(size_t bytes)
{
    device.own_bytes += bytes;
    cuda_owned(bytes);
}

const CudaCard *cuda_card(void)
{
    return &card;
}

/* Which there are --------------------------------------------------------------------------------------- */

/* nvidia-smi numbers GPUs by their place on the bus, CUDA by speed unless it is told. */
static int count_of(cudaError_t *e)
{
    int n = 0;
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
    *e = cudaGetDeviceCount(&n);
    if (*e == cudaSuccess)
        return n;
    (void)cudaGetLastError();
    return 0;
}

int device_cuda_count(void)
{
    cudaError_t e;
    return count_of(&e);
}

void device_cuda_versions(int *toolkit, int *driver)
{
    *toolkit = CUDART_VERSION;
    if (cudaDriverGetVersion(driver) != cudaSuccess)
        *driver = 0;
}

Status device_cuda_why(void)
{
    cudaError_t e;
    int toolkit, driver;
    if (count_of(&e) > 0)
        return STATUS_OK;
    device_cuda_versions(&toolkit, &driver);
    if (driver == 0)
        return status_refuse(
            "no NVIDIA driver answers here. Install the driver (nvidia-smi then lists the GPUs); in "
            "a container it has to be passed in (--gpus all)");
    if (e == cudaErrorInsufficientDriver)
        return status_refuse(
            "the NVIDIA driver is too old: it knows CUDA up to %d.%d, this program was built with "
            "%d.%d. Update the driver, or build with an older toolkit",
            driver / 1000, driver % 1000 / 10, toolkit / 1000, toolkit % 1000 / 10);
    if (e == cudaErrorNoDevice || e == cudaSuccess)
        return status_refuse("the NVIDIA driver finds no GPU%s",
                             getenv("CUDA_VISIBLE_DEVICES") ? " (CUDA_VISIBLE_DEVICES is set)" : "");
    return status_fail("the NVIDIA driver failed: %s (%s). nvidia-smi may say more", cudaGetErrorString(e),
                       cudaGetErrorName(e));
}

/* Code was compiled for these: 75 runs on 7.5 and later 7.x, and the newest also on whatever comes after it.
 */
static bool has_code_for(int major, int minor)
{
    static const int compiled[] = {ATL_CUDA_ARCHITECTURES};
    const int n = (int)(sizeof compiled / sizeof *compiled), wanted = major * 10 + minor;
    for (int i = 0; i < n; i++)
        if (compiled[i] / 10 == major && compiled[i] <= wanted)
            return true;
    return wanted >= compiled[n - 1];
}

static void uuid_text(const cudaUUID_t *u, char text[48])
{
    char *at = text + sprintf(text, "GPU-");
    for (int i = 0; i < 16; i++)
        at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                      (unsigned char)u->bytes[i]);
}

bool device_cuda_info(int i, CudaCardInfo *info)
{
    struct cudaDeviceProp p;
    memset(info, 0, sizeof *info);
    if (i < 0 || i >= device_cuda_count() || cudaGetDeviceProperties(&p, i) != cudaSuccess)
        return false;
    snprintf(info->name, sizeof info->name, "%s", p.name);
    uuid_text(&p.uuid, info->uuid);
    snprintf(info->pci, sizeof info->pci, "%04x:%02x:%02x.0", p.pciDomainID, p.pciBusID, p.pciDeviceID);
    info->major = p.major;
    info->minor = p.minor;
    info->processors = p.multiProcessorCount;
    info->memory = p.totalGlobalMem;
    info->usable = has_code_for(p.major, p.minor);
    if (i == chosen)
        (void)cudaMemGetInfo(&info->free, &p.totalGlobalMem);
    if (!info->usable)
        snprintf(info->why, sizeof info->why,
                 "this program has no code for compute capability %d.%d: build it with "
                 "-DATELIER_CUDA_ARCHITECTURES"
                 "=%d%d, or with a toolkit that still knows it",
                 p.major, p.minor, p.major, p.minor);
    return true;
}

/* The one ----------------------------------------------------------------------------------------------- */

static void fill_in_table(void)
{
    cuda_queue_table(&device);
    cuda_finite_table(&device);
    cuda_linear_table(&device);
    cuda_kronecker_table(&device);
    cuda_conv_table(&device);
    cuda_norm_table(&device);
    cuda_layer_norm_table(&device);
    cuda_pointwise_table(&device);
    cuda_attention_table(&device);
    cuda_shape_table(&device);
    cuda_embedding_table(&device);
    cuda_loss_table(&device);
    cuda_optimizer_table(&device);
    device.name = "cuda";
    device.transport = &transport_nccl;
}

/* The number of the GPU that `name` means, -1: there is none (message set). */
static int number_of(const char *name)
{
    CudaCardInfo info;
    const char *which = strchr(name, ':') ? strchr(name, ':') + 1 : "";
    char *end;
    const long number = strtol(which, &end, 10);
    char why[sizeof info.name + sizeof info.why + 4] = "";
    for (int i = 0; device_cuda_info(i, &info); i++) {
        const bool meant = !*which || (*end ? !strncasecmp(info.uuid, which, strlen(which)) : number == i);
        if (meant && info.usable)
            return i;
        if (meant && !why[0])
            snprintf(why, sizeof why, "%s: %s", info.name, info.why);
    }
    if (why[0])
        (void)status_refuse("%s", why);
    else
        (void)status_refuse("there is no GPU %s: atelier doctor lists those that there are", which);
    return -1;
}

/* What code takes when it is loaded, kernels' and libraries', and graphs: between the plan and the end of the
 * first step. Not measured; scripts/gpu tells. */
#define LOADED_BYTES ((size_t)100000000)

static Status take(int number)
{
    struct cudaDeviceProp p;
    TRY(cuda_status(cudaSetDevice(number), "starting the GPU"));
    TRY(cuda_status(cudaGetDeviceProperties(&p, number), "asking what the GPU is"));
    snprintf(chip, sizeof chip, "%.160s, %d.%d, %d processors, CUDA %d.%d", p.name, p.major, p.minor,
             p.multiProcessorCount, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    device.chip = chip;
    device.lacks_bf16 = p.major < CUDA_BF16_MAJOR;
    device.has_tf32 = p.major >= CUDA_TF32_MAJOR;
    device.own_bytes = lt_workspace_bytes(p.major) + LOADED_BYTES;
    card = (CudaCard){number, p.major, p.minor, p.multiProcessorCount, p.sharedMemPerBlockOptin};
    fill_in_table();
    chosen = number;
    return STATUS_OK;
}

const Device *device_cuda(const char *name)
{
    if (device_cuda_why() != STATUS_OK)
        return NULL;
    const int number = chosen >= 0 && !strchr(name, ':') ? chosen : number_of(name);
    if (number < 0)
        return NULL;
    if (chosen >= 0 && number != chosen) {
        (void)status_refuse("a process computes on one GPU, and this one on GPU %d already", chosen);
        return NULL;
    }
    return chosen >= 0 || take(number) == STATUS_OK ? &device : NULL;
}
