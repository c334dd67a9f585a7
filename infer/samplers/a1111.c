/* The grid of AUTOMATIC1111's samplers that go by timesteps (DDIM, PLMS, UniPC): 1, 1 + ⌊T/n⌋, 1 + 2 ⌊T/n⌋ …
 * for n steps, which may be one or more places beyond n. DDIM and PLMS go from the last place down to the
 * first, a step less than there are places. From a picture at strength s, with e = ⌊n min(s, 0.999)⌋, the
 * picture gets the noise of place e, and the walk goes through the places below it, e - 1 the first. */
#include "family.h"

static int stride_of(const Sampler *s, const NoiseSchedule *schedule)
{
    return schedule->train_steps / s->steps;
}

int a1111_timestep(const Sampler *s, const NoiseSchedule *schedule, int i)
{
    const int t = i * stride_of(s, schedule) + 1, last = schedule->train_steps - 1;
    return t < last ? t : last;
}

int a1111_places(const Sampler *s, const NoiseSchedule *schedule)
{
    const int stride = stride_of(s, schedule), count = (schedule->train_steps + stride - 1) / stride;
    return count > 1 ? count : 2; /* one step goes somewhere, too */
}

int a1111_begin(Sampler *s, const NoiseSchedule *schedule)
{
    const int places = a1111_places(s, schedule);
    if (!s->from_picture)
        return places;
    const int asked = s->steps - s->skipped - 1, e = asked > 2 ? asked : 2;
    if (e >= places)
        return places;
    s->begun = sampler_level_by_alpha(s, schedule, a1111_timestep(s, schedule, e));
    s->begins_apart = true;
    s->skipped = places - e;
    return e;
}
