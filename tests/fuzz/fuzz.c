#include "fuzz.h"

#include "kernels/base/log.h"
#include "kernels/base/mem.h"
#include "tests/sanitizers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fuzz_fail(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

void fuzz_check(Status s)
{
    if (s == STATUS_OK)
        return;
    if (!status_message()[0])
        fuzz_fail("a failure without a message");
}

/* No input of a target's size may make the program ask for more. */
#define MOST_MEMORY ((size_t)256 << 20)
static int refuse_large(size_t bytes, void *arg)
{
    (void)arg;
    if (bytes > MOST_MEMORY)
        fuzz_fail("an absurd amount of memory is asked for");
    return 0;
}

static size_t most_used;

static int count_used(size_t bytes, void *arg)
{
    (void)arg;
    (void)bytes;
    most_used = mem_in_use() > most_used ? mem_in_use() : most_used;
    return 0;
}

void fuzz_count_memory(void)
{
    most_used = mem_in_use();
    mem_set_hook(count_used, NULL);
}

size_t fuzz_counted_memory(void)
{
    mem_set_hook(NULL, NULL);
    return most_used;
}

__attribute__((constructor)) static void begin(void)
{
    log_set_level(LOG_ERROR);
    mem_set_hook(refuse_large, NULL);
}

static void write_all(int fd, const void *data, size_t size)
{
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        fuzz_fail("cannot write the input");
}

static char folder[64];

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", folder);
}

const char *fuzz_folder(void)
{
    if (!folder[0]) {
        const char *in_memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(folder, sizeof folder, "%s/fuzz-XXXXXX", in_memory);
        if (!mkdtemp(folder))
            fuzz_fail("cannot make a folder");
        atexit(remove_folder);
    }
    return folder;
}

void fuzz_put(const char *name, const char *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    if (size == 0) {
        unlink(path);
        return;
    }
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        fuzz_fail("cannot write the input");
    write_all(fd, data, size);
    close(fd);
}

bool fuzz_part(const uint8_t **data, size_t *size, char **text, size_t *length)
{
    static const char BETWEEN[] = "\n----\n";
    if (!*data)
        return false;
    const uint8_t *end = *size ? memmem(*data, *size, BETWEEN, sizeof BETWEEN - 1) : NULL;
    *length = end ? (size_t)(end - *data) : *size;
    if (!(*text = malloc(*length + 1)))
        fuzz_fail("out of memory");
    memcpy(*text, *data, *length);
    (*text)[*length] = 0;
    *size = end ? *size - *length - (sizeof BETWEEN - 1) : 0;
    *data = end ? end + sizeof BETWEEN - 1 : NULL;
    return true;
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[128];
    static int fd = -1;
    if (fd < 0) {
        snprintf(path, sizeof path, "%s/input", fuzz_folder());
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            fuzz_fail("cannot write the input");
    }
    write_all(fd, data, size);
    return path;
}
