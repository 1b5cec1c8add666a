/* VX_CLONES compiles a function for several x86-64 instruction sets; the loader picks one when the
 * program starts. Results do not depend on the choice: the room is compiled without contraction,
 * and reductions name their lanes. Not under sanitizers, whose runtimes are not ready when the
 * choice is made. Private to this room. */
#ifndef VX_AUGMENT_CLONES_H
#define VX_AUGMENT_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VX_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VX_CLONES
#endif

#endif
