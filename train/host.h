/* What of the thread that calls the library is changed while it works, and put back: OpenMP's settings, which
 * contexts set (kernels/ctx.c), and the locale. In C's, numbers are written with a point, whatever the host
 * program's language has. */
#ifndef ATL_HOST_H
#define ATL_HOST_H

#include <locale.h>

typedef struct HostThread {
    int threads, dynamic;
    locale_t locale;
} HostThread;

HostThread host_enter(void);
void host_leave(const HostThread *t);
/* Around a call of the host's own function: in its locale. Returns what host_back takes. */
locale_t host_call(const HostThread *t);
void host_back(locale_t ours);

#endif
