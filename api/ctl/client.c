#include "client.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/own.h"

#include <curl/curl.h>
#include <string.h>

#define BODY_MAX    (1 << 20)
#define REPLY_MAX   (64 << 20)
#define DEFAULT_URL "http://127.0.0.1:8790"

struct vx_ctl_client {
    CURL *curl;
    char *base;   /* owned */
    char *socket; /* owned; NULL: TCP */
    char *header; /* Authorization; owned, may be NULL */
};

static size_t take(char *data, size_t size, size_t n, void *cls) {
    struct vx_buf *b = cls;
    if (b->len + size * n > REPLY_MAX) {
        return 0;
    }
    vx_buf_add(b, data, size * n);
    return b->failed ? 0 : size * n;
}

/* The token of a state folder; NULL where there is none. */
static char *token_of(const char *state) {
    vx_auto_free char *path = vx_strf("%s/token", state);
    char *text = NULL;
    if (path && vx_read_file(path, 4096, &text, NULL, NULL) == VX_OK) {
        text[strcspn(text, "\r\n")] = '\0';
    }
    return text;
}

static void authorize(struct vx_ctl_client *c, const char *token, const char *state) {
    vx_auto_free char *read = !token && state ? token_of(state) : NULL;
    const char *use = token ? token : read;
    c->header = use ? vx_strf("Authorization: Bearer %s", use) : NULL;
}

/* The socket of a state folder; a daemon that has none is looked for at the usual port. */
static void at_state(struct vx_ctl_client *c, const char *token, const char *state) {
    c->socket = vx_strf("%s/voxeld.sock", state);
    if (c->socket && vx_path_exists(c->socket)) {
        c->base = strdup("http://localhost");
        return;
    }
    free(c->socket);
    c->socket = NULL;
    c->base = strdup(DEFAULT_URL);
    authorize(c, token, state);
}

struct vx_ctl_client *vx_ctl_open(const char *url, const char *token, const char *state) {
    url = url ? url : getenv("VOXELD_URL");
    token = token ? token : getenv("VOXELD_TOKEN");
    state = state ? state : getenv("VOXELD_STATE");
    if (!url && !state) {
        fprintf(stderr,
                "voxelctl: where is the daemon? Give --state DIR, or --url (or $VOXELD_URL) and "
                "$VOXELD_TOKEN\n");
        return NULL;
    }
    struct vx_ctl_client *c = calloc(1, sizeof *c);
    if (!c || curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(c->curl = curl_easy_init())) {
        free(c);
        fprintf(stderr, "voxelctl: cannot start libcurl\n");
        return NULL;
    }
    if (url && strncmp(url, "unix:", 5) == 0) {
        c->socket = strdup(url + 5);
        c->base = strdup("http://localhost");
    } else if (url) {
        size_t len = strlen(url);
        c->base = vx_strf("%.*s", (int)(len && url[len - 1] == '/' ? len - 1 : len), url);
        authorize(c, token, state);
    } else {
        at_state(c, token, state);
    }
    return c;
}

void vx_ctl_close(struct vx_ctl_client *c) {
    if (c) {
        curl_easy_cleanup(c->curl);
        free(c->base);
        free(c->socket);
        free(c->header);
        free(c);
        curl_global_cleanup();
    }
}

/* Texts come in the language of the terminal, where the daemon has it. */
static const char *language(void) {
    static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
    for (size_t i = 0; i < VX_COUNTOF(names); i++) {
        const char *value = getenv(names[i]);
        if (value && value[0]) {
            return strncmp(value, "zh", 2) == 0 ? "Accept-Language: zh" : "Accept-Language: en";
        }
    }
    return "Accept-Language: en";
}

int vx_ctl_request(struct vx_ctl_client *c, const char *method, const char *path, const char *body,
                   json_t **ret) {
    char why[CURL_ERROR_SIZE] = "";
    struct vx_buf reply = VX_BUF_INIT;
    vx_auto_free char *url = vx_strf("%s%s", c->base, path);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, language());
    headers = c->header ? curl_slist_append(headers, c->header) : headers;
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &reply);
    if (body) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
    }
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode e = curl_easy_perform(c->curl);
    long status = -1;
    if (e == CURLE_OK) {
        curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        *ret = reply.data ? json_loadb(reply.data, reply.len, JSON_DECODE_ANY, NULL) : NULL;
    } else {
        fprintf(stderr, "voxelctl: %s: %s\n", c->socket ? c->socket : c->base,
                why[0] ? why : curl_easy_strerror(e));
    }
    vx_buf_release(&reply);
    curl_slist_free_all(headers);
    return (int)status;
}

char *vx_ctl_read(const char *path) {
    struct vx_err err = {0};
    char *text = NULL;
    if (strcmp(path, "-") != 0) {
        if (vx_read_file(path, BODY_MAX, &text, NULL, &err) != VX_OK) {
            fprintf(stderr, "voxelctl: %s\n", err.text);
        }
        return text;
    }
    struct vx_buf in = VX_BUF_INIT;
    char block[4096];
    for (size_t n; in.len <= BODY_MAX && (n = fread(block, 1, sizeof block, stdin)) > 0;) {
        vx_buf_add(&in, block, n);
    }
    return vx_buf_take(&in, NULL);
}

void vx_ctl_complain(int status, const json_t *problem) {
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *code = json_string_value(json_object_get(problem, "code"));
    fprintf(stderr, "voxelctl: %d %s: %s\n", status, code ? code : "",
            detail ? detail : "no further explanation");
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(problem, "errors"), i, e) {
        fprintf(stderr, "  %s: %s\n", json_string_value(json_object_get(e, "pointer")),
                json_string_value(json_object_get(e, "detail")));
    }
}
