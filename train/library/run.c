/* AtlRun: a training run. */
#include "handle.h"

#include "kernels/base/mem.h"
#include "train/plan/setup.h"
#include "train/run/trainer.h"

#include <pthread.h>
#include <string.h>

struct AtlRun {
    Handle handle;
    Config *config;
    char *resume;
    bool done;
};

/* Its folder's lock is the process's, HDF5 and the caches have one user at a time. */
static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static Status read_config(AtlRun *run, const AtlRunOptions *o)
{
    if (!o->config == !o->text)
        return status_refuse("AtlRunOptions: one of config and text has to be given");
    if (o->set_count < 0 || (o->set_count > 0 && !o->set))
        return status_refuse("AtlRunOptions.set: %d values and no list", o->set_count);
    if (o->resume && !(run->resume = mem_strdup(o->resume)))
        return STATUS_FAILED;
    return o->config ? config_read(o->config, o->set, o->set_count, &run->config)
                     : config_read_text(o->text, o->folder, o->set, o->set_count, &run->config);
}

int atl_run_open(const AtlRunOptions *options, AtlRun **out)
{
    AtlRunOptions o;
    *out = NULL;
    TRY(handle_read_struct("AtlRunOptions", options, sizeof o, &o, sizeof o));
    AtlRun *run = mem_calloc(1, sizeof *run);
    if (!run)
        return (int)STATUS_FAILED;
    run->handle.listener = o.listener;
    Status s = handle_enter(&run->handle, "run");
    if (s == STATUS_OK)
        s = (Status)handle_leave(&run->handle, read_config(run, &o));
    if (s == STATUS_OK)
        *out = run;
    else
        atl_run_close(run);
    return (int)s;
}

void atl_run_close(AtlRun *run)
{
    if (!run)
        return;
    config_free(run->config);
    mem_free(run->resume);
    mem_free(run);
}

const char *atl_run_folder(const AtlRun *run)
{
    return run->config->output.dir;
}

void atl_run_stop(AtlRun *run)
{
    handle_stop(&run->handle);
}

static Status go(AtlRun *run)
{
    const Device *dev;
    if (run->done)
        return status_refuse("%s: this run has ended; open another with resume \"auto\" to go on",
                             run->config->output.dir);
    if (pthread_mutex_trylock(&running) != 0)
        return status_refuse("%s: another run is going on in this process; wait for its end",
                             run->config->output.dir);
    run->done = true;
    Status s = setup_device(run->config, &dev);
    if (s == STATUS_OK && dev != device_cpu())
        handle_take_card(&run->handle);
    if (s == STATUS_OK)
        s = trainer_run(run->config, &(TrainOptions){.resume = run->resume,
                                                     .again = "atl_run_open with resume \"auto\"",
                                                     .stop = &run->handle.stop,
                                                     .device = dev,
                                                     .no_output = true});
    pthread_mutex_unlock(&running);
    return s;
}

int atl_run_go(AtlRun *run)
{
    TRY(handle_enter(&run->handle, run->config->output.dir));
    return handle_leave(&run->handle, go(run));
}
