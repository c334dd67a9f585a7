#include "together.h"

#include "kernels/base/log.h"
#include "kernels/base/progress.h"
#include "kernels/base/stop.h"
#include "kernels/devices/devices.h"

#define TO_START 600.0 /* seconds; what the configuration says holds once it has been read */

static Comm planned; /* a plan's */

static void fall_silent(void)
{
    log_to(NULL, NULL);
    progress_to(NULL, NULL);
    stop_silently();
}

Status together_begin(bool plan, Comm **out)
{
    if (plan) {
        planned = comm_planned(comm_announced());
        planned.rank = comm_announced_rank();
        *out = &planned;
    } else {
        TRY(comm_open(&(CommOptions){.timeout = TO_START, .stop = stop_flag()}, out));
        device_set_turn((*out)->local_rank);
    }
    if ((*out)->rank > 0)
        fall_silent();
    return STATUS_OK;
}

bool together_idle(const Comm *c, bool plan)
{
    return plan && c->rank > 0;
}

void together_end(Comm *c, Status how)
{
    if (!c || c == &planned)
        return;
    if (c->rank == 1 && comm_lost_first(c))
        log_to(log_terminal, NULL);
    comm_close(c, how);
}
