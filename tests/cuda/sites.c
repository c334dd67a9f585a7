/* Places in the code that accesses come from: a number for each, and its line in the source when it is asked
 * for. */
#include "watch.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SITES 65536 /* a power of two; the most numbers that 16 bits are */

static const void *places[SITES];   /* by number */
static uint16_t numbers[2 * SITES]; /* by hash of the place */
static unsigned count;

unsigned site_of(const void *place)
{
    size_t at = (size_t)((uintptr_t)place * 0x9e3779b97f4a7c15u >> 40) % (2 * SITES);
    while (numbers[at] && places[numbers[at]] != place)
        at = (at + 1) % (2 * SITES);
    if (!numbers[at]) {
        if (count + 1 == SITES) {
            fprintf(stderr, "stand-in: more than %d places in the code\n", SITES - 1);
            abort();
        }
        places[++count] = place;
        numbers[at] = (uint16_t)count;
    }
    return numbers[at];
}

/* The last two parts of a path. */
static const char *tail(const char *path)
{
    int parts = 0;
    const char *p = path + strlen(path);
    while (p > path && !(*p == '/' && ++parts == 3))
        p--;
    return *p == '/' ? p + 1 : p;
}

/* Reads a function and its line, as addr2line writes them. */
static bool read_frame(FILE *f, char *function, char *line, int size)
{
    if (!fgets(function, size, f) || !fgets(line, size, f) || line[0] == '?')
        return false;
    function[strcspn(function, "(<\n")] = 0;
    if (strncmp(function, "void ", 5) == 0)
        memmove(function, function + 5, strlen(function + 5) + 1);
    line[strcspn(line, " \n")] = 0;
    return true;
}

void site_name(char *text, size_t size, unsigned site)
{
    char command[1024], function[512], line[512];
    Dl_info info;
    const char *place = (const char *)places[site] - 1; /* of the call, not behind it */
    snprintf(text, size, "%p", (const void *)place);
    if (!dladdr(place, &info) || !info.dli_fname)
        return;
    snprintf(command, sizeof command, "addr2line -Cfie '%s' %#zx 2>/dev/null", info.dli_fname,
             (size_t)(place - (const char *)info.dli_fbase));
    FILE *f = popen(command, "r");
    size_t n = 0;
    /* what stands between the kernel and the machine is of no interest */
    while (f && n < size && read_frame(f, function, line, sizeof line))
        if (!strstr(line, "tests/cuda/include/"))
            n += (size_t)snprintf(text + n, size - n, "%s%s (%s)", n ? " in " : "", tail(line), function);
    if (f)
        pclose(f);
}

void site_function(char *text, size_t size, const void *function)
{
    char command[1024], name[1024];
    Dl_info info;
    if (!dladdr(function, &info) || !info.dli_fname)
        return;
    snprintf(command, sizeof command, "addr2line -Cfe '%s' %#zx 2>/dev/null", info.dli_fname,
             (size_t)((const char *)function - (const char *)info.dli_fbase));
    FILE *f = popen(command, "r");
    if (f && fgets(name, sizeof name, f) && name[0] != '?') {
        name[strcspn(name, "(\n")] = 0;
        snprintf(text, size, "%s", strncmp(name, "void ", 5) == 0 ? name + 5 : name);
    }
    if (f)
        pclose(f);
}

static int holds(struct dl_phdr_info *info, size_t size, void *p)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (uintptr_t)p >= begin &&
            (uintptr_t)p < begin + info->dlpi_phdr[i].p_memsz)
            return 1;
    }
    return 0;
}

bool site_in_program(const void *p)
{
    /* asked for again and again of the same few: pages of which it is known */
    static uintptr_t known[256];
    const uintptr_t page = (uintptr_t)p >> 12;
    uintptr_t *place = &known[page % (sizeof known / sizeof *known)];
    if (*place == page)
        return true;
    if (!dl_iterate_phdr(holds, (void *)(uintptr_t)p))
        return false;
    *place = page;
    return true;
}
