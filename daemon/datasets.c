/* See datasets.h. */
#include "daemon/datasets.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/own.h"
#include "daemon/children.h"
#include "daemon/post.h"
#include "daemon/predict/place.h"
#include "db/dataset.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct check {
    struct check *next;
    struct vx_datasets *d;
    char name[128];
    struct vx_child *child;
    char *report, *fingerprint, *plans; /* from the child's last line; owned */
    bool valid;
    struct vx_err err; /* why not, where it is not */
};

struct vx_datasets {
    struct vx_datasets_options o;
    struct check *first, **end; /* waiting; the first is running where `running` */
    bool running, draining;
};

struct vx_datasets *vx_datasets_create(const struct vx_datasets_options *options,
                                       struct vx_err *err) {
    struct vx_datasets *d = calloc(1, sizeof *d);
    if (!d) {
        vx_fail(err, VX_E_NOMEM, NULL, "starting the registry of data sets");
        return NULL;
    }
    d->o = *options;
    d->end = &d->first;
    return d;
}

static void check_free(struct check *c) {
    free(c->report);
    free(c->fingerprint);
    free(c->plans);
    free(c);
}

void vx_datasets_free(struct vx_datasets *d) {
    while (d && d->first) {
        struct check *c = d->first;
        d->first = c->next;
        check_free(c);
    }
    free(d);
}

static bool good_name(const char *name) {
    bool ok = strncmp(name, "Dataset", 7) == 0 && isdigit((unsigned char)name[7]) &&
              isdigit((unsigned char)name[8]) && isdigit((unsigned char)name[9]) &&
              name[10] == '_' && name[11];
    for (const char *p = name; ok && *p; p++) {
        ok = isalnum((unsigned char)*p) || strchr("_-.", *p);
    }
    return ok && strlen(name) < 128;
}

int vx_datasets_locate(const struct vx_datasets *d, const char *name, const char *asked,
                       char *ret_path, size_t size, struct vx_err *err) {
    if (!good_name(name)) {
        vx_fail(err, VX_E_INVALID, "dataset_name", "\"%.100s\" is not of the form DatasetXXX_Name",
                name);
        return vx_err_at(err, "/name");
    }
    const char *rel = asked ? asked : name, *field = asked ? "/path" : "/name";
    int rc = vx_place_find(d->o.root, "data root", rel, ret_path, size, err);
    if (rc == VX_E_NOT_FOUND) {
        rc = vx_fail(err, rc, "unknown_dataset", "there is no folder %s in the data root %s", rel,
                     d->o.root);
    }
    vx_auto_free char *description = rc == VX_OK ? vx_strf("%s/dataset.json", ret_path) : NULL;
    if (rc == VX_OK && (!description || access(description, R_OK) != 0)) {
        rc = vx_fail(err, VX_E_NOT_FOUND, "unknown_dataset", "%s has no readable dataset.json",
                     ret_path);
    }
    return rc == VX_OK ? rc : vx_err_at(err, "%s", field);
}

/* --- checks --- */

static void start_next(struct vx_datasets *d);

static int store_op(struct vx_db *db, void *arg, struct vx_err *err) {
    struct check *c = arg;
    struct vx_dataset_change change = {
        .state = c->valid ? VX_DATASET_READY : VX_DATASET_INVALID,
        .reason_code = c->valid ? NULL : c->err.reason,
        .reason_message = c->valid ? NULL : c->err.text,
        .report = c->report,
        .fingerprint = c->fingerprint,
        .plans = c->plans,
    };
    return vx_db_dataset_update(db, c->name, &change, err);
}

static void stored(void *arg, int rc, const struct vx_err *err) {
    struct check *c = arg;
    struct vx_datasets *d = c->d;
    if (rc != VX_OK) {
        vx_log_err("datasets", "store_failed name=\"%s\" text=\"%s\"", c->name, err->text);
    }
    check_free(c);
    d->o.changed(d->o.ctx);
}

static char *dump(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    return json_is_object(value) ? json_dumps(value, JSON_COMPACT) : NULL;
}

static void on_line(void *ctx, const json_t *line) {
    struct check *c = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (!event || strcmp(event, "verified") != 0) {
        return;
    }
    c->report = dump(line, "report");
    c->fingerprint = dump(line, "fingerprint");
    c->plans = dump(line, "plans");
    c->valid = json_is_true(json_object_get(line, "valid"));
    if (!c->valid) {
        const char *code = json_string_value(json_object_get(line, "code"));
        const char *message = json_string_value(json_object_get(line, "message"));
        vx_fail(&c->err, VX_E_INVALID, code ? code : "dataset_invalid", "%s",
                message ? message : "see the report");
    }
}

static void on_ended(void *ctx, const struct vx_err *err) {
    struct check *c = ctx;
    struct vx_datasets *d = c->d;
    d->first = c->next;
    if (!d->first) {
        d->end = &d->first;
    }
    d->running = false;
    if (d->draining) {
        check_free(c); /* checked again at the next start */
        return;
    }
    if (err && !c->err.code) {
        c->valid = false;
        c->err = *err;
    }
    vx_log_info("datasets", "checked name=\"%s\" valid=%d reason=%s", c->name, c->valid,
                c->err.reason);
    vx_post_store_firmly(d->o.post, d->o.store, store_op, c, stored);
    start_next(d);
}

static void start_next(struct vx_datasets *d) {
    while (d->first && !d->running && !d->draining) {
        struct check *c = d->first;
        struct vx_dataset set = {0};
        struct vx_err err = {0};
        int rc = vx_db_dataset_get(d->o.reader, c->name, &set, &err);
        if (rc == VX_OK) {
            char verb[] = "verify", json[] = "--json", what[160];
            char *args[] = {verb, json, set.path, NULL};
            struct vx_child_events events = {on_line, on_ended, c};
            snprintf(what, sizeof what, "check of %s", c->name);
            rc = vx_children_spawn(d->o.children, what, args, &events, &c->child, &err);
        }
        vx_dataset_release(&set);
        if (rc == VX_OK) {
            d->running = true;
            return;
        }
        d->first = c->next;
        if (!d->first) {
            d->end = &d->first;
        }
        c->err = err;
        vx_post_store_firmly(d->o.post, d->o.store, store_op, c, stored);
    }
}

void vx_datasets_check(struct vx_datasets *d, const char *name) {
    struct check *c = calloc(1, sizeof *c);
    if (!c) {
        vx_log_err("datasets", "out_of_memory name=\"%s\"", name);
        return;
    }
    c->d = d;
    snprintf(c->name, sizeof c->name, "%s", name);
    *d->end = c;
    d->end = &c->next;
    start_next(d);
}

void vx_datasets_resume(struct vx_datasets *d) {
    char after[128] = "";
    for (;;) {
        struct vx_dataset_list list = {0};
        struct vx_err err = {0};
        if (vx_db_dataset_list(d->o.reader, after[0] ? after : NULL, 100, &list, &err) != VX_OK) {
            vx_log_err("datasets", "list_unreadable text=\"%s\"", err.text);
            return;
        }
        for (size_t i = 0; i < list.n; i++) {
            if (list.v[i].state == VX_DATASET_REGISTERING) {
                vx_datasets_check(d, list.v[i].name);
            }
            snprintf(after, sizeof after, "%s", list.v[i].name);
        }
        bool more = list.n == 100;
        vx_dataset_list_release(&list);
        if (!more) {
            return;
        }
    }
}

void vx_datasets_drain(struct vx_datasets *d) {
    d->draining = true;
    if (d->running) {
        vx_child_stop(d->first->child);
    }
}
