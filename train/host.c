#include "host.h"

#include <omp.h>

HostThread host_enter(void)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* which libc has ready: nothing to free */
    return (HostThread){omp_get_max_threads(), omp_get_dynamic(), uselocale(c)};
}

void host_leave(const HostThread *t)
{
    omp_set_num_threads(t->threads);
    omp_set_dynamic(t->dynamic);
    uselocale(t->locale);
}

locale_t host_call(const HostThread *t)
{
    return uselocale(t->locale);
}

void host_back(locale_t ours)
{
    uselocale(ours);
}
