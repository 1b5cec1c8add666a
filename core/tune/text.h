/* Verdicts in words: one sentence that a doctoral student understands, and one that says what
 * happens or can be done. Thread: any. */
#ifndef VX_TUNE_TEXT_H
#define VX_TUNE_TEXT_H

#include "tune/verdict.h"
#include "tune/window.h"

#include <stddef.h>

enum vx_language { VX_ENGLISH, VX_CHINESE };

/* The first language of an Accept-Language header that there is; English where there is none. NULL
 * is fine. */
enum vx_language vx_language_of(const char *accept);
/* What is the matter, with its figures. UTF-8, cut at a character's end where size is too small. */
void vx_verdict_say(const struct vx_verdict *v, const struct vx_tune_window *w,
                    enum vx_language language, char *buf, size_t size);
/* What helps. Empty where nothing needs to be done. */
void vx_verdict_advise(const struct vx_verdict *v, const struct vx_tune_window *w,
                       enum vx_language language, char *buf, size_t size);

#endif
