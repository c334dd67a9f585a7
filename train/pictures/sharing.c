/* Pieces of work shared by processes (sharing.h): piece i is byte i of the file, under an "open file
 * description" lock, which, unlike a record lock, is not lost when some other part of the process closes the
 * file. Who is there at all holds the byte PRESENT with others; the last one removes the file, and whoever
 * had opened it before that and locked it after finds another under its name, or none, and opens anew. */
#include "sharing.h"

#include "kernels/base/file.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME ".atelier-sharing" /* hidden, so that it is no picture */
#define PRESENT (1 << 30)            /* above all pieces */
#define TRIES 1000                   /* to open it while another removes it: ten seconds */
#define WAIT_MICROSECONDS 10000

struct Sharing {
    char *path;
    int fd; /* -1: no locks */
};

/* length 0: all pieces, and PRESENT. */
static bool lock(const Sharing *s, short how, int first, int length)
{
    struct flock region = {.l_type = how, .l_whence = SEEK_SET, .l_start = first, .l_len = length};
    return fcntl(s->fd, F_OFD_SETLK, &region) == 0 || (errno != EAGAIN && errno != EACCES);
}

/* Whether the open file still has its name. */
static bool is_there(const Sharing *s)
{
    struct stat open, named;
    return fstat(s->fd, &open) == 0 && stat(s->path, &named) == 0 && open.st_dev == named.st_dev &&
           open.st_ino == named.st_ino;
}

/* False: another one was removing the file. */
static bool join(Sharing *s)
{
    s->fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (s->fd < 0 || (lock(s, F_RDLCK, PRESENT, 1) && is_there(s)))
        return true;
    close(s->fd);
    s->fd = -1;
    return false;
}

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
    for (int i = 0; i < TRIES && !join(s); i++)
        usleep(WAIT_MICROSECONDS);
    *out = s;
    return STATUS_OK;
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
    if (s->fd >= 0 && lock(s, F_WRLCK, 0, 0)) /* nobody else is there */
        unlink(s->path);
    if (s->fd >= 0)
        close(s->fd);
    mem_free(s->path);
    mem_free(s);
}
