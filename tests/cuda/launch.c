/* Kernels: which there are, and launching them. */
#include "runtime.h"

#include "card.h"

#include <stdlib.h>
#include <string.h>

#define KERNELS 4096 /* a power of two */
#define SHARED_UNASKED ((size_t)48 << 10)

static StandInKernel kernels[KERNELS]; /* by the hash of their function */

static StandInKernel *find(const void *function)
{
    size_t at = (size_t)((uintptr_t)function * 0x9e3779b97f4a7c15u >> 40) % KERNELS;
    for (size_t tries = 0; tries < KERNELS; tries++, at = (at + 1) % KERNELS)
        if (kernels[at].function == function || !kernels[at].function)
            return &kernels[at];
    abort();
}

void stand_in_register(const char *name, const void *function, StandInCall call, int count,
                       const size_t *sizes)
{
    StandInKernel *k = find(function);
    if (!k->function)
        *k =
            (StandInKernel){.name = name, .function = function, .call = call, .count = count, .sizes = sizes};
}

/* Bytes of pointers to a kernel's arguments, and of them all with what they point to. */
static size_t pointer_bytes(const StandInKernel *k)
{
    return ((size_t)k->count * sizeof(void *) + 63) / 64 * 64;
}
static size_t argument_bytes(const StandInKernel *k)
{
    size_t bytes = pointer_bytes(k);
    for (int i = 0; i < k->count; i++)
        bytes += (k->sizes[i] + 63) / 64 * 64;
    return bytes;
}

bool launch_argument(void **arguments, const StandInKernel *k, const void *p)
{
    return (const char *)p >= (char *)arguments && (const char *)p < (char *)arguments + argument_bytes(k);
}

/* What the arguments hold, in one piece of memory behind pointers to them. */
static void **copy_arguments(const StandInKernel *k, void **arguments)
{
    void **copy = aligned_alloc(64, argument_bytes(k) + 64);
    if (!copy)
        abort();
    char *at = (char *)copy + pointer_bytes(k);
    for (int i = 0; i < k->count; i++) {
        copy[i] = at;
        memcpy(at, arguments[i], k->sizes[i]);
        at += (k->sizes[i] + 63) / 64 * 64;
    }
    return copy;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t s)
{
    ENTER_ON_CARD();
    const StandInKernel *k = find(function);
    if (!k->function)
        return runtime_error(cudaErrorInvalidDeviceFunction);
    if ((uint64_t)block.x * block.y * block.z > 1024 || block.x == 0 || block.y == 0 || block.z == 0 ||
        block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 ||
        grid.z > 65535)
        return runtime_error(cudaErrorInvalidConfiguration);
    if (shared > (k->shared_most ? k->shared_most : SHARED_UNASKED))
        return runtime_error(cudaErrorInvalidValue);
    Op *o = op_new(OP_KERNEL);
    o->kernel = k;
    o->grid = grid;
    o->block = block;
    o->shared = shared;
    o->arguments = copy_arguments(k, arguments);
    return queue_add(s, o);
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    ENTER_ON_CARD();
    StandInKernel *k = find(function);
    if (!k->function)
        return runtime_error(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || (size_t)value > card()->shared_block)
            return runtime_error(cudaErrorInvalidValue);
        k->shared_most = (size_t)value;
    }
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function)
{
    ENTER_ON_CARD();
    const StandInKernel *k = find(function);
    if (!k->function)
        return runtime_error(cudaErrorInvalidDeviceFunction);
    *attributes = (cudaFuncAttributes){.maxThreadsPerBlock = 1024,
                                       .numRegs = 64,
                                       .ptxVersion = card()->arch,
                                       .binaryVersion = card()->arch,
                                       .maxDynamicSharedSizeBytes =
                                           (int)(k->shared_most ? k->shared_most : SHARED_UNASKED)};
    return cudaSuccess;
}
