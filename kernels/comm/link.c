#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 50     /* between two questions whether to wait on */
#define CONNECTING_MS 2000 /* an address that does not answer is left for the next */
#define QUEUE 4096

static Status failed(const char *what)
{
    return status_fail("%s between processes: %s", what, strerror(errno));
}

/* Small messages go out at once: the next one waits for their answer. */
static void settle_socket(int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Making ----------------------------------------------------------------------------------------------- */

/* Both kinds of addresses where the system has both. */
static int listening_socket(int family, int port)
{
    const int on = 1, off = 0;
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    const int bound = family == AF_INET6 ? bind(fd, (struct sockaddr *)&six, sizeof six)
                                         : bind(fd, (struct sockaddr *)&four, sizeof four);
    if (bound == 0 && listen(fd, QUEUE) == 0)
        return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

Status link_listen(int *port, int *fd)
{
    *fd = listening_socket(AF_INET6, *port);
    if (*fd < 0 && errno != EADDRINUSE)
        *fd = listening_socket(AF_INET, *port);
    if (*fd < 0)
        return status_refuse("port %d cannot be opened for the other processes: %s; another MASTER_PORT",
                             *port, strerror(errno));
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (getsockname(*fd, (struct sockaddr *)&at, &size) != 0)
        return failed("a socket");
    *port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                           : ((struct sockaddr_in *)&at)->sin_port);
    return STATUS_OK;
}

void link_own_addresses(char *out, size_t size)
{
    struct ifaddrs *all = NULL;
    size_t used = 0;
    out[0] = 0;
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        char text[NI_MAXHOST];
        const int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        if ((i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP) ||
            (family != AF_INET && family != AF_INET6))
            continue;
        const socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if (getnameinfo(i->ifa_addr, length, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0 ||
            strchr(text, '%')) /* link-local: means something on this machine alone */
            continue;
        const size_t n = strlen(text);
        if (used + n + 2 > size)
            break;
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? " " : "", text);
    }
    freeifaddrs(all);
}

int link_accept(int listening)
{
    struct pollfd p = {.fd = listening, .events = POLLIN};
    if (poll(&p, 1, PATIENCE_MS) <= 0)
        return -1;
    const int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        settle_socket(fd);
    return fd;
}

static int connect_within(const struct addrinfo *a)
{
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    settle_socket(fd);
    int error = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof error;
        error = ETIMEDOUT;
        if (poll(&p, 1, CONNECTING_MS) > 0)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

static int connect_one(const char *address, int port, const char **why)
{
    char service[16];
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    snprintf(service, sizeof service, "%d", port);
    const int unknown = getaddrinfo(address, service, &hints, &list);
    if (unknown) {
        *why = gai_strerror(unknown);
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_within(a);
    if (fd < 0)
        *why = strerror(errno);
    freeaddrinfo(list);
    return fd;
}

int link_connect(const char *addresses, int port, const char **why)
{
    char list[LINK_ADDRESSES], *rest = list;
    int fd = -1;
    *why = "it has no address";
    snprintf(list, sizeof list, "%s", addresses);
    for (char *one; fd < 0 && (one = strsep(&rest, " "));)
        if (*one)
            fd = connect_one(one, port, why);
    return fd;
}

bool link_has_ended(int fd)
{
    char byte;
    const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void link_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Reading and writing ---------------------------------------------------------------------------------- */

/* Until something can be done, or there is a reason not to wait on. */
static Status wait_for(int fd, short events, const LinkWait *w)
{
    struct pollfd p = {.fd = fd, .events = events};
    while (poll(&p, 1, PATIENCE_MS) <= 0)
        if (w->waiting)
            TRY(w->waiting(w->arg));
    return STATUS_OK;
}

static bool ended(void)
{
    return errno == EPIPE || errno == ECONNRESET || errno == ETIMEDOUT || errno == EHOSTUNREACH ||
           errno == ENETUNREACH;
}

Status link_write(int fd, const void *data, size_t bytes, const LinkWait *w)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = send(fd, (const char *)data + done, bytes - done, MSG_NOSIGNAL);
        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            TRY(wait_for(fd, POLLOUT, w));
        else if (errno != EINTR)
            return ended() ? LINK_ENDED : failed("sending");
    }
    return STATUS_OK;
}

Status link_read(int fd, void *data, size_t bytes, const LinkWait *w)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = recv(fd, (char *)data + done, bytes - done, 0);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            return LINK_ENDED;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            TRY(wait_for(fd, POLLIN, w));
        else if (errno != EINTR)
            return ended() ? LINK_ENDED : failed("receiving");
    }
    return STATUS_OK;
}
