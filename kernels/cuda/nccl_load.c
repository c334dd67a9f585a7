/* Where NCCL is (nccl.h). $ATELIER_NCCL names a file; without it the loader is asked, which knows packages
 * and LD_LIBRARY_PATH, and then the folders that pip and conda put NCCL into are looked at, as
 * scripts/cuda/find does for the toolkit. The first that is new enough is taken. */
#include "nccl.h"

#include "cuda.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libnccl.so.2"
/* The first whose calls do not block, so that one can give up on a process that never comes. Every NCCL for
 * CUDA 12 is newer. */
#define OLDEST 21400
#define OLDEST_TEXT "2.14"

static Nccl nccl;
static char reason[1024];

/* What NCCL calls its version: 2804 is 2.8.4, 21403 is 2.14.3. */
static void version_text(int version, char *text, size_t size)
{
    const int hundreds = version < 10000 ? 10 : 100;
    snprintf(text, size, "%d.%d.%d", version / (100 * hundreds), version / 100 % hundreds, version % 100);
}

/* Of several files that are no use the first is told of that is there. */
static void because(bool there, const char *text)
{
    static bool was_there;
    if (!reason[0] || (there && !was_there))
        snprintf(reason, sizeof reason, "%s", text);
    was_there |= there;
}

static bool find_functions(void *library, char *text, size_t size)
{
    const char *missing = NULL;
#define FIND(type, name, parameters)                                                                         \
    if (!(*(void **)&nccl.name = dlsym(library, #name)) && !missing)                                         \
        missing = #name;
    NCCL_FUNCTIONS(FIND)
    if (!nccl.ncclGetVersion || nccl.ncclGetVersion(&nccl.version) != ncclSuccess)
        nccl.version = 0;
    version_text(nccl.version, nccl.text, sizeof nccl.text);
    Dl_info where;
    nccl.from =
        nccl.ncclGetVersion && dladdr((void *)nccl.ncclGetVersion, &where) ? where.dli_fname : LIBRARY;
    if (nccl.version && nccl.version < OLDEST)
        snprintf(text, size, "NCCL %s (%s) is too old: " OLDEST_TEXT " is the oldest that can be used",
                 nccl.text, nccl.from);
    else if (missing || !nccl.version)
        snprintf(text, size, "%s is no NCCL that can be used: it has no %s", nccl.from,
                 missing ? missing : "version");
    else
        return true;
    return false;
}

static bool try_file(const char *name, bool there)
{
    char text[768];
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(text, sizeof text, "NCCL cannot be loaded: %s", dlerror());
        because(there, text);
        return false;
    }
    if (find_functions(library, text, sizeof text))
        return true;
    because(true, text);
    dlclose(library);
    return false;
}

/* pattern: behind the folder that the environment variable names, or `otherwise` behind $HOME. */
static bool try_folder(const char *variable, const char *otherwise, const char *pattern)
{
    const char *folder = getenv(variable), *home = getenv("HOME");
    char path[2048];
    glob_t found;
    bool taken = false;
    if (folder && *folder)
        snprintf(path, sizeof path, "%s/%s", folder, pattern);
    else if (otherwise && home)
        snprintf(path, sizeof path, "%s/%s/%s", home, otherwise, pattern);
    else
        return false;
    if (glob(path, 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !taken; i++)
        taken = try_file(found.gl_pathv[i], true);
    globfree(&found);
    return taken;
}

#define IN_PYTHON "lib/python3*/site-packages/nvidia/nccl/lib/" LIBRARY

static bool find(void)
{
    const char *named = getenv("ATELIER_NCCL");
    if (named && *named)
        return try_file(named, true);
    return try_file(LIBRARY, false) || try_folder("VIRTUAL_ENV", NULL, IN_PYTHON) ||
           try_folder("CONDA_PREFIX", NULL, "lib/" LIBRARY) || try_folder("CONDA_PREFIX", NULL, IN_PYTHON) ||
           try_folder("ATELIER_CUDA_HOME", ".local/share/atelier/cuda", "nvidia/nccl/lib/" LIBRARY) ||
           try_folder("PYTHONUSERBASE", ".local", IN_PYTHON);
}

const Nccl *nccl_load(const char **why)
{
    static enum { UNKNOWN, HERE, NOT_HERE } state;
    if (state == UNKNOWN)
        state = find() ? HERE : NOT_HERE;
    *why = state == HERE ? NULL : reason;
    return state == HERE ? &nccl : NULL;
}

const char *device_cuda_nccl(const char **why)
{
    static char text[1024];
    const Nccl *n = nccl_load(why);
    if (n)
        snprintf(text, sizeof text, "%s, %s", n->text, n->from);
    return n ? text : NULL;
}
