#include "checkpoint_folder.h"

#include "kernels/base/aside.h"
#include "kernels/base/file.h"
#include "kernels/base/log.h"
#include "kernels/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLACED ".replaced-"

/* Finding ---------------------------------------------------------------------------------------------- */

int64_t checkpoint_step(const char *name)
{
    long long step;
    int used = 0;
    const size_t word = strlen("step-"), digits = strspn(name + strnlen(name, word), "0123456789");
    if (sscanf(name, "step-%lld%n", &step, &used) != 1 || name[used] || (size_t)used != word + digits)
        return -1;
    return step;
}

/* A failure is one to find it out: what cannot be looked at is not taken for half. */
static Status is_whole(const char *folder, bool *whole)
{
    char *state = path_join(folder, "state.json");
    if (!state)
        return STATUS_FAILED;
    struct stat st;
    *whole = stat(state, &st) == 0;
    const Status s =
        *whole || errno == ENOENT || errno == ENOTDIR ? STATUS_OK : file_failed(state, "cannot be looked at");
    mem_free(state);
    return s;
}

Status checkpoint_last(const char *run, int64_t until, char **folder)
{
    *folder = NULL;
    char *all = path_join(run, "checkpoints"), **names = NULL;
    int count = 0;
    int64_t best = -1;
    Status s = all ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(all))
        s = dir_list(all, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const int64_t step = checkpoint_step(names[i]);
        if (step <= best || step > until)
            continue;
        char *path = path_join(all, names[i]);
        bool whole = false;
        s = path ? is_whole(path, &whole) : STATUS_FAILED;
        if (whole) {
            mem_free(*folder);
            *folder = path;
            best = step;
        } else {
            mem_free(path);
        }
    }
    dir_list_free(names, count);
    mem_free(all);
    if (s != STATUS_OK) {
        mem_free(*folder);
        *folder = NULL;
    }
    return s;
}

/* What a checkpoint consists of; anything else in its folder is somebody's. The state is what makes it one.
 */
static const char *const FILES[] = {"state.json", "weights.safetensors", "optimizer.safetensors",
                                    "ema.safetensors"};
#define FILE_COUNT (sizeof FILES / sizeof *FILES)

static bool is_own(const char *name)
{
    for (size_t i = 0; i < FILE_COUNT; i++)
        if (strcmp(name, FILES[i]) == 0)
            return true;
    return name_is_aside(name);
}

/* Something of the checkpoint's own (own), or of somebody's. True where that cannot be found out. */
static bool holds(const char *folder, bool own)
{
    char **names = NULL;
    int count = 0;
    bool found = dir_list(folder, &names, &count) != STATUS_OK;
    for (int i = 0; i < count && !found; i++)
        found = is_own(names[i]) == own;
    dir_list_free(names, count);
    return found;
}

/* Moves what is not the checkpoint's own into its successor, under the names that are free there. */
static void hand_over(const char *folder, const char *successor)
{
    char **names = NULL;
    int count = 0;
    if (dir_list(folder, &names, &count) != STATUS_OK)
        return;
    for (int i = 0; i < count; i++) {
        char *from = path_join(folder, names[i]), *to = path_join(successor, names[i]);
        if (from && to && !is_own(names[i]) && !file_exists(to) && rename(from, to) != 0)
            log_warn("%s: cannot be moved to %s: %s", from, successor, strerror(errno));
        mem_free(from);
        mem_free(to);
    }
    dir_list_free(names, count);
}

/* Removes a checkpoint's own files, the state first, and the folder if nothing else is in it. False: it could
 * not, for the reason in errno. */
static bool remove_own(const char *folder)
{
    if (!holds(folder, false))
        return dir_remove(folder) == STATUS_OK;
    bool gone = true;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        char *path = path_join(folder, FILES[i]);
        gone &= path && (unlink(path) == 0 || errno == ENOENT);
        mem_free(path);
    }
    return gone;
}

static void remove_in(const char *all, const char *name)
{
    char *path = path_join(all, name);
    if (path)
        remove_own(path);
    mem_free(path);
}

/* Removes a checkpoint: first its name goes, so that a half removed one is never taken for whole; with
 * something of somebody's in it, its state. What cannot be removed takes room and does no harm. */
static void discard(const char *all, const char *name)
{
    char *path = path_join(all, name), *hidden = path_in(all, ".%s.old-%ld", name, (long)getpid());
    if (path && hidden &&
        (holds(path, false) ? !remove_own(path) : rename(path, hidden) != 0 || !remove_own(hidden)))
        log_warn("%s: cannot be removed: %s", path, strerror(errno));
    mem_free(path);
    mem_free(hidden);
}

/* Gives the new checkpoint its name. One of the same step may have it (saved on an interruption, before its
 * validation and preview were done): between the two renames neither has, and checkpoint_clean gives it back.
 */
