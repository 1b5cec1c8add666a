/* An open-loop HTTP/1.1 load generator: requests leave at a fixed rate, whatever the server does,
 * and latency counts from the moment a request was due, so that a stalled server cannot hide its
 * stall (no coordinated omission).
 *
 *   http_load HOST PORT PATH TOKEN RATE SECONDS CONNECTIONS
 *
 * One thread, keep-alive connections, 127.0.0.1 only. Prints one JSON object: requests, errors,
 * p50/p99/max in ms. */
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
    int fd;
    bool busy;
    uint64_t due_ns;   /* of the request under way */
    char reply[16384]; /* bytes received so far */
    size_t len;
};

struct load {
    const char *host;
    int port;
    char request[2048];
    size_t request_len;
    int epoll;
    struct connection *connections;
    int n;
    double *latency_ms;
    size_t done, capacity, errors;
};

static int open_connection(struct load *load, struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    if (inet_pton(AF_INET, load->host, &to.sin_addr) != 1) {
        fprintf(stderr, "http_load: %s is no IPv4 address\n", load->host);
        return -1;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        perror("http_load: connect");
        return -1;
    }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void send_request(struct load *load, struct connection *c, uint64_t due_ns) {
    c->busy = true;
    c->due_ns = due_ns;
    c->len = 0;
    if (write(c->fd, load->request, load->request_len) != (ssize_t)load->request_len) {
        load->errors++;
        c->busy = false;
    }
}

/* True once a whole reply (headers and Content-Length bytes) is there. */
static bool reply_complete(const struct connection *c) {
    const char *body = strstr(c->reply, "\r\n\r\n");
    const char *length = strcasestr(c->reply, "\r\nContent-Length:");
    if (!body || !length || length > body) {
        return false;
    }
    size_t want = strtoul(length + 17, NULL, 10);
    return c->len >= (size_t)(body + 4 - c->reply) + want;
}

static void on_readable(struct load *load, struct connection *c) {
    ssize_t n = read(c->fd, c->reply + c->len, sizeof c->reply - 1 - c->len);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        load->errors++;
        close(c->fd);
        c->busy = false;
        if (open_connection(load, c) != 0) {
            exit(1);
        }
        return;
    }
    c->len += (size_t)n;
    c->reply[c->len] = '\0';
    if (!reply_complete(c)) {
        return;
    }
    if (strncmp(c->reply, "HTTP/1.1 200", 12) != 0) {
        load->errors++;
    }
    if (load->done < load->capacity) {
        load->latency_ms[load->done++] = (double)(vx_now_ns() - c->due_ns) / 1e6;
    }
    c->busy = false;
}

static struct connection *idle_connection(struct load *load) {
    for (int i = 0; i < load->n; i++) {
        if (!load->connections[i].busy) {
            return &load->connections[i];
        }
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Waits for `when`, or for a reply where none is due before. */
static void wait_until(struct load *load, uint64_t when, bool for_replies) {
    if (!for_replies) {
        struct timespec at = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
        }
    }
    struct epoll_event events[64];
    int n = epoll_wait(load->epoll, events, 64, for_replies ? 100 : 0);
    for (int i = 0; i < n; i++) {
        on_readable(load, events[i].data.ptr);
    }
}

/* One wake-up per request: replies are collected when the next request is due. That reads latencies
 * up to one gap too long, never too short, and halves what the generator takes from the two cores
 * it shares with the server. */
static void run(struct load *load, double rate, double seconds) {
    uint64_t start = vx_now_ns(), gap = (uint64_t)(1e9 / rate);
    uint64_t total = (uint64_t)(rate * seconds), sent = 0;
    uint64_t give_up = start + (uint64_t)((seconds + 10) * 1e9);
    while (load->done + load->errors < total && vx_now_ns() < give_up) {
        uint64_t due = start + sent * gap;
        wait_until(load, due, sent == total || !idle_connection(load));
        struct connection *c;
        while (sent < total && (due = start + sent * gap) <= vx_now_ns() &&
               (c = idle_connection(load))) {
            send_request(load, c, due);
            sent++;
        }
    }
    load->errors += total - load->done > load->errors ? total - load->done - load->errors : 0;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: http_load HOST PORT PATH TOKEN RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    if (strncmp(argv[1], "127.", 4) != 0) {
        fprintf(stderr, "http_load: only loopback addresses are loaded\n");
        return 2;
    }
    double rate = atof(argv[5]), seconds = atof(argv[6]);
    struct load load = {.host = argv[1], .port = atoi(argv[2]), .n = atoi(argv[7])};
    load.request_len =
        (size_t)snprintf(load.request, sizeof load.request,
                         "GET %s HTTP/1.1\r\nHost: %s:%s\r\nAuthorization: Bearer %s\r\n\r\n",
                         argv[3], argv[1], argv[2], argv[4]);
    load.capacity = (size_t)(rate * seconds) + 1;
    load.latency_ms = calloc(load.capacity, sizeof *load.latency_ms);
    load.connections = calloc((size_t)load.n, sizeof *load.connections);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load.latency_ms || !load.connections || load.epoll < 0 || load.n < 1) {
        return 1;
    }
    for (int i = 0; i < load.n; i++) {
        if (open_connection(&load, &load.connections[i]) != 0) {
            return 1;
        }
    }
    run(&load, rate, seconds);
    size_t n = load.done;
    qsort(load.latency_ms, n, sizeof *load.latency_ms, by_value);
    printf("{\"requests\": %zu, \"errors\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": "
           "%.3f}\n",
           n, load.errors, n ? load.latency_ms[n / 2] : -1, n ? load.latency_ms[n * 99 / 100] : -1,
           n ? load.latency_ms[n - 1] : -1);
    free(load.latency_ms);
    free(load.connections);
    return n && !load.errors ? 0 : 1;
}
