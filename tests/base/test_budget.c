/* Cores, memory and descriptors out of made-up machines of both cgroup versions. */
#include "base/budget.h"
#include "base/cgroup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sched.h>
#include <string.h>

static char root[64];

static void begin(void) {
    snprintf(root, sizeof root, "/tmp/voxeld-budget-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void end(void) {
    vx_remove_tree(root, NULL);
}

TestSuite(budget, .init = begin, .fini = end);

static void put(const char *path, const char *text) {
    vx_auto_free char *full = vx_strf("%s%s", root, path), *dir = strdup(full);
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    FILE *f = fopen(full, "we");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

static void machine(const char *allowed) {
    vx_auto_free char *status = vx_strf("Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t%s\n"
                                        "Mems_allowed_list:\t0\n",
                                        allowed);
    put("/proc/self/status", status);
    put("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1000000 kB\n"
                         "MemAvailable:    8388608 kB\n");
    put("/proc/vmstat", "nr_free_pages 7\noom_kill 41\n");
}

#define MIB (1024ull * 1024)

Test(budget, without_groups_the_machine_is_the_limit) {
    struct vx_memory m;
    uint64_t kills;
    machine("0-5,8");
    cr_assert_eq(vx_budget_cores(root), 7);
    cr_assert(isinf(vx_budget_quota(root)));
    cr_assert(vx_budget_memory(root, &m));
    cr_assert_eq(m.total_bytes, 16384 * MIB);
    cr_assert_eq(m.available_bytes, 8192 * MIB);
    cr_assert(vx_budget_oom_kills(root, &kills) && kills == 41, "the machine's");
}

Test(budget, nothing_readable_is_one_core_and_no_memory) {
    struct vx_memory m;
    uint64_t kills;
    cr_assert_eq(vx_budget_cores(root), 1);
    cr_assert_not(vx_budget_memory(root, &m));
    cr_assert_not(vx_budget_oom_kills(root, &kills));
}

/* Limits on two levels; the narrowest of each kind counts, wherever it lies. */
Test(budget, version_2_takes_the_narrowest_level) {
    struct vx_memory m;
    uint64_t kills;
    machine("0-15");
    put("/proc/self/cgroup", "0::/lab.slice/voxeld.service\n");
    put("/proc/self/mountinfo",
        "20 1 0:5 / /proc rw - proc proc rw\n"
        "31 20 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/lab.slice/cpu.max", "350000 100000\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/cpuset.cpus.effective", "4-9\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/memory.max", "4294967296\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/memory.current", "3221225472\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/memory.stat",
        "anon 1\ninactive_file 1073741824\nactive_file 5\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/memory.events",
        "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n");
    put("/sys/fs/cgroup/lab.slice/memory.max", "max\n");
    cr_assert_float_eq(vx_budget_quota(root), 3.5, 1e-9);
    cr_assert_eq(vx_budget_cores(root), 4, "3.5 cores of quota are planned as 4");
    struct vx_cpus cpus;
    char text[64];
    vx_budget_cpus(root, &cpus);
    cr_assert_str_eq(vx_cpus_format(&cpus, text, sizeof text), "4-9");
    cr_assert(vx_budget_memory(root, &m));
    cr_assert_eq(m.total_bytes, 4096 * MIB);
    cr_assert_eq(m.available_bytes, 2048 * MIB, "4 - (3 - 1) GiB, got %llu",
                 (unsigned long long)m.available_bytes);
    cr_assert(vx_budget_oom_kills(root, &kills) && kills == 2);
    put("/sys/fs/cgroup/lab.slice/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/lab.slice/memory.current", "2147483648\n");
    cr_assert(vx_budget_memory(root, &m));
    cr_assert_eq(m.total_bytes, 1024 * MIB);
    cr_assert_eq(m.available_bytes, 0);
    put("/sys/fs/cgroup/lab.slice/memory.max", "max\n");
    put("/sys/fs/cgroup/lab.slice/voxeld.service/memory.high", "3221225472\n");
    cr_assert(vx_budget_memory(root, &m));
    cr_assert_eq(m.total_bytes, 3072 * MIB, "beyond memory.high a group is throttled");
}

static void version_1(const char *group, const char *mounted) {
    vx_auto_free char *own = vx_strf("12:memory:%s\n11:cpu,cpuacct:%s\n4:cpuset:%s\n"
                                     "1:name=systemd:/init.scope\n0::/init.scope\n",
                                     group, group, group);
    vx_auto_free char *mounts =
        vx_strf("30 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
                "31 20 0:28 %s /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup "
                "rw,cpu,cpuacct\n"
                "32 20 0:29 %s /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                "33 20 0:30 %s /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
                mounted, mounted, mounted);
    put("/proc/self/cgroup", own);
    put("/proc/self/mountinfo", mounts);
    put("/sys/fs/cgroup/unified/cgroup.procs", "");
}

Test(budget, version_1_beside_an_empty_version_2) {
    struct vx_memory m;
    uint64_t kills;
    machine("0-7");
    version_1("/jobs/7", "/");
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "25000\n");
    put("/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "2147483648\n");
    put("/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "1610612736\n");
    put("/sys/fs/cgroup/memory/jobs/memory.stat",
        "cache 9\ninactive_file 1\ntotal_inactive_file 536870912\n");
    put("/sys/fs/cgroup/memory/jobs/7/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    put("/sys/fs/cgroup/cpuset/jobs/7/cpuset.cpus", "0-6\n");
    cr_assert_float_eq(vx_budget_quota(root), 2, 1e-9);
    cr_assert_eq(vx_budget_cores(root), 2);
    cr_assert(vx_budget_memory(root, &m));
    cr_assert_eq(m.total_bytes, 2048 * MIB);
    cr_assert_eq(m.available_bytes, 1024 * MIB);
    cr_assert(vx_budget_oom_kills(root, &kills) && kills == 5);
    struct vx_cpus cpus;
    vx_budget_cpus(root, &cpus);
    cr_assert_eq(vx_cpus_count(&cpus), 7);
}

/* A container without a namespace of its own: the kernel names the host's path, the mount shows
 * only the container's part of the tree. */
Test(budget, a_container_that_sees_its_group_as_the_top) {
    struct vx_memory m;
    struct vx_cgroup g;
    machine("0-63");
    version_1("/docker/abc", "/docker/abc");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "800000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    cr_assert_eq(vx_budget_cores(root), 8);
    cr_assert(vx_budget_memory(root, &m) && m.total_bytes == 1024 * MIB);
    cr_assert(vx_cgroup_find(root, "memory", &g));
    cr_assert(g.version == 1 && !vx_cgroup_parent(&g), "it lies at the mount point");
    cr_assert_not(vx_cgroup_find(root, "pids", &g) && g.version == 1);
}

/* In a namespace paths may climb out of what is mounted. */
Test(budget, a_group_outside_of_the_mount_is_the_mount) {
    struct vx_cgroup g;
    machine("0");
    put("/proc/self/cgroup", "0::/../../other\n");
    put("/proc/self/mountinfo", "31 20 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/memory.max", "536870912\n");
    put("/sys/fs/cgroup/memory.current", "12\n");
    struct vx_memory m;
    cr_assert(vx_cgroup_find(root, "memory", &g));
    cr_assert_eq(strlen(g.dir), g.top);
    cr_assert(vx_budget_memory(root, &m) && m.total_bytes == 512 * MIB);
}

Test(budget, lists_of_cpus) {
    static const char *const bad[] = {"", "a", "3-1", "1;2", "2-", "-3"};
    struct vx_cpus c;
    char text[64];
    cr_assert(vx_cpus_parse("\t0-2,4,6-7,1023,5000\n", &c));
    cr_assert_eq(vx_cpus_count(&c), 7);
    cr_assert(vx_cpus_has(&c, 4) && !vx_cpus_has(&c, 5) && !vx_cpus_has(&c, 5000));
    cr_assert_str_eq(vx_cpus_format(&c, text, sizeof text), "0-2,4,6-7,1023");
    for (size_t i = 0; i < VX_COUNTOF(bad); i++) {
        cr_assert_not(vx_cpus_parse(bad[i], &c), "%s", bad[i]);
        cr_assert_eq(vx_cpus_count(&c), 0);
    }
}

Test(budget, files_leave_a_hundred_descriptors_or_most_of_a_small_limit) {
    cr_assert_eq(vx_budget_files_of(64), 16);
    cr_assert_eq(vx_budget_files_of(220), 55);
    cr_assert_eq(vx_budget_files_of(1024), 914);
    cr_assert_eq(vx_budget_files_of(UINT64_MAX), 1 << 20);
}

/* The real machine: what the kernel says of this process is what the budget says. */
Test(budget, this_process) {
    cpu_set_t set;
    struct vx_cpus cpus;
    struct vx_memory m;
    vx_budget_cpus("", &cpus);
    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    cr_assert_leq(vx_cpus_count(&cpus), (uint32_t)CPU_COUNT(&set));
    for (uint32_t c = 0; c < VX_CPUS_MAX; c++) {
        cr_assert(!vx_cpus_has(&cpus, c) || CPU_ISSET(c, &set));
    }
    cr_assert(vx_budget_cores("") >= 1 && vx_budget_cores("") <= vx_cpus_count(&cpus));
    cr_assert(vx_budget_memory("", &m) && m.total_bytes > m.available_bytes);
    cr_assert_leq(vx_budget_memory_share(), m.total_bytes / 2);
}
