/* The card it claims to be: ATELIER_STAND_IN_ARCH, a small one of that generation with four processors.
 * ATELIER_STAND_IN_CARDS=N: there are N of them, for processes that take one each. */
#include "card.h"

#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KB ((size_t)1024)
#define PROCESSORS 4

/* Limits by compute capability: CUDA C++ Programming Guide, "Technical Specifications per Compute
 * Capability". */
static const Card CARDS[] = {
    /* arch  shared of a processor, of a block   threads of a processor, blocks */
    {75, 64 * KB, 64 * KB, 1024, 16},   {80, 164 * KB, 163 * KB, 2048, 32},
    {86, 100 * KB, 99 * KB, 1536, 16},  {89, 100 * KB, 99 * KB, 1536, 24},
    {90, 228 * KB, 227 * KB, 2048, 32}, {100, 228 * KB, 227 * KB, 2048, 32},
    {120, 100 * KB, 99 * KB, 1536, 24},
};

const Card *card(void)
{
    static const Card *chosen;
    if (!chosen) {
        const char *word = getenv("ATELIER_STAND_IN_ARCH");
        const int arch = word ? atoi(word) : 86;
        for (size_t i = 0; i < sizeof CARDS / sizeof *CARDS; i++)
            if (CARDS[i].arch == arch)
                chosen = &CARDS[i];
        if (!chosen) {
            fprintf(stderr, "stand-in: ATELIER_STAND_IN_ARCH=%s is none of 75, 80, 86, 89, 90, 100, 120\n",
                    word);
            abort();
        }
    }
    return chosen;
}

int stand_in_arch(void)
{
    return card()->arch;
}

size_t card_memory(void)
{
    const char *word = getenv("ATELIER_STAND_IN_MEMORY"); /* bytes */
    return word ? (size_t)strtoull(word, NULL, 0) : (size_t)8 << 30;
}

static _Thread_local int current; /* each thread begins with the first */

static int count_cards(void)
{
    const char *word = getenv("ATELIER_STAND_IN_CARDS");
    return word ? atoi(word) : 1;
}

bool card_is_current(void)
{
    static int taken = -1; /* the one that the process works on */
    if (taken < 0)
        taken = current;
    return taken == current;
}

static bool is_card(int device)
{
    return device >= 0 && device < count_cards();
}

cudaError_t cudaGetDeviceCount(int *count)
{
    ENTER();
    *count = count_cards();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    ENTER();
    if (!is_card(device))
        return runtime_error(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned int flags)
{
    ENTER();
    (void)flags;
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned int device_flags, unsigned int flags)
{
    ENTER();
    (void)device_flags, (void)flags;
    return runtime_error(is_card(device) ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    ENTER();
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    ENTER();
    if (!is_card(device))
        return runtime_error(cudaErrorInvalidDevice);
    const Card *c = card();
    *prop = (cudaDeviceProp){.totalGlobalMem = card_memory(),
                             .sharedMemPerBlock = 48 * KB,
                             .regsPerBlock = 65536,
                             .warpSize = STAND_IN_WARP,
                             .maxThreadsPerBlock = 1024,
                             .maxThreadsDim = {1024, 1024, 64},
                             .maxGridSize = {0x7fffffff, 65535, 65535},
                             .totalConstMem = 64 * KB,
                             .major = c->arch / 10,
                             .minor = c->arch % 10,
                             .multiProcessorCount = PROCESSORS,
                             .canMapHostMemory = 1,
                             .concurrentKernels = 1,
                             .pciBusID = 1 + device,
                             .asyncEngineCount = 2,
                             .unifiedAddressing = 1,
                             .memoryBusWidth = 128,
                             .l2CacheSize = 2 << 20,
                             .maxThreadsPerMultiProcessor = c->threads,
                             .sharedMemPerMultiprocessor = c->shared_processor,
                             .regsPerMultiprocessor = 65536,
                             .managedMemory = 1,
                             .sharedMemPerBlockOptin = c->shared_block,
                             .reservedSharedMemPerBlock = c->arch >= 80 ? 1 * KB : 0,
                             .maxBlocksPerMultiProcessor = c->blocks};
    snprintf(prop->name, sizeof prop->name, "Stand-in sm_%d", c->arch);
    memcpy(prop->uuid.bytes, "atelier stand-in", 16);
    prop->uuid.bytes[15] = (char)(prop->uuid.bytes[15] + device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    ENTER();
    if (!is_card(device))
        return runtime_error(cudaErrorInvalidDevice);
    snprintf(id, (size_t)length, "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    const cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e != cudaSuccess)
        return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrMaxRegistersPerBlock:
        *value = p.regsPerBlock;
        return cudaSuccess;
    case cudaDevAttrClockRate: /* kHz */
        *value = 1500000;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrKernelExecTimeout:
    case cudaDevAttrIntegrated:
    case cudaDevAttrComputeMode:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrMemoryClockRate:
        *value = 7000000;
        return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        return cudaSuccess;
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *value = p.regsPerMultiprocessor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        return cudaSuccess;
    }
    return runtime_error(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    ENTER();
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    ENTER();
    *version = CUDART_VERSION;
    return cudaSuccess;
}
