#include "daemon/roles/phantom.h"
#include "daemon/verbs.h"

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/own.h"
#include "base/rng.h"
#include "volume/nifti.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_LABELS = 64,
    MAX_CHANNELS = 16,
    MAX_CASES = 100000,
    MIN_EDGE = 4,
    MAX_EDGE = 1024,
    N_WAVES = 3
};

/* Streams of draws: what is drawn for one purpose never moves what is drawn for another. */
enum { DRAW_SHAPE = 1, DRAW_BLOBS, DRAW_WAVES, DRAW_GAIN, DRAW_CONTRAST, DRAW_NOISE };

struct blob {
    double center[3], radius[3]; /* in units of half the volume's edges, origin in the middle */
};

struct phantom {
    const struct vx_phantom_options *o;
    uint32_t index; /* of the case */
    int64_t shape[3];
    struct blob blobs[MAX_LABELS];
    double wave[N_WAVES][4]; /* direction (z, y, x) in radians per unit, phase */
};

static struct vx_rng draws(const struct phantom *p, uint32_t j, uint32_t purpose) {
    return vx_rng_at(p->o->seed, 0x5eed, p->index, j, purpose);
}

static void random_direction(struct vx_rng *r, double out[3]) {
    double length = 0;
    while (length < 1e-3) {
        length = 0;
        for (int a = 0; a < 3; a++) {
            out[a] = vx_rng_normal(r);
            length += out[a] * out[a];
        }
        length = sqrt(length);
    }
    for (int a = 0; a < 3; a++) {
        out[a] /= length;
    }
}

/* A chain of ellipsoids along a random direction, each overlapping the last a little: later labels
 * win, so neighbours touch along a face. The chain's half length stays below 0.95, inside the body.
 */
static void draw_blobs(struct phantom *p) {
    struct vx_rng r = draws(p, 0, DRAW_BLOBS);
    int n = p->o->n_labels;
    double mean = n > 2 ? 0.8 / n : 0.35, radius[MAX_LABELS], along = 0, total = 0, dir[3],
           start[3];
    random_direction(&r, dir);
    for (int i = 0; i < n; i++) {
        radius[i] = mean * vx_rng_uniform(&r, 0.85f, 1.15f);
        total += i > 0 ? 0.85 * (radius[i - 1] + radius[i]) : 0;
    }
    for (int a = 0; a < 3; a++) {
        start[a] = vx_rng_uniform(&r, -0.08f, 0.08f) - dir[a] * total / 2;
    }
    for (int i = 0; i < n; i++) {
        along += i > 0 ? 0.85 * (radius[i - 1] + radius[i]) : 0;
        for (int a = 0; a < 3; a++) {
            p->blobs[i].center[a] = start[a] + dir[a] * along;
            p->blobs[i].radius[a] = radius[i] * vx_rng_uniform(&r, 0.9f, 1.1f);
        }
    }
}

static void draw_case(struct phantom *p) {
    struct vx_rng r = draws(p, 0, DRAW_SHAPE);
    for (int a = 0; a < 3; a++) {
        double f = 1 + p->o->vary_percent / 100.0 * vx_rng_uniform(&r, -1, 1);
        int64_t n = llround((double)p->o->shape[a] * f);
        p->shape[a] = n < MIN_EDGE ? MIN_EDGE : n;
    }
    draw_blobs(p);
    r = draws(p, 0, DRAW_WAVES);
    for (int i = 0; i < N_WAVES; i++) {
        random_direction(&r, p->wave[i]);
        double cycles = vx_rng_uniform(&r, 1.5f, 5.0f);
        for (int a = 0; a < 3; a++) {
            p->wave[i][a] *= M_PI * cycles;
        }
        p->wave[i][3] = vx_rng_uniform(&r, 0, 2 * (float)M_PI);
    }
}

/* -1 outside the body, 0 in it, else the label. u: position in units of half the edges. */
static int label_at(const struct phantom *p, const double u[3]) {
    for (int i = p->o->n_labels - 1; i >= 0; i--) {
        const struct blob *b = &p->blobs[i];
        double d = 0;
        for (int a = 0; a < 3; a++) {
            double x = (u[a] - b->center[a]) / b->radius[a];
            d += x * x;
        }
        if (d <= 1) {
            return i + 1;
        }
    }
    return u[0] * u[0] + u[1] * u[1] + u[2] * u[2] > 1.3 * 1.3 ? -1 : 0;
}

