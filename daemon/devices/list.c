/* See list.h. */
#include "daemon/devices/list.h"

#include "base/err.h"
#include "daemon/evidence/gpu.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_CAPABILITY 8 /* Ampere: the first that computes in bf16 */

/* Once: of many GPUs with the same trouble one sentence is enough. */
__attribute__((format(printf, 2, 3))) static void note(struct vx_device_list *l, const char *fmt,
                                                       ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!strstr(l->note, text)) {
        size_t used = strlen(l->note);
        snprintf(l->note + used, sizeof l->note - used, "%s%s", used ? "; " : "", text);
    }
}

/* The next word of a list with commas, without spaces around it; false after the last. */
static bool next_word(const char **at, char buf[128]) {
    if (!*at) {
        return false;
    }
    const char *begin = *at, *end = strchrnul(begin, ',');
    *at = *end ? end + 1 : NULL;
    while (begin < end && isspace((unsigned char)*begin)) {
        begin++;
    }
    while (end > begin && isspace((unsigned char)end[-1])) {
        end--;
    }
    snprintf(buf, 128, "%.*s", (int)(end - begin < 127 ? end - begin : 127), begin);
    return true;
}

/* -1 where text is no number up to 1023. */
static int number(const char *text) {
    char *end = NULL;
    long n = isdigit((unsigned char)*text) ? strtol(text, &end, 10) : -1;
    return end && *end == '\0' && n <= 1023 ? (int)n : -1;
}

/* --- CUDA_VISIBLE_DEVICES --- */

static int find_uuid(const struct vx_devices_input *in, const char *text) {
    int found = -1;
    for (uint32_t i = 0; i < in->n_cards; i++) {
        if (strncmp(in->cards[i]->uuid, text, strlen(text)) == 0) {
            found = found < 0 ? (int)i : -2; /* two begin with it: CUDA takes neither */
        }
    }
    return found;
}

/* Do NVML's numbers mean the same GPUs to CUDA? It sorts by speed first, unless told not to. */
static bool numbers_agree(const struct vx_devices_input *in) {
    bool same = true;
    for (uint32_t i = 1; i < in->n_cards; i++) {
        same = same && strcmp(in->cards[i]->name, in->cards[0]->name) == 0;
    }
    return same || (in->order && strcmp(in->order, "PCI_BUS_ID") == 0);
}

/* Bits of the cards that CUDA's programs may see. As CUDA does, the first word that means nothing
 * ends the list. */
static uint64_t visible_cards(const struct vx_devices_input *in, struct vx_device_list *l) {
    if (!in->visible) {
        return ~0ull;
    }
    uint64_t mask = 0;
    char word[128];
    const char *at = in->visible;
    while (next_word(&at, word)) {
        int i = number(word);
        if (i >= 0 && !numbers_agree(in)) {
            note(l,
                 "CUDA_VISIBLE_DEVICES=%.100s names GPUs by number, which means another order to "
                 "CUDA where they differ: write their UUIDs, or set CUDA_DEVICE_ORDER=PCI_BUS_ID",
                 in->visible);
            return 0;
        }
        if (strncmp(word, "MIG-", 4) == 0) {
            note(l, "CUDA_VISIBLE_DEVICES names instances of MIG, which the daemon does not use");
        }
        i = i < 0 && strncmp(word, "GPU-", 4) == 0 ? find_uuid(in, word) : i;
        if (i < 0 || (uint32_t)i >= in->n_cards) {
            break;
        }
        mask |= 1ull << i;
    }
    return mask;
}

/* --- choosing --- */

/* Why a GPU cannot be used; NULL where it can. */
static const char *unfit(const struct vx_gpu_card *c, bool visible, char buf[160]) {
    if (!visible) {
        return "is hidden by CUDA_VISIBLE_DEVICES";
    }
    if (c->lost) {
        return "does not answer";
    }
    if (c->mig) {
        return "is split into instances (MIG), which the daemon does not use";
    }
    if (strncmp(c->uuid, "GPU-", 4) != 0) {
        return "has no UUID by which CUDA could be told of it";
    }
    if (c->major > 0 && c->major < LEAST_CAPABILITY) {
        snprintf(buf, 160, "has compute capability %d.%d, and %d.0 is the least", c->major,
                 c->minor, LEAST_CAPABILITY);
        return buf;
    }
    return NULL;
}

