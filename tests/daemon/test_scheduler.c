/* The scheduler's decisions. */
#include "daemon/scheduler.h"

#include <criterion/criterion.h>

Test(daemon_scheduler, priority_then_age) {
    const struct vx_sched_task tasks[] = {{7, 0, VX_TASK_READY, "a", 1},
                                          {3, 0, VX_TASK_READY, "a", 1},
                                          {9, 5, VX_TASK_READY, "a", 1},
                                          {1, 9, VX_TASK_WANTS, "b", 1}};
    cr_assert_eq(vx_sched_best(tasks, 4, VX_TASK_READY),
                 2); /* the highest priority of the ready ones */
    cr_assert_eq(vx_sched_best(tasks, 2, VX_TASK_READY), 1); /* the oldest of equals */
    cr_assert_eq(vx_sched_best(tasks, 4, VX_TASK_WANTS), 3);
    cr_assert_eq(vx_sched_best(tasks, 4, VX_TASK_PLANNING), -1);
    cr_assert_eq(vx_sched_best(tasks, 0, VX_TASK_READY), -1);
}

Test(daemon_scheduler, one_build_per_key) {
    const struct vx_sched_task tasks[] = {{1, 0, VX_TASK_WANTS, "k1", 1},
                                          {2, 0, VX_TASK_WANTS, "k1", 1},
                                          {3, 0, VX_TASK_WANTS, "k2", 1},
                                          {4, 9, VX_TASK_READY, "k3", 1}};
    struct vx_sched_build builds[2] = {{"k1"}};
    cr_assert_eq(vx_sched_next_build(tasks, 4, builds, 0, 2), 0);
    cr_assert_eq(vx_sched_next_build(tasks, 4, builds, 1, 2),
                 2); /* the second k1 waits for the first's build */
    cr_assert_eq(vx_sched_next_build(tasks, 2, builds, 1, 2), -1);
    cr_assert_eq(vx_sched_next_build(tasks, 4, builds, 1, 1), -1); /* no room for another build */
}

Test(daemon_scheduler, builds_go_by_priority) {
    const struct vx_sched_task tasks[] = {{1, 0, VX_TASK_WANTS, "k1", 1},
                                          {2, 1, VX_TASK_WANTS, "k2", 1}};
    cr_assert_eq(vx_sched_next_build(tasks, 2, NULL, 0, 1), 1);
}

Test(daemon_scheduler, the_line_before_the_devices) {
    const struct vx_sched_task tasks[] = {{1, 0, VX_TASK_RUNNING, "", 1},
                                          {2, 0, VX_TASK_READY, "", 1},
                                          {3, 0, VX_TASK_PLANNING, "", 1},
                                          {4, 0, VX_TASK_LEAVING, "", 1},
                                          {5, 0, VX_TASK_WANTS, "k", 1}};
    const struct vx_sched_task urgent = {9, 1, VX_TASK_PLANNING, "", 1},
                               usual = {9, 0, VX_TASK_PLANNING, "", 1};
    cr_assert_eq(vx_sched_line(tasks, 5, NULL), 2); /* who waits for data does not count */
    cr_assert_eq(vx_sched_line(tasks, 5, &usual), 2);
    cr_assert_eq(vx_sched_line(tasks, 5, &urgent), 0);
}

Test(daemon_scheduler, waits_for_an_older_job_that_is_almost_ready) {
    const struct vx_sched_task planning[] = {{1, 0, VX_TASK_PLANNING, "", 1},
                                             {2, 0, VX_TASK_READY, "", 1}};
    const struct vx_sched_task planned[] = {{1, 0, VX_TASK_PLANNED, "", 1},
                                            {2, 0, VX_TASK_READY, "", 1}};
    const struct vx_sched_task building[] = {{1, 0, VX_TASK_WANTS, "k", 1},
                                             {2, 0, VX_TASK_READY, "", 1}};
    const struct vx_sched_task younger[] = {{3, 0, VX_TASK_PLANNING, "", 1},
                                            {2, 0, VX_TASK_READY, "", 1}};
    cr_assert_eq(vx_sched_next_run(planning, 2, 1), -1);
    cr_assert_eq(vx_sched_next_run(planned, 2, 1), -1);
    cr_assert_eq(vx_sched_next_run(building, 2, 1), 1); /* a long preparation holds nobody up */
    cr_assert_eq(vx_sched_next_run(younger, 2, 1), 1);
}

Test(daemon_scheduler, each_device_takes_what_may_run_on_it) {
    enum { GPU_0 = 1, GPU_1 = 2, CPU = 4 };
    const struct vx_sched_task tasks[] = {{1, 0, VX_TASK_READY, "", CPU},
                                          {2, 0, VX_TASK_READY, "", GPU_1},
                                          {3, 0, VX_TASK_READY, "", GPU_0 | GPU_1},
                                          {4, 9, VX_TASK_PLANNING, "", CPU}};
    cr_assert_eq(vx_sched_next_run(tasks, 4, GPU_0), 2);
    cr_assert_eq(vx_sched_next_run(tasks, 4, GPU_1), 1, "the older of two");
    cr_assert_eq(vx_sched_next_run(tasks, 4, CPU), -1, "one that goes first is almost ready");
    cr_assert_eq(vx_sched_next_run(tasks, 3, CPU), 0);
    cr_assert_eq(vx_sched_next_run(tasks, 1, GPU_0), -1, "never on another kind");
}

Test(daemon_scheduler, a_line_for_one_device_holds_nobody_up_at_another) {
    struct vx_sched_task tasks[8];
    for (int i = 0; i < 8; i++) {
        tasks[i] = (struct vx_sched_task){i + 1, 0, VX_TASK_READY, "", 1};
    }
    const struct vx_sched_task same = {20, 0, VX_TASK_PLANNING, "", 1},
                               either = {20, 0, VX_TASK_PLANNING, "", 3},
                               other = {20, 0, VX_TASK_PLANNING, "", 2};
    cr_assert_eq(vx_sched_line(tasks, 8, &same), 8);
    cr_assert_eq(vx_sched_line(tasks, 8, &either), 8);
    cr_assert_eq(vx_sched_line(tasks, 8, &other), 0);
}
