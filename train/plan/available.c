#include "available.h"

#include "kernels/base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static size_t from_meminfo(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[256];
    unsigned long long kib = 0;
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    fclose(f);
    return (size_t)kib << 10;
}

/* Control groups --------------------------------------------------------------------------------------- */

/* The two versions of the interface. */
typedef struct Version {
    const char *controller; /* as /proc/self/cgroup names it: "" is version 2's one tree */
    const char *folder;     /* below the mount */
    const char *limit, *used, *inactive;
} Version;

static const Version VERSIONS[] = {
    {"", "", "memory.max", "memory.current", "inactive_file"},
    {"memory", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
};

/* A number in FOLDER/NAME, after `key` and a blank if there is a key; "max", and what is not there: SIZE_MAX.
 */
static size_t number_in(const char *folder, const char *name, const char *key)
{
    char *path = mem_printf("%s/%s", folder, name), line[256];
    FILE *f = path ? fopen(path, "r") : NULL;
    size_t number = SIZE_MAX;
    mem_free(path);
    while (f && number == SIZE_MAX && fgets(line, sizeof line, f)) {
        unsigned long long n;
        const size_t length = key ? strlen(key) : 0;
        if (key && (strncmp(line, key, length) != 0 || line[length] != ' '))
            continue;
        if (sscanf(line + length, "%llu", &n) == 1)
            number = (size_t)n;
    }
    if (f)
        fclose(f);
    return number;
}

/* What one group leaves. Pages of files that nobody has looked at lately are given up when memory is asked
 * for. */
static size_t left_by(const char *folder, const Version *v)
{
    const size_t limit = number_in(folder, v->limit, NULL), used = number_in(folder, v->used, NULL);
    const size_t inactive = number_in(folder, "memory.stat", v->inactive);
    if (limit == SIZE_MAX || used == SIZE_MAX)
        return SIZE_MAX;
    const size_t held = inactive < used ? used - inactive : used;
    return limit > held ? limit - held : 0;
}

/* The group at path below the version's folder, and every one above it. */
static size_t left_on_the_way(const char *mount, const Version *v, const char *path)
{
    size_t least = SIZE_MAX;
    char *folder = mem_printf("%s%s%s", mount, v->folder, strcmp(path, "/") == 0 ? "" : path);
    const size_t root = strlen(mount) + strlen(v->folder);
    while (folder) {
        const size_t left = left_by(folder, v);
        least = left < least ? left : least;
        char *slash = strrchr(folder + root, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    mem_free(folder);
    return least;
}

/* A line "3:cpu,memory:/user.slice/…" of /proc/self/cgroup: the path, if the line is the version's. */
static const char *path_in_line(char *line, const Version *v)
{
    char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = 0;
    path[strcspn(path, "\n")] = 0;
    for (char *name = names + 1;; name += strlen(name) + 1) {
        char *comma = strchr(name, ',');
        if (comma)
            *comma = 0;
        if (strcmp(name, v->controller) == 0)
            return path;
        if (!comma)
            return NULL;
    }
}

size_t memory_left_by_groups(const char *groups, const char *mount)
{
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof VERSIONS / sizeof *VERSIONS; i++) {
        const Version *v = &VERSIONS[i];
        FILE *f = fopen(groups, "r");
        char line[4096];
        while (f && fgets(line, sizeof line, f)) {
            const char *path = path_in_line(line, v);
            const size_t left = path ? left_on_the_way(mount, v, path) : SIZE_MAX;
            least = left < least ? left : least;
        }
        if (f)
            fclose(f);
    }
    return least;
}

size_t memory_available(void)
{
    const size_t machine = from_meminfo(),
                 group = memory_left_by_groups("/proc/self/cgroup", "/sys/fs/cgroup");
    return machine && group < machine ? group : machine;
}
