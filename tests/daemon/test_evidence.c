/* Host evidence out of made-up machines: both cgroup versions, and files that are not there. */
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"
#include "daemon/evidence/disk.h"
#include "daemon/evidence/host.h"
#include "daemon/evidence/pressure.h"
#include "daemon/evidence/process.h"
#include "daemon/evidence/residency.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char root[64];
static struct vx_host_watch *watch;

enum { SELF = 100 };

static void begin(void) {
    snprintf(root, sizeof root, "/tmp/voxeld-evidence-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    watch = vx_host_watch_create(root, SELF);
}

static void end(void) {
    vx_host_watch_free(watch);
    vx_remove_tree(root, NULL);
}

TestSuite(daemon_evidence, .init = begin, .fini = end);

__attribute__((format(printf, 2, 3))) static void put(const char *path, const char *fmt, ...) {
    vx_auto_free char *full = vx_strf("%s%s", root, path), *dir = strdup(full);
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vx_mkdirs(dir, 0755, NULL), VX_OK);
    vx_auto_fclose FILE *f = fopen(full, "we");
    va_list args;
    va_start(args, fmt);
    vfprintf(f, fmt, args);
    va_end(args);
}

static void process(int pid, int ppid, const char *name, int ticks, int cpu) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    put(path,
        "%d (%s) R %d 1 1 0 -1 4194560 11 0 3 0 %d %d 0 0 20 0 1 0 777 1000 10 1844 1 1 0 0 0 0 0 "
        "0 0 0 0 0 17 %d 0 0\n",
        pid, name, ppid, ticks - ticks / 4, ticks / 4, cpu);
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    put(path, "Name:\t%s\nUid:\t%d\t0\t0\t0\n", name, 1000 + pid);
}

/* Two CPUs of four are ours; ticks of 1/100 s. */
static void machine(int busy0, int busy1, int busy3) {
    put("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n");
    put("/proc/stat",
        "cpu  9 9 9 9 9 9 9 0 0 0\ncpu0 %d 0 10 500 7 0 0 0 0 0\ncpu1 %d 5 0 500 0 0 0 0 0 0\n"
        "cpu2 0 0 0 1 0 0 0 0 0 0\ncpu3 %d 0 0 1 0 0 0 0 0 0\n",
        busy0, busy1, busy3);
    put("/proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n");
}

#define SECOND 1000000000ull

Test(daemon_evidence, a_process_with_an_odd_name) {
    struct vx_process p;
    process(7, 1, "a) R (b", 400, 3);
    cr_assert(vx_process_read(root, 7, &p));
    cr_expect_str_eq(p.name, "a) R (b");
    cr_expect_eq(p.state, 'R');
    cr_expect_eq(p.ppid, 1);
    cr_expect_eq(p.cpu_ns, 4 * SECOND);
    cr_expect_eq(p.major_faults, 3);
    cr_expect_eq(p.start_ticks, 777);
    cr_expect_eq(p.processor, 3);
    cr_expect_not(vx_process_read(root, 8, &p));
}

Test(daemon_evidence, waits_of_a_process) {
    struct vx_process_waits w;
    put("/proc/7/schedstat", "5000 12345 9\n");
    put("/proc/7/io", "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 0\n");
    vx_process_waits(root, 7, &w);
    cr_expect(w.has_runqueue && w.runqueue_ns == 12345);
    cr_expect(w.has_device && w.device_bytes == 4096);
    vx_process_waits(root, 8, &w); /* another user's: nothing, and it says so */
    cr_expect_not(w.has_runqueue);
    cr_expect_not(w.has_device);
}

Test(daemon_evidence, where_a_process_is_stuck) {
    struct vx_process_stuck s;
    process(7, 1, "augment", 1, 0);
    put("/proc/7/wchan", "folio_wait_bit_common");
    put("/proc/7/syscall", "17 0x5 0x7f 0x1000 0x0 0x0 0x0 0x7ffe 0x7f01\n");
    vx_process_stuck(root, 7, &s);
    cr_expect_str_eq(s.wchan, "folio_wait_bit_common");
    cr_expect_str_eq(s.syscall, "17 0x5 0x7f 0x1000 0x0 0x0 0x0 0x7ffe 0x7f01");
    cr_expect_str_empty(s.stack);
}

