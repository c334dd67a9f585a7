/* Places in the code that accesses come from: a number for each, and its line in the source when it is asked
 * for. */
#include "watch.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SITES 65536 /* a power of two; the most numbers that 16 bits are */

static const void *places[SITES];   /* by number */
static uint16_t numbers[2 * SITES]; /* by hash of the place */
static unsigned count;
static const char *answers[SITES]; /* addr2line's: lines of functions and of places, the inmost first */

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

/* The library that holds a site, and its address there. NULL: none does. */
static const char *library_of(unsigned site, size_t *at)
{
    Dl_info info;
    const char *place = (const char *)places[site] - 1; /* of the call, not behind it */
    if (!dladdr(place, &info))
        return NULL;
    *at = (size_t)(place - (const char *)info.dli_fbase);
    return info.dli_fname;
}

/* Reads what addr2line -a says of one address: lines up to that of the next one, which stands in `next`. */
static char *read_answer(FILE *f, char *next, int size)
{
    char *answer = NULL;
    size_t length = 0;
    FILE *text = open_memstream(&answer, &length);
    if (!text)
        abort();
    while (fgets(next, size, f) && strncmp(next, "0x", 2) != 0)
        fputs(next, text);
    fclose(text);
    return answer;
}

/* Asks for all of the sites that lie in one library; `mine` has room for them. */
static void ask_in(const char *library, const unsigned *sites, int n, unsigned *mine)
{
    char list[] = "/tmp/stand_in_sites_XXXXXX", command[1024], line[4096];
    const int file = mkstemp(list);
    int asked = 0;
    for (int i = 0; i < n; i++) {
        size_t at;
        const char *holder = answers[sites[i]] ? NULL : library_of(sites[i], &at);
        if (!holder || strcmp(holder, library) != 0)
            continue;
        answers[sites[i]] = "";
        mine[asked++] = sites[i];
        dprintf(file, "%#zx\n", at);
    }
    snprintf(command, sizeof command, "addr2line -aCfie '%s' < %s 2>/dev/null", library, list);
    FILE *f = popen(command, "r");
    if (f && fgets(line, sizeof line, f))
        for (int i = 0; i < asked && !feof(f); i++)
            answers[mine[i]] = read_answer(f, line, sizeof line);
    if (f)
        pclose(f);
    if (file >= 0)
        close(file);
    unlink(list);
}

void sites_ask(const unsigned *sites, int n)
{
    size_t at;
    unsigned *mine = malloc((size_t)n * sizeof *mine);
    if (!mine)
        abort();
    for (int i = 0; i < n; i++) {
        const char *library = answers[sites[i]] ? NULL : library_of(sites[i], &at);
        if (library)
            ask_in(library, sites, n, mine);
    }
    free(mine);
}

/* A function of an answer, without its parameters, and its line; returns where the next one begins, or NULL.
 */
static const char *frame(const char *answer, const char *stop, char *function, char *line, size_t size)
{
    if (!answer || !*answer || *answer == '?')
        return NULL;
    const char *second = strchr(answer, '\n');
    if (!second || second[1] == '?')
        return NULL;
    if (strncmp(answer, "void ", 5) == 0)
        answer += 5;
    snprintf(function, size, "%.*s", (int)strcspn(answer, stop), answer);
    snprintf(line, size, "%.*s", (int)strcspn(second + 1, " \n"), second + 1);
    const char *end = strchr(second + 1, '\n');
    return end ? end + 1 : "";
}

void site_name(char *text, size_t size, unsigned site)
{
    char function[512], line[512];
    size_t n = 0;
    snprintf(text, size, "%p", places[site]);
    sites_ask(&site, 1);
    /* what stands between the kernel and the machine is of no interest */
    for (const char *at = answers[site]; (at = frame(at, "(<\n", function, line, sizeof line)) && n < size;)
        if (!strstr(line, "tests/cuda/include/"))
            n += (size_t)snprintf(text + n, size - n, "%s%s (%s)", n ? " in " : "", tail(line), function);
}

unsigned site_of_function(const void *function)
{
    return site_of((const char *)function + 1);
}

void site_function(char *text, size_t size, const void *function)
{
    char name[1024], line[1024];
    const unsigned site = site_of_function(function);
    sites_ask(&site, 1);
    /* the last: others are what begins it, inlined */
    for (const char *at = answers[site]; (at = frame(at, "(\n", name, line, sizeof line));)
        snprintf(text, size, "%s", name);
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
