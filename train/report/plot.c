/* The drawing's own units are chosen for a phone's width: letters of 13 in 480 are still read at 360 pixels.
 */
#include "plot.h"

#include "html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 480
#define HEIGHT 240
#define LEFT 54 /* of the area that is drawn in */
#define RIGHT 468
#define TOP 22
#define BOTTOM 200
#define TICKS 6 /* about so many an axis */

#define SPIKES 0.02 /* share of the values that may lie outside, where there are spikes */
#define FEW 50      /* values: of fewer all are inside */

#define ONE_VALUE 1e-6 /* as a share of it: what differs by less is one */
#define LEAST 1e-30    /* and what differs by less than this */

typedef struct Axis {
    double low, high;
    double step;  /* between ticks */
    double scale; /* labels are values ÷ scale, a power of ten */
    int exponent; /* of scale */
    int decimals; /* of labels */
} Axis;

typedef struct Drawn {
    Buffer *b;
    const Plot *plot;
    Axis x, y;
    bool cut; /* something lies outside */
} Drawn;

/* Axes ------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What the axis has to reach: all values, or all but spikes. */
static void series_range(const Series *s, bool spikes, double *low, double *high)
{
    const Curve *c = s->curve;
    double lows[CURVE_BUCKETS], highs[CURVE_BUCKETS];
    for (int i = 0; i < c->count; i++) {
        lows[i] = s->style == SERIES_FAINT ? c->buckets[i].low : c->buckets[i].y;
        highs[i] = s->style == SERIES_FAINT ? c->buckets[i].high : c->buckets[i].y;
    }
    qsort(lows, (size_t)c->count, sizeof *lows, ascending);
    qsort(highs, (size_t)c->count, sizeof *highs, ascending);
    const int outside = spikes && s->style != SERIES_POINTS && c->count >= FEW ? (int)(SPIKES * c->count) : 0;
    *low = lows[outside];
    *high = highs[c->count - 1 - outside];
}

/* Values of single steps have spikes, and so has their average. */
static bool has_spikes(const Plot *plot)
{
    bool found = false;
    for (int i = 0; i < plot->count; i++)
        found |= plot->series[i].style == SERIES_FAINT;
    return found;
}

/* 1, 2 or 5 times a power of ten. */
static double round_step(double least)
{
    const double power = pow(10, floor(log10(least)));
    return least <= power       ? power
           : least <= 2 * power ? 2 * power
           : least <= 5 * power ? 5 * power
                                : 10 * power;
}

static void axis_mark(Axis *a, bool whole)
{
    const double largest = fmax(fabs(a->low), fabs(a->high));
    a->step = round_step((a->high - a->low) / TICKS);
    if (whole)
        a->step = fmax(a->step, 1);
    a->exponent = largest >= 1e5 || largest < 1e-2 ? 3 * (int)floor(log10(largest) / 3) : 0;
    a->scale = pow(10, a->exponent);
    const double digits = ceil(-log10(a->step / a->scale) - 1e-9);
    a->decimals = digits > 0 ? (int)fmin(digits, 9) : 0;
}

static void find_axes(Drawn *d)
{
    const bool spikes = has_spikes(d->plot);
    Axis *x = &d->x, *y = &d->y;
    *x = *y = (Axis){.low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < d->plot->count; i++) {
        const Curve *c = d->plot->series[i].curve;
        double low, high;
        if (!c->count)
            continue;
        series_range(&d->plot->series[i], spikes, &low, &high);
        x->low = fmin(x->low, c->buckets[0].x);
        x->high = fmax(x->high, c->buckets[c->count - 1].x);
        y->low = fmin(y->low, low);
        y->high = fmax(y->high, high);
    }
    if (!(x->high > x->low))
        x->high = x->low + 1;
    if (d->plot->from_zero)
        y->low = fmin(y->low, 0);
    if (!(y->high - y->low >
          fmax(ONE_VALUE * fabs(y->high), LEAST))) /* throughout, but for its average's rounding */
        y->high = y->low + (y->low != 0 ? fabs(y->low) : 1);
    const double margin = (y->high - y->low) * 0.05;
    y->high += margin;
    y->low -= d->plot->from_zero ? 0 : margin;
    axis_mark(x, true);
    axis_mark(y, false);
}

static double place_x(const Drawn *d, double x)
{
    return LEFT + (x - d->x.low) / (d->x.high - d->x.low) * (RIGHT - LEFT);
}

/* A value far outside still has a place just outside. */
static double place_y(const Drawn *d, double y)
{
    const double share = (y - d->y.low) / (d->y.high - d->y.low);
    return BOTTOM - fmin(fmax(share, -1), 2) * (BOTTOM - TOP);
}

/* A tick's number: not "−0". */
static double label_of(const Axis *a, double value)
{
    return fabs(value) < a->step / 2 ? 0 : value / a->scale;
}

static void add_power(Buffer *b, int exponent)
{
    buffer_add(b, "×10<tspan dy=\"-5\" class=\"power\">%s%d</tspan>", exponent < 0 ? "−" : "", abs(exponent));
}

