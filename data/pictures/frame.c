#include "frame.h"

#include "kernels/base/mem.h"

#define USUAL_STEP 64
#define SMALL 256 /* models that were made for pictures below this take finer steps */

struct Framer {
    FrameRule rule;
    Buckets *buckets; /* NULL: one square */
};

Status frame_settle(FrameRule *r, int multiple, int made_for)
{
    if (!r->buckets)
        return STATUS_OK;
    const bool finer = made_for < SMALL || USUAL_STEP % multiple;
    if (r->step == 0)
        r->step = finer ? multiple : USUAL_STEP;
    if (r->step % multiple)
        return status_refuse("buckets in steps of %d: this model takes multiples of %d", r->step, multiple);
    if (r->least == 0)
        r->least = r->side / 2 < r->step ? r->step : r->side / 2 / r->step * r->step;
    if (r->most == 0)
        r->most = 2 * r->side / r->step * r->step;
    return STATUS_OK;
}

Status framer_new(const FrameRule *settled, Framer **out)
{
    *out = NULL;
    Framer *f = mem_calloc(1, sizeof *f);
    if (!f)
        return STATUS_FAILED;
    f->rule = *settled;
    const BucketRule rule = {.resolution = size_square(settled->side),
                             .min_side = settled->least,
                             .max_side = settled->most,
                             .step = settled->step,
                             .enlarge = settled->enlarge};
    const Status s = settled->buckets ? buckets_new(&rule, &f->buckets) : STATUS_OK;
    if (s != STATUS_OK) {
        framer_free(f);
        return s;
    }
    *out = f;
    return STATUS_OK;
}

void framer_free(Framer *f)
{
    if (!f)
        return;
    buckets_free(f->buckets);
    mem_free(f);
}

Status framer_fit(const Framer *f, Size picture, BucketFit *out)
{
    if (f->buckets)
        TRY(buckets_fit(f->buckets, picture, out));
    else
        *out = bucket_fit_size(picture, size_square(f->rule.side));
    if (f->rule.whole)
        *out = bucket_fit_whole(*out);
    return STATUS_OK;
}
