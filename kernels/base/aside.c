#include "aside.h"

#include "file.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char mark[] = ".atelier-";

char *path_aside(const char *path, const char *what)
{
    return mem_printf("%s%s%s-%ld", path, mark, what, (long)getpid());
}

bool name_is_aside(const char *name)
{
    const char *at = strstr(name, mark), *number = at ? strrchr(at + strlen(mark), '-') : NULL;
    return number && number[1] && number[1 + strspn(number + 1, "0123456789")] == 0;
}

/* Taking hold ------------------------------------------------------------------------------------------ */

#define TRIES 20 /* a hundredth of a second apart: whoever removes leftovers holds them for less */

/* Between being opened and being locked it may have been removed, or got its final name. */
static bool is_at(int fd, const char *path)
{
    struct stat opened, named;
    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

/* −1: errno says why. */
static int take(const char *aside, int flags)
{
    for (int i = 0; i < TRIES; i++) {
        if (flags & O_DIRECTORY && mkdir(aside, 0777) != 0 && errno != EEXIST)
            return -1;
        const int fd = open(aside, flags | O_CLOEXEC, 0666);
        if (fd < 0)
            return -1;
        if ((flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) && is_at(fd, aside))
            return fd;
        close(fd);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    errno = EBUSY;
    return -1;
}

Status aside_file(const char *aside, const char *path, int *hold)
{
    *hold = take(aside, O_RDWR | O_CREAT);
    struct stat st;
    if (*hold >= 0 && fstat(*hold, &st) == 0 && (st.st_size == 0 || ftruncate(*hold, 0) == 0))
        return STATUS_OK;
    const Status s = file_failed(path, "cannot be written");
    if (*hold >= 0)
        close(*hold);
    *hold = -1;
    return s;
}

Status aside_folder(const char *aside, const char *path, int *hold)
{
    *hold = take(aside, O_RDONLY | O_DIRECTORY);
    return *hold >= 0 ? STATUS_OK : file_failed(path, "a folder beside it cannot be made");
}

/* Cleaning --------------------------------------------------------------------------------------------- */

static void remove_if_left(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !(S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)))
        return;
    const bool folder = S_ISDIR(st.st_mode);
    const int fd = open(path, (folder ? O_RDONLY | O_DIRECTORY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (folder)
            dir_remove(path);
        else
            unlink(path);
    }
    close(fd);
}

/* of: the file's name that they belong to; NULL: any. What cannot be removed takes room and does no harm. */
static void clean(const char *folder, const char *of)
{
    char **names = NULL;
    int count = 0;
    const size_t n = of ? strlen(of) : 0;
    if (dir_list(folder, &names, &count) != STATUS_OK)
        return;
    for (int i = 0; i < count; i++) {
        if (!name_is_aside(names[i]) ||
            (of && (strncmp(names[i], of, n) != 0 || strncmp(names[i] + n, mark, strlen(mark)) != 0)))
            continue;
        char *path = path_join(folder, names[i]);
        if (path)
            remove_if_left(path);
        mem_free(path);
    }
    dir_list_free(names, count);
}

void aside_clean(const char *path)
{
    char *folder = path_parent(path);
    if (folder)
        clean(folder, path_base(path));
    mem_free(folder);
}

void aside_clean_folder(const char *folder)
{
    clean(folder, NULL);
}
