/* The verbs of the one binary. Each takes argv with argv[0] = the verb and returns the exit status:
 * 0 done, 1 failed (the reason is on stderr or in the last JSON line), 2 wrong usage. Thread: main
 * thread of its own process. */
#ifndef VX_DAEMON_VERBS_H
#define VX_DAEMON_VERBS_H

int vx_role_serve(int argc, char **argv);
int vx_role_train(int argc, char **argv);
int vx_role_plan(int argc, char **argv);
int vx_role_prepare(int argc, char **argv);
int vx_role_predict(int argc, char **argv);
int vx_role_verify(int argc, char **argv);
int vx_role_bench(int argc, char **argv);
int vx_role_phantom(int argc, char **argv);
/* Internal: started by a session or the scheduler. */
int vx_role_step(int argc, char **argv);
int vx_role_augment(int argc, char **argv);
int vx_role_keeper(int argc, char **argv);
int vx_role_probe(int argc, char **argv);

#endif