/* What label adds to the body's intensity in a channel: the first channel orders the labels by
 * brightness, others have contrasts of their own, the same in every case. */
static double contrast(const struct phantom *p, int channel, int label) {
    if (label == 0) {
        return 0;
    }
    if (channel == 0) {
        return 40 + 160.0 * label / p->o->n_labels;
    }
    struct vx_rng r =
        vx_rng_at(p->o->seed, 0x5eed, (uint32_t)channel, (uint32_t)label, DRAW_CONTRAST);
    return vx_rng_uniform(&r, -150, 150);
}

static double texture(const struct phantom *p, const double u[3]) {
    double sum = 0;
    for (int i = 0; i < N_WAVES; i++) {
        const double *w = p->wave[i];
        sum += cos(w[0] * u[0] + w[1] * u[1] + w[2] * u[2] + w[3]);
    }
    return sum / N_WAVES;
}

/* One channel's voxel. MRI: body at 300 with a gain per case and channel, 0 outside. CT: soft
 * tissue at 0 HU, air outside, whole numbers as scanners store them. */
static float intensity(const struct phantom *p, int channel, int label, double structure,
                       double noise, double gain) {
    if (p->o->ct) {
        return label < 0 ? -1000.0f
                         : (float)round(contrast(p, channel, label) + 15 * structure + noise);
    }
    if (label < 0) {
        return 0.0f;
    }
    double value = gain * (300 + contrast(p, channel, label) + 25 * structure + noise);
    return (float)(value > 1 ? value : 1);
}

static void fill(const struct phantom *p, struct vx_volume *image, struct vx_labelmap *labels) {
    int64_t voxels = vx_shape_count(p->shape);
    double gains[MAX_CHANNELS];
    struct vx_rng noise[MAX_CHANNELS];
    struct vx_rng r = draws(p, 0, DRAW_GAIN);
    for (int c = 0; c < p->o->n_channels; c++) {
        gains[c] = vx_rng_uniform(&r, 0.7f, 1.3f);
        noise[c] = draws(p, (uint32_t)c, DRAW_NOISE);
    }
    for (int64_t i = 0; i < voxels; i++) {
        int64_t at[3] = {i / (p->shape[1] * p->shape[2]), i / p->shape[2] % p->shape[1],
                         i % p->shape[2]};
        double u[3];
        for (int a = 0; a < 3; a++) {
            u[a] = (2.0 * (double)at[a] + 1) / (double)p->shape[a] - 1;
        }
        int label = label_at(p, u);
        double structure = texture(p, u);
        labels->data[i] = (int16_t)(label > 0 ? label : 0);
        for (int c = 0; c < p->o->n_channels; c++) {
            image[c].data[i] =
                intensity(p, c, label, structure, 12 * vx_rng_normal(&noise[c]), gains[c]);
        }
    }
}

