/* What the process finds on its machine. Breaks if a limit on a control group above the process's own were
 * not seen, if cached files counted as taken, if a core that the process may not use counted, or if memory
 * that is taken did not show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/base/file.h"
#include "kernels/base/machine.h"
#include "kernels/base/mem.h"

#include <sched.h>
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
    assert_true(machine_bytes_left_by_groups(groups, mount) == SIZE_MAX);
    put("groups", "0::/run\n");
    put("mount/run/memory.max", "max\n");
    put("mount/run/memory.current", "1000\n");
    assert_true(machine_bytes_left_by_groups(groups, mount) == SIZE_MAX);
    assert_true(machine_bytes_left_by_groups("/nowhere", mount) == SIZE_MAX);
}

static void the_tightest_of_all_groups_counts(void **state)
{
    (void)state;
    put("groups", "0::/user/run\n");
    put("mount/user/run/memory.max", "9000\n");
    put("mount/user/run/memory.current", "1000\n");
    assert_int_equal(machine_bytes_left_by_groups(groups, mount), 8000);
    put("mount/user/memory.max", "5000\n");
    put("mount/user/memory.current", "3000\n");
    assert_int_equal(machine_bytes_left_by_groups(groups, mount), 2000);
    put("mount/user/memory.stat", "anon 100\nactive_file 700\ninactive_file 500\n");
    assert_int_equal(machine_bytes_left_by_groups(groups, mount), 2500);
    put("mount/user/memory.current", "6000\n");
    put("mount/user/memory.stat", "inactive_file 0\n");
    assert_int_equal(machine_bytes_left_by_groups(groups, mount), 0);
}

static void version_1_has_a_tree_of_its_own_for_memory(void **state)
{
    (void)state;
    put("groups", "4:cpu,memory:/box\n3:pids:/other\n");
    put("mount/memory/box/memory.limit_in_bytes", "700\n");
    put("mount/memory/box/memory.usage_in_bytes", "100\n");
    assert_int_equal(machine_bytes_left_by_groups(groups, mount), 600);
}

static void the_tightest_quota_of_cores_counts(void **state)
{
    (void)state;
    put("groups", "0::/user/run\n");
    assert_int_equal(machine_cores_by_groups(groups, mount), 0);
    put("mount/user/run/cpu.max", "max 100000\n");
    assert_int_equal(machine_cores_by_groups(groups, mount), 0);
    put("mount/user/run/cpu.max", "350000 100000\n"); /* three and a half */
    assert_int_equal(machine_cores_by_groups(groups, mount), 4);
    put("mount/user/cpu.max", "20000 10000\n");
    assert_int_equal(machine_cores_by_groups(groups, mount), 2);
    put("mount/cpu.max", "1000 100000\n"); /* a container's own root: a hundredth is still one */
    assert_int_equal(machine_cores_by_groups(groups, mount), 1);
}

static void version_1_has_a_tree_of_its_own_for_cores(void **state)
{
    (void)state;
    put("groups", "5:cpu,cpuacct:/box\n4:memory:/box\n");
    put("mount/cpu/box/cpu.cfs_quota_us", "-1\n");
    put("mount/cpu/box/cpu.cfs_period_us", "100000\n");
    assert_int_equal(machine_cores_by_groups(groups, mount), 0);
    put("mount/cpu/box/cpu.cfs_quota_us", "300000\n");
    assert_int_equal(machine_cores_by_groups(groups, mount), 3);
}

static void only_cores_of_the_process_count(void **state)
{
    (void)state;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    const int cores = machine_cores();
    assert_true(cores >= 1 && cores <= CPU_COUNT(&all));
    int first = 0;
    while (!CPU_ISSET(first, &all))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(machine_cores(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(machine_cores(), cores);
}

static void memory_that_is_taken_shows(void **state)
{
    (void)state;
    enum { BYTES = 64 << 20, SLACK = 8 << 20 }; /* the kernel counts a processor's last pages late */
    const size_t before = machine_current_bytes();
    char *p = mem_pages(BYTES);
    assert_non_null(p);
    memset(p, 1, BYTES);
    const size_t held = machine_current_bytes();
    mem_pages_free(p, BYTES);
    const size_t after = machine_current_bytes(), peak = machine_peak_bytes();
    assert_true(before > 0 && held >= before + BYTES - SLACK && held <= before + BYTES + SLACK);
    assert_true(after <= before + SLACK);
    assert_true(peak >= held - SLACK);
    assert_true(machine_total_bytes() > held);
    assert_true(machine_available_bytes() < machine_total_bytes());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_is_none),
        cmocka_unit_test(the_tightest_of_all_groups_counts),
        cmocka_unit_test(version_1_has_a_tree_of_its_own_for_memory),
        cmocka_unit_test(the_tightest_quota_of_cores_counts),
        cmocka_unit_test(version_1_has_a_tree_of_its_own_for_cores),
        cmocka_unit_test(only_cores_of_the_process_count),
        cmocka_unit_test(memory_that_is_taken_shows),
    };
    return cmocka_run_group_tests(tests, open_work, remove_work);
}
