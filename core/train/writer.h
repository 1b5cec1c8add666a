/* Writes checkpoints in a thread, from a copy of the state, while training goes on.
 *
 * One checkpoint at a time. vx_writer_begin hands out the copy to be filled, vx_writer_start gives
 * it to the thread. Private to this room. Thread: the functions belong to the engine's thread. */
#ifndef VX_TRAIN_WRITER_H
#define VX_TRAIN_WRITER_H

#include <stdbool.h>
#include <stdint.h>

struct vx_ckpt;
struct vx_err;
struct vx_oplist;
struct vx_writer;

/* Allocates the copy: two floats per number in net's parameters. */
int vx_writer_create(const struct vx_oplist *net, struct vx_writer **ret, struct vx_err *err);
/* Waits for the checkpoint in work; accepts NULL. */
void vx_writer_free(struct vx_writer *writer);

bool vx_writer_busy(struct vx_writer *writer);
/* Waits until nothing is being written; the copy is then the caller's until vx_writer_start. Tensor
 * i is parameter i of the net. */
struct vx_ckpt *vx_writer_begin(struct vx_writer *writer);
/* Starts writing the copy to path. */
int vx_writer_start(struct vx_writer *writer, const char *path, struct vx_err *err);
/* *ret_path is the path of a checkpoint that has been written since the last call, NULL where there
 * is none; valid until vx_writer_start. *ret_k is that copy's k. Returns the error of a write that
 * failed, once. */
int vx_writer_result(struct vx_writer *writer, const char **ret_path, uint64_t *ret_k,
                     struct vx_err *err);

#endif
