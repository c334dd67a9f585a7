#include "page.h"

#include "plot.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void add_losses(Buffer *b, const Curves *c)
{
    const Series losses[] = {
        {&c->loss, "each step", 0, SERIES_FAINT},
        {&c->loss_smooth, "averaged over about 50 steps", 0, SERIES_LINE},
        {&c->prior_smooth, "class pictures, averaged", 2, SERIES_LINE},
        {&c->validation, "validation", 1, SERIES_POINTS},
    };
    const Series bands[] = {
        {&c->bands[0], "little noise", 0, SERIES_LINE},
        {&c->bands[1], "second quarter", 2, SERIES_LINE},
        {&c->bands[2], "third", 1, SERIES_LINE},
        {&c->bands[3], "nearly all noise", 3, SERIES_LINE},
    };
    plot_add(b, &(Plot){.title = "Loss", .unit = "", .series = losses, .count = COUNT(losses)});
    plot_add(b, &(Plot){.title = "Loss by quarter of the timesteps, averaged",
                        .unit = "",
                        .series = bands,
                        .count = COUNT(bands)});
}

/* One curve on a plot of its own. */
static void add_one(Buffer *b, const char *title, const char *unit, const Series *s)
{
    plot_add(b, &(Plot){.title = title, .unit = unit, .series = s, .count = 1, .from_zero = true});
}

/* What jumps from step to step, and its average. */
static void add_jumpy(Buffer *b, const char *title, const char *unit, const Curve *each, const Curve *average)
{
    const Series s[] = {
        {each, "each step", 0, SERIES_FAINT},
        {average, "averaged over about 50 steps", 0, SERIES_LINE},
    };
    plot_add(b, &(Plot){.title = title, .unit = unit, .series = s, .count = COUNT(s), .from_zero = true});
}

void plots_add(Buffer *b, const Report *r)
{
    const Curves *c = r->curves;
    buffer_add(b, "<h2>The way there</h2>\n<div class=\"plots\">\n");
    add_losses(b, c);
    add_one(b, "Learning rate", "", &(Series){&c->lr, "UNet", 0, SERIES_LINE});
    add_jumpy(b, "Norm of the gradients, before clipping", "", &c->grad_norm, &c->grad_norm_smooth);
    add_one(b, "Norm of the change since before step 1", "",
            &(Series){&c->change_norm, "all trained weights", 0, SERIES_LINE});
    add_jumpy(b, "Time of a step", "seconds", &c->seconds, &c->seconds_smooth);
    add_one(b, "Memory", "GB", &(Series){&c->memory, "the process, after a step", 0, SERIES_LINE});
    buffer_add(b, "</div>\n");
}