Test(daemon_evidence, who_uses_the_cores) {
    struct vx_host h;
    machine(0, 0, 0);
    process(SELF, 1, "voxeld", 10, 0);
    process(101, SELF, "voxeld", 100, 0); /* step */
    process(102, 101, "voxeld", 0, 1);    /* its child */
    process(200, 1, "stress", 1000, 1);
    process(201, 1, "elsewhere", 0, 3);
    vx_host_look(watch, 10 * SECOND, &h);
    cr_expect_eq(h.seconds, 0);
    cr_expect_eq(h.own_cores, 0);
    cr_expect_eq(h.foreign_pid, 0);
    cr_expect_eq(h.cores, 2);
    /* two seconds later: cpu0 worked 1.9 s, cpu1 1.6 s */
    machine(190, 160, 200);
    process(101, SELF, "voxeld", 200, 0); /* 0.5 cores */
    process(102, 101, "voxeld", 60, 1);   /* 0.3 */
    process(200, 1, "stress", 1180, 1);   /* 0.9 */
    process(201, 1, "elsewhere", 200, 3); /* 1.0, but not on our CPUs */
    process(202, 1, "new", 10, 0);        /* began meanwhile: 0.05 */
    vx_host_look(watch, 12 * SECOND, &h);
    cr_expect_eq(h.seconds, 2);
    cr_expect(h.has & VX_HOST_CPU);
    cr_expect_float_eq(h.own_cores, 0.8, 1e-9, "%g", h.own_cores);
    cr_expect_float_eq(h.foreign_cores, 1.75 - 0.8, 1e-9, "%g", h.foreign_cores);
    cr_expect_eq(h.foreign_pid, 200);
    cr_expect_str_eq(h.foreign_name, "stress");
    cr_expect_eq(h.foreign_uid, 1200);
    cr_expect_float_eq(h.foreign_pid_cores, 0.9, 1e-9);
}

/* Where there are hundreds of others, they are read in every third look. */
Test(daemon_evidence, a_machine_with_many_processes) {
    struct vx_host h;
    machine(0, 0, 0);
    process(SELF, 1, "voxeld", 0, 0);
    process(101, SELF, "voxeld", 0, 0);
    for (int pid = 1000; pid < 1250; pid++) {
        process(pid, 1, "asleep", 5, 1);
    }
    vx_host_look(watch, 10 * SECOND, &h);
    /* a child that begins is seen at once, where the kernel lists children */
    machine(100, 60, 0);
    process(101, SELF, "voxeld", 20, 0);
    process(102, SELF, "voxeld", 50, 0);
    put("/proc/100/task/104/children", "101 102 ");
    process(1007, 1, "awake", 95, 1);
    vx_host_look(watch, 11 * SECOND, &h);
    cr_expect_float_eq(h.own_cores, 0.7, 1e-9, "%g", h.own_cores);
    cr_expect_float_eq(h.foreign_cores, 0.9, 1e-9, "%g", h.foreign_cores);
    cr_expect_eq(h.foreign_pid, 0, "not yet known");
    machine(200, 120, 0);
    process(101, SELF, "voxeld", 40, 0);
    process(102, SELF, "voxeld", 100, 0);
    process(1007, 1, "awake", 185, 1);
    vx_host_look(watch, 12 * SECOND, &h);
    cr_expect_float_eq(h.own_cores, 0.7, 1e-9, "%g", h.own_cores);
    process(1007, 1, "awake", 275, 1);
    vx_host_look(watch, 13 * SECOND, &h); /* all of them */
    cr_expect_eq(h.foreign_pid, 1007);
    cr_expect_float_eq(h.foreign_pid_cores, 0.9, 1e-9, "%g", h.foreign_pid_cores);
    process(1007, 1, "awake", 325, 1);
    vx_host_look(watch, 14 * SECOND, &h); /* it matters now */
    cr_expect_float_eq(h.foreign_pid_cores, 0.5, 1e-9, "%g", h.foreign_pid_cores);
    process(1007, 1, "awake", 325, 1);
    vx_host_look(watch, 15 * SECOND, &h);
    cr_expect_eq(h.foreign_pid, 0, "asleep again");
}

Test(daemon_evidence, a_pid_that_was_given_again_is_another_process) {
    struct vx_host h;
    machine(0, 0, 0);
    process(SELF, 1, "voxeld", 0, 0);
    process(300, 1, "old", 5000, 0);
    vx_host_look(watch, SECOND, &h);
    put("/proc/300/stat",
        "300 (young) R 1 1 1 0 -1 0 0 0 0 0 30 20 0 0 20 0 1 0 999 1 1 1 1 1 0 0 0 0 0 0 0 0 0 0 "
        "17 0 0 0\n");
    vx_host_look(watch, 2 * SECOND, &h);
    cr_expect_str_eq(h.foreign_name, "young");
    cr_expect_float_eq(h.foreign_pid_cores, 0.5, 1e-9, "%g", h.foreign_pid_cores);
}

Test(daemon_evidence, a_clock_that_stands_still_gives_no_rates) {
    struct vx_host h;
    machine(0, 0, 0);
    process(SELF, 1, "voxeld", 0, 0);
    vx_host_look(watch, 5 * SECOND, &h);
    machine(100, 100, 0);
    vx_host_look(watch, 5 * SECOND, &h);
    cr_expect_eq(h.foreign_cores, 0);
    vx_host_look(watch, 4 * SECOND, &h); /* or jumps back */
    cr_expect_eq(h.seconds, 0);
    cr_expect_eq(h.own_cores, 0);
}

