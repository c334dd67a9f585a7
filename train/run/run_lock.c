#include "run_lock.h"

#include "kernels/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The process that holds a flock on the file, from lines "1: FLOCK ADVISORY WRITE 3990 fe:00:5456798 0 EOF"
 * of /proc/locks; 0: not known. */
static long holder(int fd)
{
    struct stat st;
    FILE *f = fopen("/proc/locks", "re");
    char line[256];
    long found = 0;
    while (f && fstat(fd, &st) == 0 && fgets(line, sizeof line, f)) {
        long pid;
        unsigned major_number, minor_number;
        unsigned long inode;
        if (sscanf(line, "%*d: FLOCK %*s %*s %ld %x:%x:%lu", &pid, &major_number, &minor_number, &inode) ==
                4 &&
            inode == st.st_ino && makedev(major_number, minor_number) == st.st_dev)
            found = pid;
    }
    if (f)
        fclose(f);
    return found;
}

static Status refuse(const char *path, long pid)
{
    char who[64] = "another process";
    if (pid > 0)
        snprintf(who, sizeof who, "another process, number %ld,", pid);
    return status_refuse("%s: %s is training here; wait for it, or set another output.dir", path, who);
}

Status run_lock(const char *path, int *lock)
{
    *lock = -1;
    TRY(dir_make(path));
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        const Status s = refuse(path, holder(fd));
        close(fd);
        return s;
    }
    *lock = fd;
    return STATUS_OK;
}

void run_unlock(int lock)
{
    if (lock >= 0)
        close(lock);
}
