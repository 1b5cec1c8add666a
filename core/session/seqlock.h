/* A sequence lock around one record of shared memory: one writer, any number of readers, no reader
 * ever blocks the writer. The number is odd while the record is being written.
 *
 * Records are copied by relaxed atomic words of eight bytes, so readers and writer never race in
 * the language's sense; payloads therefore are multiples of eight bytes and eight-byte aligned. A
 * writer that dies in the middle leaves an odd number: readers then give up after some tries, and
 * the next writer of the record repairs it by writing. Readers work on read-only mappings. Thread
 * and process: any. */
#ifndef VX_SESSION_SEQLOCK_H
#define VX_SESSION_SEQLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The start of every locked record; the payload follows directly. */
struct vx_seq {
    uint32_t number;
    uint32_t reserved;
};

/* Writes payload (size bytes, a multiple of 8) behind seq. One writer per record. */
void vx_seq_write(struct vx_seq *seq, const void *payload, size_t size);

/* Copies min(size, stride - 8) bytes of the payload to out and zeroes the rest of out (fields that
 * an older writer does not know). stride is the record's stride from the region's table. False,
 * with out undefined, where no consistent copy could be had: the writer died while writing, or
 * never wrote (number 0). */
bool vx_seq_read(const struct vx_seq *seq, size_t stride, void *out, size_t size);

#endif
