/* What the processor has as a device besides arithmetic: memory that is the host's, and a queue that is none,
 * for everything has been computed when its call returns. */
#include "kernels/base/mem.h"
#include "kernels/device.h"

#include <math.h>
#include <string.h>

static Status cpu_put(void *to, const void *host, size_t bytes)
{
    memcpy(to, host, bytes);
    return STATUS_OK;
}

static Status cpu_get(void *host, const void *from, size_t bytes)
{
    memcpy(host, from, bytes);
    return STATUS_OK;
}

static Status cpu_clear(void *at, size_t bytes)
{
    memset(at, 0, bytes);
    return STATUS_OK;
}

static Status cpu_settle(void)
{
    return STATUS_OK;
}

/* NaN and infinity have all bits of the exponent set. */
static Status cpu_first_not_finite(const Tensor *t, int64_t *index, double *value)
{
    const int64_t n = tensor_count(t);
    int64_t i = n;
    if (t->dtype == DTYPE_F32) {
        const uint32_t *x = t->data;
        for (i = 0; i < n && (x[i] & 0x7f800000u) != 0x7f800000u;)
            i++;
    } else if (t->dtype == DTYPE_BF16 || t->dtype == DTYPE_F16) {
        const uint16_t *x = t->data, exponent = t->dtype == DTYPE_BF16 ? 0x7f80 : 0x7c00;
        for (i = 0; i < n && (x[i] & exponent) != exponent;)
            i++;
    }
    *index = i < n ? i : -1;
    *value = i < n ? tensor_at(t, i) : 0;
    return STATUS_OK;
}

void device_cpu_memory(Device *d)
{
    d->alignment = 64;
    d->host_memory = true;
    d->memory_new = mem_pages;
    d->memory_free = mem_pages_free;
    d->put = cpu_put;
    d->get = cpu_get;
    d->clear = cpu_clear;
    d->settle = cpu_settle;
    d->first_not_finite = cpu_first_not_finite;
}
