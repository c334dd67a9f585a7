#include "machine.h"

#include "mem.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GROUPS "/proc/self/cgroup"
#define MOUNT "/sys/fs/cgroup"

/* Lines of files --------------------------------------------------------------------------------------- */

/* The first number of the file's first line, or of the line that begins with `key` and then ':' or a blank;
 * "max", and what is not there: SIZE_MAX. second: the number after it, likewise; or NULL. */
static size_t number_in(const char *path, const char *key, size_t *second)
{
    FILE *f = fopen(path, "re");
    const size_t length = key ? strlen(key) : 0;
    char line[256];
    unsigned long long n[2] = {SIZE_MAX, SIZE_MAX};
    while (f && fgets(line, sizeof line, f)) {
        if (key && (strncmp(line, key, length) != 0 || (line[length] != ':' && line[length] != ' ')))
            continue;
        sscanf(line + length + (key != NULL), "%llu %llu", &n[0], &n[1]);
        break;
    }
    if (f)
        fclose(f);
    if (second)
        *second = (size_t)n[1];
    return (size_t)n[0];
}

/* "VmHWM:    1234 kB" */
static size_t kib_in(const char *path, const char *key)
{
    const size_t kib = number_in(path, key, NULL);
    return kib == SIZE_MAX ? 0 : kib << 10;
}

size_t machine_peak_bytes(void)
{
    return kib_in("/proc/self/status", "VmHWM");
}

size_t machine_current_bytes(void)
{
    return kib_in("/proc/self/status", "VmRSS");
}

size_t machine_total_bytes(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

/* Control groups --------------------------------------------------------------------------------------- */

/* A number in a group's folder. */
static size_t group_number(const char *folder, const char *name, const char *key, size_t *second)
{
    char *path = mem_printf("%s/%s", folder, name);
    if (second)
        *second = SIZE_MAX;
    const size_t n = path ? number_in(path, key, second) : SIZE_MAX;
    mem_free(path);
    return n;
}

/* What is left of a limit. Pages of files that nobody has looked at lately are given up when memory is asked
 * for. */
static size_t left_of(size_t limit, size_t used, size_t inactive)
{
    if (limit == SIZE_MAX || used == SIZE_MAX)
        return SIZE_MAX;
    const size_t held = inactive < used ? used - inactive : used;
    return limit > held ? limit - held : 0;
}

/* Processors' worth of time, rounded up. A quota that is none is "max" in version 2, -1 in version 1. */
static size_t cores_of(size_t quota, size_t period)
{
    if (quota == 0 || quota > LONG_MAX || period == 0 || period > LONG_MAX)
        return SIZE_MAX;
    return (quota + period - 1) / period;
}

static size_t bytes_left(const char *folder)
{
    return left_of(group_number(folder, "memory.max", NULL, NULL),
                   group_number(folder, "memory.current", NULL, NULL),
                   group_number(folder, "memory.stat", "inactive_file", NULL));
}
static size_t bytes_left_1(const char *folder)
{
    return left_of(group_number(folder, "memory.limit_in_bytes", NULL, NULL),
                   group_number(folder, "memory.usage_in_bytes", NULL, NULL),
                   group_number(folder, "memory.stat", "total_inactive_file", NULL));
}
static size_t cores_allowed(const char *folder)
{
    size_t period;
    const size_t quota = group_number(folder, "cpu.max", NULL, &period); /* "150000 100000" */
    return cores_of(quota, period);
}
static size_t cores_allowed_1(const char *folder)
{
    return cores_of(group_number(folder, "cpu.cfs_quota_us", NULL, NULL),
                    group_number(folder, "cpu.cfs_period_us", NULL, NULL));
}

/* What is asked of a group, by the interface's version: where the group's folder is, and how it is read. */
typedef struct Limit {
    const char *controller;           /* as /proc/self/cgroup names it: "" is version 2's one tree */
    const char *below;                /* the mount: where the tree is */
    size_t (*of)(const char *folder); /* SIZE_MAX: none */
} Limit;

static const Limit MEMORY[] = {{"", "", bytes_left}, {"memory", "/memory", bytes_left_1}};
static const Limit CORES[] = {{"", "", cores_allowed}, {"cpu", "/cpu", cores_allowed_1}};
enum { VERSIONS = 2 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The group at path, and every one above it. */
static size_t least_on_the_way(const char *mount, const Limit *limit, const char *path)
{
    size_t least = SIZE_MAX;
    char *folder = mem_printf("%s%s%s", mount, limit->below, strcmp(path, "/") == 0 ? "" : path);
    const size_t root = strlen(mount) + strlen(limit->below);
    while (folder) {
        least = smaller(least, limit->of(folder));
        char *slash = strrchr(folder + root, '/');
        if (!slash)
            break;
        *slash = 0;
    }
    mem_free(folder);
    return least;
}

/* A line "3:cpu,memory:/user.slice/…" of /proc/self/cgroup: the path, if the controller is among its names.
 */
static const char *path_in_line(char *line, const char *controller)
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
        if (strcmp(name, controller) == 0)
            return path;
        if (!comma)
            return NULL;
    }
}

static size_t least_of_groups(const char *groups, const char *mount, const Limit limits[VERSIONS])
{
    size_t least = SIZE_MAX;
    for (int i = 0; i < VERSIONS; i++) {
        FILE *f = fopen(groups, "re");
        char line[4096];
        while (f && fgets(line, sizeof line, f)) {
            const char *path = path_in_line(line, limits[i].controller);
            if (path)
                least = smaller(least, least_on_the_way(mount, &limits[i], path));
        }
        if (f)
            fclose(f);
    }
    return least;
}

size_t machine_bytes_left_by_groups(const char *groups, const char *mount)
{
    return least_of_groups(groups, mount, MEMORY);
}

int machine_cores_by_groups(const char *groups, const char *mount)
{
    const size_t cores = least_of_groups(groups, mount, CORES);
    return cores > INT_MAX ? 0 : (int)cores;
}

size_t machine_available_bytes(void)
{
    const size_t machine = kib_in("/proc/meminfo", "MemAvailable");
    return machine ? smaller(machine, machine_bytes_left_by_groups(GROUPS, MOUNT)) : 0;
}

/* Cores ------------------------------------------------------------------------------------------------ */

/* The lowest-numbered sibling of a core's hardware threads ("0-1", "0,8"); the processor itself where the
 * kernel doesn't say. */
static size_t first_sibling(size_t cpu)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
    const size_t first = number_in(path, NULL, NULL);
    return first < CPU_SETSIZE ? first : cpu;
}

int machine_cores(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return 1;
    bool counted[CPU_SETSIZE] = {false};
    int cores = 0;
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        const size_t core = CPU_ISSET(i, &allowed) ? first_sibling(i) : i;
        if (!CPU_ISSET(i, &allowed) || counted[core])
            continue;
        counted[core] = true;
        cores++;
    }
    const int quota = machine_cores_by_groups(GROUPS, MOUNT);
    if (quota && quota < cores)
        cores = quota;
    return cores > 0 ? cores : 1;
}
