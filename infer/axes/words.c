#include "words.h"

#include "kernels/base/mem.h"

#include <stdarg.h>

Status words_add(Words *w, const char *format, ...)
{
    char **more = mem_realloc(w->items, (size_t)(w->count + 1) * sizeof *more);
    if (!more)
        return STATUS_FAILED;
    w->items = more;
    va_list args;
    va_start(args, format);
    more[w->count] = mem_vprintf(format, args);
    va_end(args);
    return more[w->count++] ? STATUS_OK : STATUS_FAILED;
}

void words_free(Words *w)
{
    for (int i = 0; i < w->count; i++)
        mem_free(w->items[i]);
    mem_free(w->items);
    *w = (Words){0};
}