static bool has(const struct vx_device_list *l, const char *name) {
    for (uint32_t i = 0; i < l->n; i++) {
        if (strcmp(l->v[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void add(struct vx_device_list *l, enum vx_device_kind kind, uint32_t i,
                const struct vx_gpu_card *card) {
    struct vx_host_device d = {.kind = kind, .gpu = i, .card = card};
    snprintf(d.name, sizeof d.name, "%s:%u", kind == VX_KIND_CPU ? "cpu" : "cuda", i % 1024);
    if (l->n < VX_DEVICES_MAX && !has(l, d.name)) {
        l->v[l->n++] = d;
    }
}

static void add_cpus(const struct vx_devices_input *in, struct vx_device_list *l) {
    for (uint32_t i = 0; i < (in->cpu_jobs ? in->cpu_jobs : 1); i++) {
        add(l, VX_KIND_CPU, i, NULL);
    }
}

static void add_gpu(const struct vx_devices_input *in, struct vx_device_list *l, uint32_t i,
                    uint64_t visible) {
    char buf[160];
    const char *why = i < in->n_cards ? unfit(in->cards[i], visible >> i & 1, buf) : "is not there";
    if (why) {
        note(l, "cuda:%u %s", i, why);
    } else {
        add(l, VX_KIND_CUDA, i, in->cards[i]);
    }
}

static void add_gpus(const struct vx_devices_input *in, struct vx_device_list *l,
                     uint64_t visible) {
    for (uint32_t i = 0; i < in->n_cards && i < 64; i++) {
        add_gpu(in, l, i, visible);
    }
}

static bool is_auto(const struct vx_devices_input *in) {
    return !in->setting || strcmp(in->setting, "auto") == 0;
}

static int add_word(const struct vx_devices_input *in, struct vx_device_list *l, uint64_t visible,
                    const char *word, struct vx_err *err) {
    int i = number(word + strcspn(word, ":") + (strchr(word, ':') != NULL));
    if (strcmp(word, "cpu") == 0) {
        add_cpus(in, l);
    } else if (strcmp(word, "cuda") == 0) {
        add_gpus(in, l, visible);
    } else if (strncmp(word, "cpu:", 4) == 0 && i >= 0) {
        add(l, VX_KIND_CPU, (uint32_t)i, NULL);
    } else if (strncmp(word, "cuda:", 5) == 0 && i >= 0 && i < 64) {
        add_gpu(in, l, (uint32_t)i, visible);
    } else {
        return vx_fail(err, VX_E_INVALID, "config_invalid",
                       "devices: \"%.60s\" is not cpu, cpu:N, cuda or cuda:N (or auto alone)",
                       word);
    }
    return VX_OK;
}

static int none_left(const struct vx_devices_input *in, const struct vx_device_list *l,
                     struct vx_err *err) {
    return vx_fail(err, VX_E_INVALID, "config_invalid", "devices: none of \"%.100s\" is there: %s",
                   in->setting, l->note[0] ? l->note : "NVIDIA's library lists no GPU here");
}

int vx_devices_list(const struct vx_devices_input *in, struct vx_device_list *ret,
                    struct vx_err *err) {
    struct vx_device_list l = {0};
    uint64_t visible = visible_cards(in, &l);
    if (is_auto(in)) {
        add_gpus(in, &l, visible);
        if (l.n == 0) {
            add_cpus(in, &l);
        }
    } else {
        char word[128];
        const char *at = in->setting;
        while (next_word(&at, word)) {
            int rc = add_word(in, &l, visible, word, err);
            if (rc != VX_OK) {
                return rc;
            }
        }
    }
    if (l.n == 0) {
        return none_left(in, &l, err);
    }
    *ret = l;
    return VX_OK;
}

bool vx_devices_drop(const struct vx_devices_input *in, struct vx_device_list *l, uint32_t i,
                     const char *why) {
    note(l, "%s", why);
    memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof l->v[0]);
    l->n--;
    if (l->n == 0 && is_auto(in)) {
        add_cpus(in, l);
    }
    return l->n > 0;
}

/* --- what jobs ask for --- */

static uint32_t of_kind(const struct vx_device_list *l, enum vx_device_kind kind) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        mask |= l->v[i].kind == kind ? 1u << i : 0;
    }
    return mask;
}

uint32_t vx_devices_match(const struct vx_device_list *l, const char *want) {
    uint32_t gpus = of_kind(l, VX_KIND_CUDA), cpus = of_kind(l, VX_KIND_CPU);
    if (strcmp(want, "auto") == 0) {
        return gpus ? gpus : cpus;
    }
    if (strcmp(want, "cuda") == 0) {
        return gpus;
    }
    if (strcmp(want, "cpu") == 0) {
        return cpus;
    }
    for (uint32_t i = 0; i < l->n; i++) {
        if (strcmp(l->v[i].name, want) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

bool vx_devices_gpus(const struct vx_device_list *l, uint32_t mask) {
    return mask && (mask & of_kind(l, VX_KIND_CUDA)) == mask;
}

int vx_devices_refuse(const struct vx_device_list *l, const char *want, struct vx_err *err) {
    char names[VX_DEVICES_MAX * 18] = "";
    for (uint32_t i = 0; i < l->n; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", l->v[i].name);
    }
    vx_fail(err, VX_E_INVALID, "unknown_device",
            "this daemon has no device \"%.60s\": it has %s%s%.200s%s; GET /v1/devices lists them",
            want, names, l->note[0] ? " (" : "", l->note, l->note[0] ? ")" : "");
    return vx_err_at(err, "/resources/device");
}
