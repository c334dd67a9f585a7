/* Open cache files (cache_file.h). They are shared within the process, because HDF5 opens a file only once;
 * other processes are kept from writing by flock. A file that a killed run left behind can be gone on with
 * (cache.c); its attribute "closed" says that none was. */
#include "cache_file.h"

#include "data/dataset/layout.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "cache_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static CacheFile *open_files;

static Status file_shut(CacheFile *f)
{
    Status s = STATUS_OK;
    if (f->writable && !f->failed) {
        s = h5_write_attribute_int(f->file, f->path, "closed", 1);
        if (s == STATUS_OK) /* else it is left alone (h5_close) */
            s = h5_close(f->path, f->file);
    } else if (f->file >= 0 && !f->failed)
        H5Fclose(f->file);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    f->file = f->lock_fd = -1;
    f->writable = f->failed = false;
    return s;
}

/* A dataset was written whole. */
static Status file_was_closed(CacheFile *f)
{
    int closed = 0;
    bool found;
    TRY(h5_read_attribute_int(f->file, f->path, "closed", &closed, &found));
    f->closed = (found && closed == 1) || h5_exists(f->file, "/images");
    return STATUS_OK;
}

Status cache_file_use(const char *path, CacheFile **out)
{
    for (CacheFile *f = open_files; f; f = f->next)
        if (strcmp(f->path, path) == 0) {
            f->users++;
            *out = f;
            return STATUS_OK;
        }
    CacheFile *f = mem_calloc(1, sizeof *f);
    if (!f || !(f->path = mem_strdup(path))) {
        mem_free(f);
        return STATUS_FAILED;
    }
    f->file = f->lock_fd = -1;
    f->users = 1;
    f->next = open_files;
    *out = open_files = f;
    Status s = file_exists(path) ? h5_open(path, H5F_ACC_RDONLY, &f->file) : STATUS_OK;
    if (s == STATUS_OK && f->file >= 0 && !h5_exists(f->file, "/images") && !cache_is_sound(f->file)) {
        s = status_fail("%s: was left half made", path);
        H5Fclose(f->file);
    }
    if (s != STATUS_OK) {
        f->file = -1;
        if (file_size(path) > 0)
            log_info("%s; it is made anew", status_message());
    }
    return f->file < 0 ? STATUS_OK : file_was_closed(f);
}

Status cache_file_release(CacheFile *f)
{
    if (!f || --f->users)
        return STATUS_OK;
    const Status s = file_shut(f);
    CacheFile **at = &open_files;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    mem_free(f->path);
    mem_free(f);
    return s;
}

/* The file may be read by others meanwhile, not written. */
static Status file_lock(CacheFile *f)
{
    TRY(dir_make_parent(f->path));
    f->lock_fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->lock_fd < 0)
        return status_fail("%s: cannot be written: %m", f->path);
    if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return STATUS_OK; /* a file system without flock: nothing to be done */
    return status_refuse("%s: another run is writing this cache; wait for it or use another output folder",
                         f->path);
}

Status cache_file_failed(CacheFile *f)
{
    f->failed = true;
    return h5_fail(f->path, "cannot be written");
}

Status cache_file_make_writable(CacheFile *f)
{
    if (f->failed)
        return status_fail("%s: could not be written before", f->path);
    if (f->writable)
        return STATUS_OK;
    const bool sound = f->file >= 0;
    if (sound && h5_exists(f->file, "/images"))
        return status_fail("%s: is a dataset; caches of it are written to a file of their own", f->path);
    file_shut(f);
    TRY(file_lock(f));
    if (sound && h5_open(f->path, H5F_ACC_RDWR, &f->file) != STATUS_OK) {
        f->failed =
            true; /* it was read a moment ago: what is in it is not given up for an error of the disk */
        return status_in(STATUS_FAILED, "opening it again to write more");
    }
    if (!sound) {
        TRY(h5_create(f->path, true, &f->file));
        TRY(h5_write_attribute_int(f->file, f->path, "format_version", DATASET_FORMAT_VERSION));
        TRY(h5_write_attribute_text(f->file, f->path, "tool", "atelier " ATELIER_VERSION));
    }
    f->writable = true;
    f->closed = false;
    if (h5_write_attribute_int(f->file, f->path, "closed", 0) != STATUS_OK ||
        H5Fflush(f->file, H5F_SCOPE_LOCAL) < 0)
        return cache_file_failed(f);
    return STATUS_OK;
}

Status cache_file_settle(CacheFile *f)
{
    if (!f->writable)
        return STATUS_OK;
    TRY(file_shut(f));
    return h5_open(f->path, H5F_ACC_RDONLY, &f->file);
}
