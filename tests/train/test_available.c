/* Memory left by control groups. Breaks if a limit on a group above the process's own were not seen, or if
 * cached files counted as taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "train/plan/available.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char work[64], groups[96], mount[96];

static int open_work(void **state)
{
    (void)state;
    strcpy(work, "/tmp/atelier-groups-XXXXXX");
    if (!mkdtemp(work))
        return -1;
    snprintf(groups, sizeof groups, "%s/groups", work);
    snprintf(mount, sizeof mount, "%s/mount", work);
    return 0;
}

static int remove_work(void **state)
{
    (void)state;
    return dir_remove(work);
}

static void put(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", work, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text)), STATUS_OK);
}

static void no_limit_is_none(void **state)
{
    (void)state;
    put("groups", "0::/\n");
    assert_true(memory_left_by_groups(groups, mount) == SIZE_MAX);
    put("groups", "0::/run\n");
    put("mount/run/memory.max", "max\n");
    put("mount/run/memory.current", "1000\n");
    assert_true(memory_left_by_groups(groups, mount) == SIZE_MAX);
    assert_true(memory_left_by_groups("/nowhere", mount) == SIZE_MAX);
}

static void the_tightest_of_all_groups_counts(void **state)
{
    (void)state;
    put("groups", "0::/user/run\n");
    put("mount/user/run/memory.max", "9000\n");
    put("mount/user/run/memory.current", "1000\n");
    assert_int_equal(memory_left_by_groups(groups, mount), 8000);
    put("mount/user/memory.max", "5000\n");
    put("mount/user/memory.current", "3000\n");
    assert_int_equal(memory_left_by_groups(groups, mount), 2000);
    put("mount/user/memory.stat", "anon 100\nactive_file 700\ninactive_file 500\n");
    assert_int_equal(memory_left_by_groups(groups, mount), 2500);
    put("mount/user/memory.current", "6000\n");
    put("mount/user/memory.stat", "inactive_file 0\n");
    assert_int_equal(memory_left_by_groups(groups, mount), 0);
}

static void version_1_has_a_tree_of_its_own_for_memory(void **state)
{
    (void)state;
    put("groups", "4:cpu,memory:/box\n3:pids:/other\n");
    put("mount/memory/box/memory.limit_in_bytes", "700\n");
    put("mount/memory/box/memory.usage_in_bytes", "100\n");
    assert_int_equal(memory_left_by_groups(groups, mount), 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_is_none),
        cmocka_unit_test(the_tightest_of_all_groups_counts),
        cmocka_unit_test(version_1_has_a_tree_of_its_own_for_memory),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
