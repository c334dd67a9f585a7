/* Sockets between two processes: made, and read and written whole while somebody watches the clock. */
#ifndef ATL_COMM_LINK_H
#define ATL_COMM_LINK_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Asked some twenty times a second while a call waits: OK, go on; else the call ends with it. */
typedef Status (*LinkWaiting)(void *arg);
typedef struct LinkWait {
    LinkWaiting waiting;
    void *arg;
} LinkWait;

#define LINK_ADDRESSES 512 /* of a list of addresses, separated by blanks */

/* A listening socket for any address of this machine; *port 0: the system chooses, and says which. */
Status link_listen(int *port, int *fd);
/* This machine's addresses besides the loopback's, as far as they fit. */
void link_own_addresses(char *out, size_t size);
/* The next who connects; −1: nobody has within a twentieth of a second. */
int link_accept(int listening);
/* Tries each of the addresses (names or numbers) in turn once. −1: none answers; why says what the last one
 * did. */
int link_connect(const char *addresses, int port, const char **why);
bool link_has_ended(int fd); /* the other side is gone, and nothing of it is left to read */
void link_close(int *fd);    /* −1 allowed; *fd becomes −1 */

/* Everything or a failure. An end on the other side is LINK_ENDED: no message is set. */
#define LINK_ENDED ((Status)3)
Status link_write(int fd, const void *data, size_t bytes, const LinkWait *w);
Status link_read(int fd, void *data, size_t bytes, const LinkWait *w);

#endif