Test(daemon_evidence, pressure_of_the_machine) {
    struct vx_host h;
    machine(0, 0, 0);
    put("/proc/pressure/cpu", "some avg10=1.00 avg60=0 avg300=0 total=1000000\n");
    put("/proc/pressure/io", "some avg10=0 total=0\nfull avg10=0 total=0\n");
    put("/proc/pressure/memory", "some avg10=0 total=500\nfull avg10=0 total=100\n");
    vx_host_look(watch, SECOND, &h);
    put("/proc/pressure/cpu", "some avg10=1.00 avg60=0 avg300=0 total=1600000\n");
    put("/proc/pressure/memory", "some avg10=0 total=200500\nfull avg10=0 total=100100\n");
    vx_host_look(watch, 3 * SECOND, &h);
    cr_expect(h.has & VX_HOST_PSI);
    cr_expect_float_eq(h.psi_cpu, 0.3, 1e-9);
    cr_expect_float_eq(h.psi_memory, 0.1, 1e-9);
    cr_expect_float_eq(h.psi_memory_full, 0.05, 1e-9);
    cr_expect_eq(h.psi_io, 0);
}

static void groups(int version) {
    if (version == 2) {
        put("/proc/self/cgroup", "0::/lab/voxeld\n");
        put("/proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    } else {
        put("/proc/self/cgroup", "4:memory:/lab\n1:cpu,cpuacct:/lab\n");
        put("/proc/self/mountinfo", "31 23 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                                    "32 23 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n");
    }
}

Test(daemon_evidence, pressure_of_the_own_group_where_version_2_has_it) {
    struct vx_pressure p;
    groups(2);
    put("/proc/pressure/io", "some avg10=0 total=7\nfull avg10=0 total=0\n");
    cr_assert(vx_pressure_read(root, "io", &p));
    cr_expect_eq(p.some_us, 7); /* the group keeps none */
    put("/cg/lab/voxeld/io.pressure", "some avg10=0 total=42\nfull avg10=0 total=41\n");
    cr_assert(vx_pressure_read(root, "io", &p));
    cr_expect_eq(p.some_us, 42);
    cr_expect_eq(p.full_us, 41);
    cr_expect_not(vx_pressure_read(root, "cpu", &p));
}

static void throttling(const char *file) {
    struct vx_host h;
    machine(0, 0, 0);
    put(file, "nr_periods 100\nnr_throttled 10\nthrottled_time 5\n");
    vx_host_look(watch, SECOND, &h);
    cr_expect_eq(h.throttled, 0);
    put(file, "nr_periods 120\nnr_throttled 25\nthrottled_time 9\n");
    vx_host_look(watch, 2 * SECOND, &h);
    cr_expect(h.has & VX_HOST_THROTTLING);
    cr_expect_float_eq(h.throttled, 0.75, 1e-9);
}

Test(daemon_evidence, throttling_of_version_1) {
    groups(1);
    throttling("/cg/cpu/lab/cpu.stat");
}

Test(daemon_evidence, throttling_of_version_2) {
    groups(2);
    throttling("/cg/lab/voxeld/cpu.stat");
}

static void disk_groups(int version) {
    if (version == 2) {
        put("/proc/self/cgroup", "0::/lab/voxeld\n");
        put("/proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    } else {
        put("/proc/self/cgroup", "3:blkio:/lab/voxeld\n");
        put("/proc/self/mountinfo", "33 23 0:29 / /cg rw - cgroup cgroup rw,blkio\n");
    }
    put("/sys/devices/sda/dev", "8:0\n");
    put("/sys/devices/sda/sda1/partition", "1\n");
    vx_auto_free char *link = vx_strf("%s/sys/dev/block/8:1", root);
    put("/sys/dev/block/x", "\n");
    cr_assert_eq(symlink("../../devices/sda/sda1", link), 0);
    put("/cg/lab/voxeld/cgroup.procs", "\n");
}

/* The partition's disk, and the narrowest of the group's and its parents' limits. */
static void disk_limit(const char *own, const char *own_text, const char *parents,
                       const char *parents_text) {
    uint64_t limit = 7;
    cr_expect_not(vx_disk_read_limit(root, 8, 1, &limit));
    cr_expect_eq(limit, 7);
    put(own, "%s", own_text);
    cr_assert(vx_disk_read_limit(root, 8, 1, &limit));
    cr_expect_eq(limit, 6291456);
    put(parents, "%s", parents_text);
    cr_assert(vx_disk_read_limit(root, 8, 1, &limit));
    cr_expect_eq(limit, 1048576);
    cr_expect_not(vx_disk_read_limit(root, 259, 3, &limit), "another disk");
}

Test(daemon_evidence, disk_limit_of_version_1) {
    disk_groups(1);
    disk_limit("/cg/lab/voxeld/blkio.throttle.read_bps_device", "8:16 5\n8:0 6291456\n",
               "/cg/lab/blkio.throttle.read_bps_device", "8:0 1048576\n");
}

Test(daemon_evidence, disk_limit_of_version_2) {
    disk_groups(2);
    disk_limit("/cg/lab/voxeld/io.max",
               "8:16 rbps=5 wbps=max riops=max wiops=max\n"
               "8:0 rbps=6291456 wbps=max riops=max wiops=max\n",
               "/cg/lab/io.max", "8:0 rbps=1048576 wbps=9 riops=max wiops=max\n");
    uint64_t limit;
    put("/cg/lab/io.max", "8:0 rbps=max wbps=9 riops=max wiops=max\n");
    cr_assert(vx_disk_read_limit(root, 8, 1, &limit));
    cr_expect_eq(limit, 6291456);
}

Test(daemon_evidence, swap_and_kills) {
    struct vx_host h;
    machine(0, 0, 0);
    put("/proc/vmstat", "pswpin 100\npswpout 5\noom_kill 41\n");
    vx_host_look(watch, SECOND, &h);
    cr_expect_eq(h.oom_kills, 0);
    put("/proc/vmstat", "pswpin 612\npswpout 5\noom_kill 43\n");
    vx_host_look(watch, 3 * SECOND, &h);
    cr_expect(h.has & VX_HOST_SWAP && h.has & VX_HOST_OOM && h.has & VX_HOST_MEMORY);
    cr_expect_eq(h.swap_in, 1 << 20);
    cr_expect_eq(h.oom_kills, 2);
    cr_expect_eq(h.memory_available, 8ull << 30);
}

Test(daemon_evidence, a_machine_that_says_nothing) {
    struct vx_host h;
    vx_host_look(watch, SECOND, &h);
    vx_host_look(watch, 2 * SECOND, &h);
    cr_expect_eq(h.has, 0);
    cr_expect_eq(h.cores, 1);
    cr_expect_eq(h.foreign_cores, 0);
}

/* Processes, and nothing of the whole: what others use is not known, rather than none. */
Test(daemon_evidence, a_machine_that_says_little) {
    struct vx_host h;
    put("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n");
    process(SELF, 1, "voxeld", 100, 0);
    vx_host_look(watch, SECOND, &h);
    process(SELF, 1, "voxeld", 150, 0);
    put("/proc/meminfo", "MemTotal: lots\n");
    put("/proc/vmstat", "nothing of interest\n");
    put("/proc/pressure/cpu", "some avg10=zero\n");
    vx_host_look(watch, 2 * SECOND, &h);
    cr_expect_eq(h.has, 0, "%x", h.has);
    cr_expect_float_eq(h.own_cores, 0.5, 1e-9);
    cr_expect_eq(h.foreign_cores, 0);
    cr_expect_eq(h.psi_cpu, 0);
    cr_expect_eq(h.memory_available, 0);
}

/* This machine itself: the figures are what they must be for a process that just burnt time. */
Test(daemon_evidence, this_machine) {
    struct vx_host h;
    struct vx_host_watch *here = vx_host_watch_create("", getpid());
    vx_host_look(here, vx_now_ns(), &h);
    struct timespec from, now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    do {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000 < 300);
    vx_host_look(here, vx_now_ns(), &h);
    cr_expect(h.has & VX_HOST_CPU && h.has & VX_HOST_MEMORY);
    double burnt = h.own_cores * h.seconds; /* counted in ticks of 10 ms */
    cr_expect(burnt > 0.25 && burnt < 0.5, "%g s", burnt);
    vx_host_watch_free(here);
}

Test(daemon_evidence, what_of_a_folder_is_in_memory) {
    uint64_t cold;
    char path[128];
    static char block[1 << 20];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%d.bin", root, i);
        cr_assert_eq(vx_write_file_atomic(path, block, sizeof block, 0644, NULL), VX_OK);
    }
    struct vx_residency *r = vx_residency_open(root);
    cr_assert_not_null(r);
    cr_expect_eq(vx_residency_bytes(r), 4 << 20);
    cr_assert(vx_residency_cold(r, &cold));
    cr_expect_eq(cold, 0); /* just written */
    int fd = open(path, O_RDONLY);
    cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    cr_assert(vx_residency_cold(r, &cold));
    cr_expect_eq(cold, 1 << 20, "%llu", (unsigned long long)cold);
    vx_residency_close(r);
    cr_expect_null(vx_residency_open("/nowhere/at/all"));
}
