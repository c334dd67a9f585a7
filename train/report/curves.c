#include "curves.h"

#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LONGEST_LINE 16384 /* bytes: a step's line is far shorter */
#define SMOOTHING 50       /* steps, as on the progress line */

/* An average of about the last SMOOTHING values, without the pull towards 0 of the first ones. */
typedef struct Average {
    double sum, weight;
} Average;

static double average(Average *a, double x)
{
    const double rate = 1.0 / SMOOTHING;
    if (isfinite(x)) {
        a->sum += (x - a->sum) * rate;
        a->weight += (1 - a->weight) * rate;
    }
    return a->weight > 0 ? a->sum / a->weight : NAN;
}

typedef struct Reading {
    Curves *curves;
    Average loss, prior, grad_norm, seconds, bands[LOSS_BANDS];
} Reading;

/* NaN: it is not there, or null. */
static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void add_losses(Reading *r, const json_t *line, double step)
{
    Curves *c = r->curves;
    const double loss = number(line, "loss"), prior = number(line, "loss_prior");
    const json_t *bands = json_object_get(line, "loss_bands");
    curve_add(&c->loss, step, loss);
    curve_add(&c->loss_smooth, step, average(&r->loss, loss));
    curve_add(&c->prior_smooth, step, average(&r->prior, prior));
    for (size_t i = 0; i < LOSS_BANDS; i++) {
        const json_t *band = json_array_get(bands, i);
        curve_add(&c->bands[i], step,
                  average(&r->bands[i], json_is_number(band) ? json_number_value(band) : NAN));
    }
}

static void add_validation(Curves *c, const json_t *line, int64_t step)
{
    const double before = number(line, "validation_loss_before"), loss = number(line, "validation_loss");
    if (isfinite(before)) {
        c->validation_before = before;
        curve_add(&c->validation, 0, before);
    }
    curve_add(&c->validation, (double)step, loss);
    if (isfinite(loss) && !(loss >= c->validation_best)) {
        c->validation_best = loss;
        c->validation_best_step = step;
    }
}

static void add_step(Reading *r, const json_t *line)
{
    Curves *c = r->curves;
    const json_int_t step = json_integer_value(json_object_get(line, "step"));
    if (step <= c->step || json_is_true(json_object_get(line, "done")))
        return;
    const double x = (double)step, grad_norm = number(line, "grad_norm"), seconds = number(line, "seconds"),
                 memory = number(line, "memory_bytes"), epoch = number(line, "epoch");
    c->step = step;
    c->epoch = isfinite(epoch) ? epoch : c->epoch;
    c->seconds_sum += isfinite(seconds) ? seconds : 0;
    c->memory_peak = fmax(c->memory_peak, memory);
    add_losses(r, line, x);
    add_validation(c, line, step);
    curve_add(&c->lr, x, number(line, "lr"));
    curve_add(&c->grad_norm, x, grad_norm);
    curve_add(&c->grad_norm_smooth, x, average(&r->grad_norm, grad_norm));
    curve_add(&c->change_norm, x, number(line, "change_norm"));
    curve_add(&c->seconds, x, seconds);
    curve_add(&c->seconds_smooth, x, average(&r->seconds, seconds));
    curve_add(&c->memory, x, memory / 1e9);
}

/* A line that is too long is passed over to its end. */
static Status read_lines(FILE *f, Reading *r)
{
    char text[LONGEST_LINE];
    bool inside = false; /* of a line that is too long */
    while (fgets(text, sizeof text, f)) {
        const size_t size = strlen(text);
        const bool whole = size > 0 && text[size - 1] == '\n';
        json_t *line = whole && !inside ? json_read(text, size, 0, NULL) : NULL;
        inside = !whole;
        if (json_lost()) {
            json_decref(line);
            return status_memory("out of memory");
        }
        if (json_is_object(line))
            add_step(r, line);
        json_decref(line);
    }
    return ferror(f) ? status_fail("cannot be read: %s", strerror(errno)) : STATUS_OK;
}

Status curves_read(const char *run, Curves **out)
{
    char *path = path_in(run, "log.jsonl");
    Reading r = {.curves = mem_calloc(1, sizeof *r.curves)};
    Status s = path && r.curves ? STATUS_OK : STATUS_FAILED;
    FILE *f = s == STATUS_OK ? fopen(path, "re") : NULL;
    if (s == STATUS_OK)
        r.curves->validation_before = r.curves->validation_best = NAN;
    if (s == STATUS_OK && !f && errno != ENOENT)
        s = file_failed(path, "cannot be opened");
    if (f) {
        s = status_in(read_lines(f, &r), "%s", path);
        fclose(f);
    }
    mem_free(path);
    if (s == STATUS_OK)
        *out = r.curves;
    else
        mem_free(r.curves);
    return s;
}