static int write_case(struct phantom *p, const char *dir, struct vx_err *err) {
    vx_auto_labelmap struct vx_labelmap labels = {0};
    struct vx_volume image[MAX_CHANNELS];
    struct vx_geometry geo;
    memset(image, 0, sizeof image);
    vx_geometry_init(&geo, p->o->spacing);
    draw_case(p);
    int rc = vx_labelmap_init(&labels, p->shape, &geo, err);
    for (int c = 0; c < p->o->n_channels && rc == VX_OK; c++) {
        rc = vx_volume_init(&image[c], 1, p->shape, &geo, err);
    }
    if (rc == VX_OK) {
        fill(p, image, &labels);
        vx_auto_free char *path = vx_strf("%s/labelsTr/phantom_%04u.nii.gz", dir, p->index);
        rc = path ? vx_nifti_write_labels(path, &labels, err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int c = 0; c < p->o->n_channels && rc == VX_OK; c++) {
        vx_auto_free char *path = vx_strf("%s/imagesTr/phantom_%04u_%04d.nii.gz", dir, p->index, c);
        rc = path ? vx_nifti_write_image(path, &image[c], err)
                  : vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    for (int c = 0; c < p->o->n_channels; c++) {
        vx_volume_release(&image[c]);
    }
    return rc;
}

static int write_dataset_json(const struct vx_phantom_options *o, const char *dir,
                              struct vx_err *err) {
    vx_auto_free char *path = vx_strf("%s/dataset.json", dir);
    vx_auto_json json_t *channels = json_object();
    vx_auto_json json_t *labels = json_object();
    char key[32];
    for (int c = 0; c < o->n_channels; c++) {
        snprintf(key, sizeof key, "%d", c);
        json_object_set_new(channels, key, json_string(o->ct ? "CT" : "MRI"));
    }
    json_object_set_new(labels, "background", json_integer(0));
    for (int l = 1; l <= o->n_labels; l++) {
        snprintf(key, sizeof key, "blob_%d", l);
        json_object_set_new(labels, key, json_integer(l));
    }
    vx_auto_json json_t *doc = json_pack(
        "{s:O,s:O,s:i,s:s,s:s,s:s,s:s}", "channel_names", channels, "labels", labels, "numTraining",
        o->n_cases, "file_ending", ".nii.gz", "name", "SYNTHETIC phantom", "description",
        "SYNTHETIC data made by voxeld phantom: geometric bodies, no patients, no medical meaning",
        "licence", "CC0-1.0");
    if (!path || !doc) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    return vx_json_write_file(path, doc, err);
}

static int bad_option(const char *option, const char *rule, struct vx_err *err) {
    return vx_fail(err, VX_E_INVALID, "bad_option", "--%s %s", option, rule);
}

static int check(const struct vx_phantom_options *o, struct vx_err *err) {
    const char *n = o->name;
    bool named = n && strlen(n) < 200 && strncmp(n, "Dataset", 7) == 0 &&
                 isdigit((unsigned char)n[7]) && isdigit((unsigned char)n[8]) &&
                 isdigit((unsigned char)n[9]) && n[10] == '_' && n[11] != '\0' && !strchr(n, '/');
    if (!o->root || o->root[0] == '\0') {
        return bad_option("out", "names the folder of the raw data sets", err);
    }
    if (!named) {
        return bad_option("name", "must be DatasetNNN_Name", err);
    }
    if (o->n_cases < 1 || o->n_cases > MAX_CASES) {
        return bad_option("cases", "must be 1 to 100000", err);
    }
    if (o->n_channels < 1 || o->n_channels > MAX_CHANNELS) {
        return bad_option("channels", "must be 1 to 16", err);
    }
    if (o->n_labels < 1 || o->n_labels > MAX_LABELS) {
        return bad_option("labels", "must be 1 to 64", err);
    }
    if (o->vary_percent < 0 || o->vary_percent > 50) {
        return bad_option("vary", "must be 0 to 50", err);
    }
    for (int a = 0; a < 3; a++) {
        if (o->shape[a] < MIN_EDGE || o->shape[a] > MAX_EDGE) {
            return bad_option("shape", "must be three numbers from 4 to 1024: Z,Y,X", err);
        }
        if (!(o->spacing[a] >= 1e-3 && o->spacing[a] <= 1e3)) {
            return bad_option("spacing", "must be three numbers from 0.001 to 1000 mm: z,y,x", err);
        }
    }
    return VX_OK;
}

static int write_set(const struct vx_phantom_options *o, const char *dir, struct vx_err *err) {
    vx_auto_free char *images = vx_strf("%s/imagesTr", dir);
    vx_auto_free char *labels = vx_strf("%s/labelsTr", dir);
    if (!images || !labels) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    int rc = vx_mkdirs(images, 0755, err);
    if (rc == VX_OK) {
        rc = vx_mkdirs(labels, 0755, err);
    }
    for (int i = 0; i < o->n_cases && rc == VX_OK; i++) {
        struct phantom p = {.o = o, .index = (uint32_t)i};
        rc = write_case(&p, dir, err);
    }
    return rc == VX_OK ? write_dataset_json(o, dir, err) : rc;
}

int vx_phantom_write(const struct vx_phantom_options *o, struct vx_err *err) {
    int rc = check(o, err);
    if (rc != VX_OK) {
        return rc;
    }
    vx_auto_free char *final = vx_strf("%s/%s", o->root, o->name);
    vx_auto_free char *tmp = vx_strf("%s/.%s.tmp.%d", o->root, o->name, (int)getpid());
    if (!final || !tmp) {
        return vx_fail(err, VX_E_NOMEM, NULL, "out of memory");
    }
    if (vx_path_exists(final)) {
        vx_fail(err, VX_E_EXISTS, NULL, "%s is there already; choose another name or remove it",
                final);
        vx_err_at(err, "%s", final);
        return VX_E_EXISTS;
    }
    rc = vx_remove_tree(tmp, err);
    if (rc == VX_OK) {
        rc = write_set(o, tmp, err);
    }
    if (rc == VX_OK) {
        rc = vx_rename_durable(tmp, final, err);
    }
    if (rc != VX_OK) {
        vx_remove_tree(tmp, NULL);
    }
    return rc;
}

static const char usage_text[] =
    "usage: voxeld phantom --out ROOT --name DatasetNNN_Name [options]\n"
    "Writes a SYNTHETIC data set (touching ellipsoids in a noisy body) to ROOT/DatasetNNN_Name.\n\n"
    "  --cases N        default 20\n"
    "  --shape Z,Y,X    voxels, default 36,50,35\n"
    "  --vary P         each axis differs by up to P percent between cases, default 10\n"
    "  --spacing z,y,x  mm, default 1,1,1\n"
    "  --channels C     default 1\n"
    "  --labels L       without background, default 2\n"
    "  --seed S         default 1\n"
    "  --ct             CT numbers instead of MRI-like intensities\n";

/* -1, which check() refuses, for anything but a whole number from 0 to a million. */
static int to_int(const char *text) {
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    return *text == '\0' || *end != '\0' || errno || v < 0 || v > 1000000 ? -1 : (int)v;
}

/* "a,b,c"; anything else becomes zeros, which check() refuses. */
static void to_three(const char *text, double out[3]) {
    char after;
    if (sscanf(text, "%lf,%lf,%lf%c", &out[0], &out[1], &out[2], &after) != 3) {
        out[0] = out[1] = out[2] = 0;
    }
}

static bool take_option(struct vx_phantom_options *o, int option, const char *value) {
    double three[3];
    switch (option) {
    case 'o':
        o->root = value;
        return true;
    case 'n':
        o->name = value;
        return true;
    case 'N':
        o->n_cases = to_int(value);
        return true;
    case 'C':
        o->n_channels = to_int(value);
        return true;
    case 'L':
        o->n_labels = to_int(value);
        return true;
    case 'v':
        o->vary_percent = to_int(value);
        return true;
    case 'S':
        o->seed = strtoull(value, NULL, 10);
        return true;
    case 'z':
        to_three(value, three);
        for (int a = 0; a < 3; a++) {
            o->shape[a] = three[a] >= 0 && three[a] < 1e6 && three[a] == floor(three[a])
                              ? (int64_t)three[a]
                              : 0;
        }
        return true;
    case 'p':
        to_three(value, o->spacing);
        return true;
    case 'c':
        o->ct = true;
        return true;
    default:
        return false;
    }
}

int vx_role_phantom(int argc, char **argv) {
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'},     {"name", required_argument, NULL, 'n'},
        {"cases", required_argument, NULL, 'N'},   {"shape", required_argument, NULL, 'z'},
        {"spacing", required_argument, NULL, 'p'}, {"channels", required_argument, NULL, 'C'},
        {"labels", required_argument, NULL, 'L'},  {"vary", required_argument, NULL, 'v'},
        {"seed", required_argument, NULL, 'S'},    {"ct", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct vx_phantom_options o = {.n_cases = 20,
                                   .n_channels = 1,
                                   .n_labels = 2,
                                   .shape = {36, 50, 35},
                                   .spacing = {1, 1, 1},
                                   .vary_percent = 10,
                                   .seed = 1};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(usage_text, stdout);
            return 0;
        }
        if (!take_option(&o, c, optarg)) {
            fputs(usage_text, stderr);
            return 2;
        }
    }
    struct vx_err err = {0};
    int rc = optind < argc
                 ? vx_fail(&err, VX_E_INVALID, NULL, "unexpected argument %s", argv[optind])
                 : vx_phantom_write(&o, &err);
    if (rc != VX_OK) {
        fprintf(stderr, "voxeld phantom: %s\n", err.text);
        return rc == VX_E_INVALID ? 2 : 1;
    }
    vx_auto_json json_t *line = json_pack("{s:s,s:s,s:i,s:b}", "dataset", o.name, "root", o.root,
                                          "cases", o.n_cases, "synthetic", 1);
    vx_auto_free char *text = line ? vx_json_canonical(line) : NULL;
    puts(text ? text : "{}");
    return 0;
}
