#include "shots.h"

#include "kernels/base/mem.h"

static Status list_pictures(Shots *s)
{
    int count = 0;
    for (int i = 0; i < s->set_count; i++)
        count += s->sets[i].picture_count;
    s->items = mem_calloc((size_t)count, sizeof *s->items);
    if (!s->items)
        return STATUS_FAILED;
    for (int i = 0; i < s->set_count; i++)
        for (int k = 0; k < s->sets[i].picture_count; k++)
            s->items[s->count++] = (Shot){&s->sets[i], s->sets[i].seeds[k]};
    return STATUS_OK;
}

Status shots_read(int argc, char **argv, Shots *out, bool *done)
{
    *out = (Shots){.sets = mem_calloc(1, sizeof *out->sets)};
    if (!out->sets)
        return STATUS_FAILED;
    out->set_count = 1;
    TRY(sample_arguments_read(argc, argv, &out->sets[0], done));
    return *done ? STATUS_OK : list_pictures(out);
}

void shots_free(Shots *s)
{
    for (int i = 0; i < s->set_count; i++)
        sample_arguments_free(&s->sets[i]);
    mem_free(s->sets);
    mem_free(s->items);
    *s = (Shots){0};
}
