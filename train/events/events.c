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
#define ROOM 4096 /* bytes: more than a line of the log comes to, so that steps need no memory */

/* Numbers of fields, as TensorFlow's event.proto and summary.proto have them. */
enum { EVENT_TIME = 1, EVENT_STEP = 2, EVENT_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION = 7 };
enum { SUMMARY_VALUE = 1 };
enum { VALUE_TAG = 1, VALUE_NUMBER = 2, VALUE_IMAGE = 4 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLOURS = 3, IMAGE_FILE = 4 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };

struct EventFile {
    int fd;
    char *path;
    Message event, summary, value, part; /* in turn within each other */
};

static void begin(EventFile *e, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    message_add_double(&e->event, EVENT_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    message_add_number(&e->event, EVENT_STEP, (uint64_t)step);
}

static Status end(EventFile *e)
{
    return record_write(e->fd, e->path, &e->event, NULL, 0);
}

static Status reserve(EventFile *e)
{
    TRY(message_reserve(&e->event, ROOM));
    TRY(message_reserve(&e->summary, ROOM));
    TRY(message_reserve(&e->part, ROOM));
    return message_reserve(&e->value, ROOM);
}

/* At its beginning which form the file has; and that what it says of this step and later ones is void. */
static Status write_start(EventFile *e, int64_t size, int64_t step)
{
    if (size == 0) {
        begin(e, 0);
        message_add_text(&e->event, EVENT_VERSION, "brain.Event:2");
        TRY(end(e));
    }
    begin(e, step);
    message_add_number(&e->part, SESSION_STATUS, SESSION_START);
    message_add_message(&e->event, EVENT_SESSION, &e->part);
    return end(e);
}

static Status start(EventFile *e, int64_t step)
{
    int64_t size;
    e->fd = open(e->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (e->fd < 0)
        return status_fail("%s: cannot be opened for writing: %s", e->path, strerror(errno));
    TRY(record_end(e->fd, e->path, &size));
    if (ftruncate(e->fd, size) != 0)
        return status_fail("%s: cannot be cut back to %lld bytes: %s", e->path, (long long)size,
                           strerror(errno));
    TRY(reserve(e));
    return write_start(e, size, step);
}

Status events_open(const char *folder, int64_t step, EventFile **out)
{
    TRY(owned_take(folder, EVENTS_FILE));
    EventFile *e = mem_calloc(1, sizeof *e);
    if (!e)
        return STATUS_FAILED;
    e->fd = -1;
    e->path = path_in(folder, EVENTS_FILE);
    const Status s = e->path ? start(e, step) : STATUS_FAILED;
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
    message_free(&e->event);
    message_free(&e->summary);
    message_free(&e->value);
    message_free(&e->part);
    mem_free(e->path);
    mem_free(e);
}

/* Numbers ---------------------------------------------------------------------------------------------- */

static void add_number(EventFile *e, const char *tag, const json_t *number)
{
    if (!json_is_number(number))
        return;
    message_add_text(&e->value, VALUE_TAG, tag);
    message_add_float(&e->value, VALUE_NUMBER, (float)json_number_value(number));
    message_add_message(&e->summary, SUMMARY_VALUE, &e->value);
}

static void add_list(EventFile *e, const char *key, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char tag[96];
        snprintf(tag, sizeof tag, "%s/%zu", key, i + 1);
        add_number(e, tag, json_array_get(list, i));
    }
}

Status events_line(EventFile *e, const json_t *line)
{
    if (json_object_get(line, "done")) /* it sums up what the others have said */
        return STATUS_OK;
    begin(e, json_integer_value(json_object_get(line, "step")));
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)(uintptr_t)line, key, value)
    {
        if (strcmp(key, "step") == 0)
            continue;
        add_number(e, key, value);
        add_list(e, key, value);
    }
    message_add_message(&e->event, EVENT_SUMMARY, &e->summary);
    return end(e);
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
    begin(e, step);
    message_add_number(&e->part, IMAGE_HEIGHT, (uint64_t)shown.height);
    message_add_number(&e->part, IMAGE_WIDTH, (uint64_t)shown.width);
    message_add_number(&e->part, IMAGE_COLOURS, RGB);
    message_add_begun(&e->part, IMAGE_FILE, &(Message){0}, size);
    message_add_text(&e->value, VALUE_TAG, name);
    message_add_begun(&e->value, VALUE_IMAGE, &e->part, size);
    message_add_begun(&e->summary, SUMMARY_VALUE, &e->value, size);
    message_add_begun(&e->event, EVENT_SUMMARY, &e->summary, size);
    const Status s = record_write(e->fd, e->path, &e->event, data, size);
    mem_free(data);
    return s;
}
