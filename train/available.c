#include "available.h"

#include <stdint.h>
#include <stdio.h>

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

/* A number in a file; "max" and a missing file: SIZE_MAX. */
static size_t number_in(const char *path)
{
    FILE *f = fopen(path, "r");
    unsigned long long n;
    if (!f)
        return SIZE_MAX;
    const int got = fscanf(f, "%llu", &n);
    fclose(f);
    return got == 1 ? (size_t)n : SIZE_MAX;
}

static size_t from_cgroup(void)
{
    static const char *const files[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const size_t limit = number_in(files[i][0]), used = number_in(files[i][1]);
        if (limit == SIZE_MAX || used == SIZE_MAX)
            continue;
        const size_t left = limit > used ? limit - used : 0;
        if (left < least)
            least = left;
    }
    return least;
}

size_t memory_available(void)
{
    const size_t machine = from_meminfo(), group = from_cgroup();
    return machine && group < machine ? group : machine;
}
