#include "run_folder.h"

#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "train/pictures/owned.h"
#include "train/pictures/preview.h"
#include "checkpoint_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LAST_LINE 16384 /* bytes: the last line of a log is far shorter */

bool run_exists(const char *path)
{
    char *last = NULL, *log = path_in(path, "log.jsonl");
    const bool begun = !log || file_size(log) > 0;
    const bool found = begun || checkpoint_last(path, CHECKPOINT_ANY, &last) != STATUS_OK || last;
    mem_free(log);
    mem_free(last);
    return found;
}

bool run_finished(const char *path, int64_t *steps)
{
    char *file = path_in(path, "log.jsonl");
    FILE *f = file ? fopen(file, "rb") : NULL;
    mem_free(file);
    if (!f)
        return false;
    char text[LAST_LINE + 1];
    fseek(f, 0, SEEK_END);
    const long size = ftell(f), from = size > LAST_LINE ? size - LAST_LINE : 0;
    fseek(f, from, SEEK_SET);
    const size_t n = fread(text, 1, LAST_LINE, f);
    fclose(f);
    if (n == 0 || text[n - 1] != '\n')
        return false;
    text[n - 1] = 0;
    const char *start = strrchr(text, '\n');
    const char *last = start ? start + 1 : text;
    json_t *line = json_parse(last, 0, NULL);
    const bool done = json_is_true(json_object_get(line, "done"));
    *steps = json_integer_value(json_object_get(line, "step"));
    json_decref(line);
    return done;
}

void run_clean(const char *path)
{
    char *samples = path_in(path, "samples");
    aside_clean_folder(path);
    if (samples && file_is_dir(samples))
        aside_clean_folder(samples);
    mem_free(samples);
}

/* Where the last whole line of the log ends. */
static Status find_end(int fd, const char *file, int64_t size, int64_t *end)
{
    char text[LAST_LINE];
    const int64_t from = size > LAST_LINE ? size - LAST_LINE : 0;
    ssize_t n = size > 0 ? pread(fd, text, (size_t)(size - from), (off_t)from) : 0;
    if (n < 0)
        return status_fail("%s: cannot be read: %s", file, strerror(errno));
    while (n > 0 && text[n - 1] != '\n')
        n--;
    *end = n > 0 ? from + n : 0;
    return STATUS_OK;
}

/* Cuts the log back to where it was at the checkpoint. One that has lost lines, or is gone, costs no
 * training: it goes on with what is there. */
static Status cut_log(RunFolder *r, const char *file, int64_t log_bytes)
{
    const int64_t size = file_size(file);
    r->log_bytes = log_bytes;
    if (size < log_bytes) {
        TRY(find_end(r->log, file, size, &r->log_bytes));
        log_warn("%s: %s; it goes on with the lines of the steps from here on", file,
                 r->log_bytes ? "is shorter than the checkpoint says, so lines are missing"
                              : "the lines of the steps up to the checkpoint are gone");
    }
    return ftruncate(r->log, r->log_bytes) == 0 ? STATUS_OK
                                                : status_fail("%s: cannot be cut back to %lld bytes: %s",
                                                              file, (long long)r->log_bytes, strerror(errno));
}

Status run_open(const char *path, int64_t log_bytes, RunFolder **out)
{
    TRY(dir_make(path));
    TRY(owned_take(path, "log.jsonl"));
    char *file = path_in(path, "log.jsonl");
    RunFolder *r = mem_calloc(1, sizeof *r);
    if (!file || !r) {
        mem_free(file);
        mem_free(r);
        return STATUS_FAILED;
    }
    r->path = mem_strdup(path);
    r->log = open(file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    Status s = r->path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && r->log < 0)
        s = status_fail("%s: cannot be opened for writing: %s", file, strerror(errno));
    if (s == STATUS_OK)
        s = cut_log(r, file, log_bytes);
    mem_free(file);
    if (s != STATUS_OK) {
        run_close(r);
        return s;
    }
    *out = r;
    return STATUS_OK;
}

void run_close(RunFolder *r)
{
    if (!r)
        return;
    if (r->log >= 0)
        close(r->log);
    events_close(r->events);
    mem_free(r->path);
    mem_free(r);
}

static Status log_failed(const RunFolder *r, int error)
{
    return status_fail("%s/log.jsonl: cannot be written: %s", r->path, strerror(error));
}

static Status write_line(RunFolder *r, json_t *line)
{
    char *text = json_text(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!text)
        return status_in(STATUS_FAILED, "%s/log.jsonl", r->path);
    const size_t size = strlen(text);
    text[size] = '\n';
    const int error = fd_write(r->log, text, size + 1);
    free(text);
    if (error)
        return log_failed(r, error);
    r->log_bytes += (int64_t)size + 1;
    return STATUS_OK;
}

Status run_log(RunFolder *r, json_t *line)
{
    json_incref(line);
    Status s = write_line(r, line);
    if (s == STATUS_OK && r->events)
        s = events_line(r->events, line);
    json_decref(line);
    return s;
}

Status run_previews(RunFolder *r, int64_t step)
{
    if (!r->events)
        return STATUS_OK;
    char *file = preview_path(r->path, step);
    const Status s = file ? events_picture(r->events, step, "previews", file) : STATUS_FAILED;
    mem_free(file);
    return s;
}

Status run_log_sync(RunFolder *r)
{
    return fsync(r->log) == 0 ? STATUS_OK : log_failed(r, errno);
}

/* For one process alone ---------------------------------------------------------------------------------- */

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