static double tick_at(const Axis *a, int i)
{
    return (ceil(a->low / a->step - 1e-9) + i) * a->step;
}

static void add_ticks(Drawn *d)
{
    const Axis *x = &d->x, *y = &d->y;
    for (int i = 0; tick_at(y, i) <= y->high; i++) {
        const double v = tick_at(y, i), at = place_y(d, v);
        buffer_add(d->b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at, RIGHT);
        buffer_add(d->b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n", LEFT - 6, at + 4,
                   y->decimals, label_of(y, v));
    }
    for (int i = 0; tick_at(x, i) <= x->high; i++) {
        const double v = tick_at(x, i), at = place_x(d, v);
        buffer_add(d->b, "<path class=\"axis\" d=\"M%.1f %dv5\"/>", at, BOTTOM);
        buffer_add(d->b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.*f</text>\n", at, BOTTOM + 19,
                   x->decimals, label_of(x, v));
    }
    buffer_add(d->b, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>", LEFT, TOP, BOTTOM, RIGHT);
    if (y->exponent || *d->plot->unit) {
        buffer_add(d->b, "<text x=\"6\" y=\"13\">");
        if (y->exponent)
            add_power(d->b, y->exponent);
        buffer_add(d->b, "%s%s</text>", y->exponent && *d->plot->unit ? " " : "", d->plot->unit);
    }
    buffer_add(d->b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">step", RIGHT, BOTTOM + 36);
    if (x->exponent) {
        buffer_add(d->b, " ");
        add_power(d->b, x->exponent);
    }
    buffer_add(d->b, "</text>\n");
}

/* Series ----------------------------------------------------------------------------------------------- */

static void add_place(Drawn *d, bool first, double x, double y)
{
    d->cut |= y > d->y.high || y < d->y.low;
    buffer_add(d->b, "%s%.1f %.1f", first ? "M" : " ", place_x(d, x), place_y(d, y));
}

static void add_line(Drawn *d, const Series *s)
{
    static const char *const kinds[] = {
        [SERIES_LINE] = "line", [SERIES_FAINT] = "faint", [SERIES_POINTS] = "joined"};
    buffer_add(d->b, "<path class=\"%s c%d\" d=\"", kinds[s->style], s->colour);
    for (int i = 0; i < s->curve->count; i++) {
        const Bucket *bucket = &s->curve->buckets[i];
        if (s->style != SERIES_FAINT || bucket->count == 1) {
            add_place(d, i == 0, bucket->x, bucket->y);
            continue;
        }
        add_place(d, i == 0, bucket->x, bucket->low);
        add_place(d, false, bucket->x, bucket->high);
    }
    buffer_add(d->b, "\"/>\n");
}

static void add_points(Drawn *d, const Series *s)
{
    for (int i = 0; i < s->curve->count; i++)
        buffer_add(d->b, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>\n", s->colour,
                   place_x(d, s->curve->buckets[i].x), place_y(d, s->curve->buckets[i].y),
                   s->curve->count > FEW ? "2" : "3.5");
}

static void add_legend(Drawn *d)
{
    buffer_add(d->b, "<figcaption>");
    for (int i = 0; i < d->plot->count; i++) {
        const Series *s = &d->plot->series[i];
        if (!s->curve->count)
            continue;
        buffer_add(d->b, "<span class=\"entry\"><span class=\"key%s c%d\">%s</span> ",
                   s->style == SERIES_FAINT ? " pale" : "", s->colour, s->style == SERIES_POINTS ? "●" : "▬");
        html_text(d->b, s->name);
        buffer_add(d->b, "</span> ");
    }
    if (d->cut)
        buffer_add(d->b, "<span class=\"note\">(rare spikes reach beyond the plot)</span>");
    buffer_add(d->b, "</figcaption>");
}

void plot_add(Buffer *b, const Plot *plot)
{
    static const char clip[] = "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">\n";
    Drawn d = {.b = b, .plot = plot};
    bool any = false;
    for (int i = 0; i < plot->count; i++)
        any |= plot->series[i].curve->count > 0;
    if (!any)
        return;
    find_axes(&d);
    buffer_add(b, "<figure class=\"plot\"><h3>");
    html_text(b, plot->title);
    buffer_add(b, "</h3>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    html_text(b, plot->title);
    buffer_add(b, "\">\n");
    add_ticks(&d);
    /* an inner drawing cuts off what lies outside */
    buffer_add(b, clip, LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP, LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP);
    for (int i = 0; i < plot->count; i++)
        if (plot->series[i].curve->count)
            add_line(&d, &plot->series[i]);
    buffer_add(b, "</svg>\n");
    for (int i = 0; i < plot->count; i++)
        if (plot->series[i].style == SERIES_POINTS)
            add_points(&d, &plot->series[i]);
    buffer_add(b, "</svg>\n");
    add_legend(&d);
    buffer_add(b, "</figure>\n");
}
