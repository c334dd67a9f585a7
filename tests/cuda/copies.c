/* Copies. From pageable memory they are taken at the call; from pinned memory when they run, so that what
 * overwrites it before then shows. A copy to pageable memory has happened on return. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

static bool direction_fits(enum cudaMemcpyKind kind, bool from_device, bool to_device)
{
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !from_device && !to_device;
    case cudaMemcpyHostToDevice:
        return !from_device && to_device;
    case cudaMemcpyDeviceToHost:
        return from_device && !to_device;
    case cudaMemcpyDeviceToDevice:
        return from_device && to_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t asked)
{
    ENTER();
    if (bytes == 0)
        return cudaSuccess;
    bool to_whole, from_whole;
    const MemoryKind target = memory_kind(to, bytes, &to_whole),
                     source = memory_kind(from, bytes, &from_whole);
    if (!to || !from || !to_whole || !from_whole)
        return runtime_error(cudaErrorInvalidValue);
    if (!direction_fits(kind, source == MEMORY_DEVICE, target == MEMORY_DEVICE))
        return runtime_error(cudaErrorInvalidMemcpyDirection);
    cudaStream_t s = queue_stream(asked);
    if (!s)
        return runtime_error(cudaErrorInvalidResourceHandle);
    Op *o = op_new(OP_COPY);
    o->to = to;
    o->from = from;
    o->bytes = bytes;
    if (source == MEMORY_PAGEABLE && !s->capture) {
        o->own = malloc(bytes);
        if (!o->own)
            abort();
        memcpy(o->own, from, bytes);
    }
    const bool capturing = s->capture;
    const cudaError_t e = queue_add(asked, o);
    if (e == cudaSuccess && target == MEMORY_PAGEABLE && !capturing)
        return cudaStreamSynchronize(asked);
    return e;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    ENTER();
    const cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    return e == cudaSuccess ? cudaStreamSynchronize(NULL) : e;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s)
{
    ENTER();
    if (bytes == 0)
        return cudaSuccess;
    bool whole;
    if (memory_kind(to, bytes, &whole) == MEMORY_PAGEABLE || !whole)
        return runtime_error(cudaErrorInvalidValue);
    Op *o = op_new(OP_SET);
    o->to = to;
    o->value = value;
    o->bytes = bytes;
    return queue_add(s, o);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    return cudaMemsetAsync(to, value, bytes, NULL);
}
