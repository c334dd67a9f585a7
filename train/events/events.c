#include "events.h"

#include "data/pictures/picture.h"
#include "kernels/base/file.h"
#include "kernels/base/mem.h"
#include "train/pictures/owned.h"
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_PICTURE ((size_t)1 << 30) /* bytes: far more than a grid of previews */
#define RGB 3

/* Numbers of fields, as TensorFlow's event.proto and summary.proto have them. */
enum { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION = 7 };
enum { SUMMARY_VALUE = 1 };
enum { VALUE_TAG = 1, VALUE_NUMBER = 2, VALUE_IMAGE = 4 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLOURS = 3, IMAGE_FILE = 4 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };

struct EventFile {
    int fd;
    char *path;
};

static Message event(int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    Message m = {0};
    message_add_double(&m, EVENT_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    message_add_number(&m, EVENT_STEP, (uint64_t)step);
    return m;
}

/* Which form the file has, and that what older files say of this step and later ones is void. */
static Status write_start(const EventFile *e, int64_t step)
{
    Message version = event(0), start = event(step), session = {0};
    message_add_text(&version, EVENT_VERSION, "brain.Event:2");
    message_add_number(&session, SESSION_STATUS, SESSION_START);
    message_add_message(&start, EVENT_SESSION, &session);
    const Status s = record_write(e->fd, e->path, &version);
    if (s == STATUS_OK)
        return record_write(e->fd, e->path, &start);
    message_free(&start);
    return s;
}

Status events_open(const char *folder, int64_t step, EventFile **out)
{
    char name[64];
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.atelier", (long long)time(NULL));
    TRY(owned_take(folder, name));
    EventFile *e = mem_calloc(1, sizeof *e);
    if (!e)
        return STATUS_FAILED;
    e->path = path_join(folder, name);
    e->fd = e->path ? open(e->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    Status s = e->path ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && e->fd < 0)
        s = status_fail("%s: cannot be opened for writing: %s", e->path, strerror(errno));
    if (s == STATUS_OK)
        s = write_start(e, step);
    if (s != STATUS_OK) {
        events_close(e);
        return s;
    }
    *out = e;
    return STATUS_OK;
}

void events_close(EventFile *e)
{
    if (!e)
        return;
    if (e->fd >= 0)
        close(e->fd);
    mem_free(e->path);
    mem_free(e);
}

/* Numbers ---------------------------------------------------------------------------------------------- */

static void add_number(Message *summary, const char *tag, const json_t *number)
{
    Message value = {0};
    if (!json_is_number(number))
        return;
    message_add_text(&value, VALUE_TAG, tag);
    message_add_float(&value, VALUE_NUMBER, (float)json_number_value(number));
    message_add_message(summary, SUMMARY_VALUE, &value);
}

static void add_list(Message *summary, const char *key, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char tag[96];
        snprintf(tag, sizeof tag, "%s/%zu", key, i + 1);
        add_number(summary, tag, json_array_get(list, i));
    }
}

Status events_line(EventFile *e, const json_t *line)
{
    if (json_object_get(line, "done")) /* it sums up what the others have said */
        return STATUS_OK;
    Message m = event(json_integer_value(json_object_get(line, "step"))), summary = {0};
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)line, key, value)
    {
        if (strcmp(key, "step") == 0)
            continue;
        add_number(&summary, key, value);
        add_list(&summary, key, value);
    }
    message_add_message(&m, EVENT_SUMMARY, &summary);
    return record_write(e->fd, e->path, &m);
}

/* Pictures --------------------------------------------------------------------------------------------- */

Status events_picture(EventFile *e, int64_t step, const char *name, const char *path)
{
    char *data = NULL;
    size_t size = 0;
    TRY(file_read(path, MOST_PICTURE, &data, &size));
    Size shown;
    int orientation;
    if (picture_info((const uint8_t *)data, size, &shown, &orientation) != STATUS_OK) {
        mem_free(data);
        return status_in(STATUS_FAILED, "%s", path);
    }
    Message m = event(step), summary = {0}, value = {0}, image = {0};
    message_add_number(&image, IMAGE_HEIGHT, (uint64_t)shown.height);
    message_add_number(&image, IMAGE_WIDTH, (uint64_t)shown.width);
    message_add_number(&image, IMAGE_COLOURS, RGB);
    message_add_bytes(&image, IMAGE_FILE, data, size);
    mem_free(data);
    message_add_text(&value, VALUE_TAG, name);
    message_add_message(&value, VALUE_IMAGE, &image);
    message_add_message(&summary, SUMMARY_VALUE, &value);
    message_add_message(&m, EVENT_SUMMARY, &summary);
    return record_write(e->fd, e->path, &m);
}
