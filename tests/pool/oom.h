/* A worker that the kernel kills for lack of memory, in a memory group of its own. */
#ifndef TESTS_POOL_OOM_H
#define TESTS_POOL_OOM_H

/* Exit status: 0, 1, or 77 where this process may not make a memory group. */
int oom_scene(void);

#endif
