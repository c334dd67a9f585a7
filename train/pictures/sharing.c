/* Pieces of work shared by processes (sharing.h): piece i is byte i of the file, under an "open file
 * description" lock, which, unlike a record lock, is not lost when some other part of the process closes the
 * file. */
#include "sharing.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FILE_NAME ".atelier-sharing" /* hidden, so that it is no picture */

struct Sharing {
    char *path;
    int fd; /* -1: no locks */
};

Status sharing_open(const char *folder, Sharing **out)
{
    *out = NULL;
    Sharing *s = mem_calloc(1, sizeof *s);
    if (!s)
        return STATUS_FAILED;
    s->path = path_join(folder, FILE_NAME);
    if (!s->path) {
        mem_free(s);
        return STATUS_FAILED;
    }
    s->fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    *out = s;
    return STATUS_OK;
}

/* length 0: all pieces. */
static bool lock(const Sharing *s, short how, int first, int length)
{
    struct flock region = {.l_type = how, .l_whence = SEEK_SET, .l_start = first, .l_len = length};
    return fcntl(s->fd, F_OFD_SETLK, &region) == 0 || (errno != EAGAIN && errno != EACCES);
}

bool sharing_take(Sharing *s, int i)
{
    return s->fd < 0 || lock(s, F_WRLCK, i, 1);
}

void sharing_leave(Sharing *s, int i)
{
    if (s->fd >= 0)
        lock(s, F_UNLCK, i, 1);
}

void sharing_close(Sharing *s)
{
    if (!s)
        return;
    if (s->fd >= 0 && lock(s, F_WRLCK, 0, 0)) /* nobody works at a piece */
        unlink(s->path);
    if (s->fd >= 0)
        close(s->fd);
    mem_free(s->path);
    mem_free(s);
}
