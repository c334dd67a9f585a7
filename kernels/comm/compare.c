/* Whether all processes are about the same: texts of lines "name: value", compared with process 0's. */
#include "kernels/base/mem.h"
#include "state.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MOST ((uint64_t)16 << 20)

/* The next line of *text, without its end; NULL: there is none. */
static const char *next_line(const char **text, int *length)
{
    const char *line = *text;
    if (!*line)
        return NULL;
    *length = (int)strcspn(line, "\n");
    *text += *length + (line[*length] == '\n');
    return line;
}

/* "train.seed is 43 there and 42 in process 0", of the first line that differs. */
static Status tell_difference(const char *about, const char *mine, const char *theirs)
{
    int a = 0, b = 0;
    const char *x, *y;
    do {
        x = next_line(&mine, &a);
        y = next_line(&theirs, &b);
    } while (x && y && a == b && memcmp(x, y, (size_t)a) == 0);
    const char *name = x ? x : y ? y : "";
    const int whole = x ? a : b;
    const char *colon = memchr(name, ':', (size_t)whole);
    const int n = colon ? (int)(colon - name) : whole;
    const int skip = n + 2;
    return status_refuse(
        "has another %s: %.*s is %.*s here, and %.*s in process 0", about, n, name,
        x && a >= skip ? (a - skip < 300 ? a - skip : 300) : 7, x && a >= skip ? x + skip : "not set",
        y && b >= skip ? (b - skip < 300 ? b - skip : 300) : 7, y && b >= skip ? y + skip : "not set");
}

Status comm_compare(Comm *c, const char *about, const char *text)
{
    if (c->size == 1)
        return STATUS_OK;
    uint64_t bytes = strlen(text);
    TRY(comm_tell(c, &bytes, sizeof bytes));
    if (bytes > TEXT_MOST)
        return status_fail("process 0 says what cannot be understood");
    char *first = c->rank == 0 ? mem_strdup(text) : mem_alloc((size_t)bytes + 1);
    if (!first)
        return STATUS_FAILED;
    Status s = comm_tell(c, first, (size_t)bytes);
    first[bytes] = 0;
    if (s == STATUS_OK)
        s = comm_agree(c, strcmp(first, text) == 0 ? STATUS_OK : tell_difference(about, text, first));
    mem_free(first);
    return s;
}