Status checkpoint_place(const char *all, const char *part, const char *final)
{
    char *replaced = path_in(all, ".%s" REPLACED "%ld", path_base(final), (long)getpid());
    Status s = replaced ? STATUS_OK : STATUS_FAILED;
    const bool there = file_is_dir(final);
    if (s == STATUS_OK && there && rename(final, replaced) != 0)
        s = status_fail("%s: cannot be replaced: %s", final, strerror(errno));
    if (s == STATUS_OK && rename(part, final) != 0) {
        s = status_fail("%s: cannot get its final name: %s", part, strerror(errno));
        if (there && rename(replaced, final) != 0)
            log_warn("%s: has lost its name; it is given back by the next run in this folder", replaced);
    }
    if (s == STATUS_OK)
        s = dir_sync(all);
    if (s == STATUS_OK && there) {
        hand_over(replaced, final);
        remove_in(all, path_base(replaced));
    }
    mem_free(replaced);
    return s;
}

/* ".step-000250.replaced-4711" while there is no step-000250: the writer was killed between two renames. */
static Status give_back(const char *all, const char *name)
{
    const char *end = strstr(name, REPLACED);
    if (!end)
        return STATUS_OK;
    char *final = path_in(all, "%.*s", (int)(end - name) - 1, name + 1), *path = path_join(all, name);
    bool whole = false;
    Status s = final && path ? is_whole(path, &whole) : STATUS_FAILED;
    if (s == STATUS_OK && whole && !file_exists(final) && rename(path, final) != 0)
        s = status_fail("%s: cannot be given its name back: %s", path, strerror(errno));
    if (s == STATUS_OK && file_is_dir(path))
        hand_over(path, final);
    mem_free(path);
    mem_free(final);
    return s;
}

Status checkpoint_clean(const char *run)
{
    char *all = path_join(run, "checkpoints"), **names = NULL;
    int count = 0;
    Status s = all ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(all))
        s = dir_list(all, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        if (strncmp(names[i], ".step-", 6) != 0)
            continue;
        s = give_back(all, names[i]);
        if (s == STATUS_OK)
            remove_in(all, names[i]);
    }
    dir_list_free(names, count);
    mem_free(all);
    return s;
}

static bool is_whole_in(const char *all, const char *name)
{
    char *path = path_join(all, name);
    bool whole = false;
    const bool known = path && is_whole(path, &whole) == STATUS_OK;
    mem_free(path);
    return known && whole;
}

static Status put_aside(const char *path)
{
    char *aside = mem_printf("%s.damaged", path);
    Status s = aside ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && (file_exists(aside) || rename(path, aside) != 0))
        s = status_refuse("%s: has no state.json, so it is no whole checkpoint; move it away", path);
    if (s == STATUS_OK)
        log_warn(
            "%s: has no state.json, so it is no whole checkpoint and not gone on from; it is put aside as %s",
            path, path_base(aside));
    mem_free(aside);
    return s;
}

Status checkpoint_check_names(const char *run, bool resumed)
{
    char *all = path_join(run, "checkpoints"), **names = NULL;
    int count = 0;
    Status s = all ? STATUS_OK : STATUS_FAILED;
    if (s == STATUS_OK && file_is_dir(all))
        s = dir_list(all, &names, &count);
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        bool whole = true;
        char *path = checkpoint_step(names[i]) >= 0 ? path_join(all, names[i]) : NULL;
        if (checkpoint_step(names[i]) >= 0)
            s = path ? is_whole(path, &whole) : STATUS_FAILED;
        if (s == STATUS_OK && !whole && resumed && file_is_dir(path))
            s = holds(path, true) ? put_aside(path) : STATUS_OK;
        else if (s == STATUS_OK && !whole)
            s = status_refuse(
                "%s: is there, has a checkpoint's name and is none; move it away, or choose another "
                "folder (output.dir)",
                path);
        mem_free(path);
    }
    dir_list_free(names, count);
    mem_free(all);
    return s;
}

/* The whole checkpoint of the largest step below limit; its number in names, −1: there is none. */
static int newest_below(const char *all, char **names, int count, int64_t limit)
{
    int found = -1;
    for (int i = 0; i < count; i++) {
        const int64_t step = checkpoint_step(names[i]);
        if (step >= 0 && step < limit && (found < 0 || step > checkpoint_step(names[found])) &&
            is_whole_in(all, names[i]))
            found = i;
    }
    return found;
}

void checkpoint_prune(const char *run, int64_t newest, int keep, int64_t every, int64_t best)
{
    char *all = path_join(run, "checkpoints"), **names = NULL;
    int count = 0, kept = 0, i;
    if (!all || dir_list(all, &names, &count) != STATUS_OK) {
        log_warn("older checkpoints cannot be removed: %s", status_message());
        mem_free(all);
        return;
    }
    int64_t limit = INT64_MAX; /* steps come in the order of names up to 999,999: don't count on it */
    while ((i = newest_below(all, names, count, limit)) >= 0) {
        const int64_t step = limit = checkpoint_step(names[i]);
        const bool stray = step < newest && every > 0 && step % every != 0;
        const bool spare = stray || kept >= (keep > 0 ? keep : 1);
        if (step > newest || (spare && step != best))
            discard(all, names[i]);
        else
            kept += !stray;
    }
    dir_list_free(names, count);
    mem_free(all);
}
