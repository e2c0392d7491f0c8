/* What stands beside the gateway in `bench_gateway.py`: a trivial upstream, and the load. In C and in one process, so
 * that the gateway is what is measured, and not who asks it or answers it.
 *
 *     gateway_load TOKENS_PER_SECOND
 *
 * tells {"port": ...} where the upstream listens, and then does what it reads, telling one line of JSON for each:
 *
 *     load PORT KEY CONNECTIONS SECONDS      asks again as soon as it is answered
 *     streams PORT KEY CONNECTIONS TOKENS    asks once, and reads the streams to their end
 *
 * While it does, it never sleeps: whoever is measured would pay for waking it up, and the more the slower it is.
 * Linux only (epoll, timerfd).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ROOM 16384
#define MOST 8192  /* open files */
#define PHASES 10  /* of the streams, one in ten is due at each tick */
#define KEPT 8000000

#define MARK '~'  /* stands in each token once, and nowhere else: a proxy may cut anywhere */

typedef struct Peer {
    void (*came)(struct Peer *, ssize_t);
    int fd, used, phase;
    long left, all, events;
    double began, first, last;
    char data[ROOM + 64];
} Peer;

static Peer *peers[MOST];
static int poller, listening, timer;

static void fail(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void watch(Peer *peer) {
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = peer->fd};
    if (peer->fd >= MOST || epoll_ctl(poller, EPOLL_CTL_ADD, peer->fd, &wanted)) fail("epoll_ctl");
    peers[peer->fd] = peer;
}

static void forget(Peer *peer) {
    close(peer->fd);
    peers[peer->fd] = NULL;
    free(peer);
}

/* A peer that takes nothing more while it owes nothing is too slow for this benchmark: give up rather than buffer. */
static void say(Peer *peer, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(peer->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) { usleep(50); continue; }
        if (sent < 0) return; /* it is gone; the reading side sees it */
        data += sent;
        size -= sent;
    }
}

static long number_after(const char *text, const char *name, long otherwise) {
    const char *at = strcasestr(text, name);
    return at ? atol(at + strlen(name)) : otherwise;
}

/* --- the upstream ----------------------------------------------------------------------------------------------- */

static char whole[1024], token[512], ending[1024];
static int whole_size, token_size;
static int *streaming, streaming_count, phases;

static int as_chunk(char *out, const char *data) { return sprintf(out, "%zx\r\n%s\r\n", strlen(data), data); }

static void write_answers(void) {
    const char *body = "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":"
        "[{\"index\":0,\"logprobs\":null,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"Hello there, how can I help you today?\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":10,\"total_tokens\":30}}";
    whole_size = sprintf(whole, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                         strlen(body), body);
    token_size = as_chunk(token, "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1,"
        "\"model\":\"m\",\"choices\":[{\"index\":0,\"logprobs\":null,\"delta\":{\"content\":\" wor~\"},"
        "\"finish_reason\":null}]}\n\n");
}

static int write_ending(char *out, long tokens) {
    char text[512];
    int size = as_chunk(out, "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1,"
        "\"model\":\"m\",\"choices\":[{\"index\":0,\"logprobs\":null,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    sprintf(text, "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
        "\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
        tokens, tokens + 20);
    size += as_chunk(out + size, text);
    size += as_chunk(out + size, "data: [DONE]\n\n");
    return size + sprintf(out + size, "0\r\n\r\n");
}

static void answer(Peer *peer, ssize_t got) {
    if (got <= 0) {
        forget(peer);
        return;
    }
    peer->used += got;
    peer->data[peer->used] = 0;
    char *body = strstr(peer->data, "\r\n\r\n");
    if (!body || peer->data + peer->used - (body += 4) < number_after(peer->data, "\r\ncontent-length:", 0)) return;
    if (strstr(body, "\"stream\":true")) {
        const char *head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        peer->left = peer->all = number_after(body, "\"max_tokens\":", 16);
        peer->phase = phases++ % PHASES;
        streaming[streaming_count++] = peer->fd;
        say(peer, head, strlen(head));
    } else {
        say(peer, whole, whole_size);
    }
    peer->used = 0;
}

static void tick(int phase) {
    for (int i = 0; i < streaming_count; i++) {
        Peer *peer = peers[streaming[i]];
        if (peer && peer->phase != phase) continue;
        if (peer && peer->left > 0) {
            peer->left--;
            say(peer, token, token_size);
            continue;
        }
        if (peer) say(peer, ending, write_ending(ending, peer->all));
        streaming[i--] = streaming[--streaming_count];
    }
}

static void open_upstream(double tokens_per_second) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (bind(listening, (struct sockaddr *)&address, length) || listen(listening, 1024)) fail("listen");
    getsockname(listening, (struct sockaddr *)&address, &length);
    long every = 1e9 / (PHASES * tokens_per_second);
    struct itimerspec times = {{0, every}, {0, every}};
    timerfd_settime(timer, 0, &times, NULL);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(poller, EPOLL_CTL_ADD, listening, &wanted);
    wanted.data.fd = timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &wanted);
    streaming = calloc(MOST, sizeof *streaming);
    write_answers();
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void take_on(void) {
    for (int one; (one = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        Peer *peer = calloc(1, sizeof *peer);
        setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        peer->fd = one;
        peer->came = answer;
        watch(peer);
    }
}

static void send_due(void) {
    static long ticks;
    uint64_t due = 0;
    if (read(timer, &due, sizeof due) != sizeof due) return;
    while (due--) tick(ticks++ % PHASES);
}

/* Does all that is to be done at once. */
static void turn(void) {
    struct epoll_event found[512];
    int count = epoll_wait(poller, found, 512, 0);
    for (int i = 0; i < count; i++) {
        int fd = found[i].data.fd;
        if (fd == timer) {
            send_due();
        } else if (fd == listening) {
            take_on();
        } else if (peers[fd]) {
            Peer *peer = peers[fd];
            ssize_t got = recv(fd, peer->data + peer->used, ROOM - peer->used, 0);
            if (got >= 0 || errno != EAGAIN) peer->came(peer, got);
        }
    }
}

/* --- the load --------------------------------------------------------------------------------------------------- */

static char request[4096];
static int request_size, running, complete;
static double values[KEPT], until;
static size_t count_of_values;
static long all_tokens;

static void keep(double value) {
    if (count_of_values < KEPT) values[count_of_values++] = value;
}

static void write_request(const char *key, long tokens, int stream) {
    char body[2048], text[256] = "";
    for (int i = 0; i < 20; i++) strcat(text, "Hello! ");
    sprintf(body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],\"max_tokens\":%ld%s}", text, tokens,
            stream ? ",\"stream\":true" : "");
    request_size = sprintf(request, "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", key, strlen(body), body);
}

static Peer *reach(int port, void (*came)(Peer *, ssize_t)) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Peer *peer = calloc(1, sizeof *peer);
    peer->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(peer->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(peer->fd, F_SETFL, O_NONBLOCK);
    peer->came = came;
    watch(peer);
    running++;
    return peer;
}

static void ask(Peer *peer) {
    peer->began = now();
    say(peer, request, request_size);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void answered(Peer *peer, ssize_t got) {
    if (got <= 0) { fprintf(stderr, "not answered\n"); exit(1); }
    peer->data[peer->used += got] = 0;
    if (strncmp(peer->data, "HTTP/1.1 200", 12)) { fprintf(stderr, "not answered: %s\n", peer->data); exit(1); }
    char *body = strstr(peer->data, "\r\n\r\n");
    if (!body || peer->data + peer->used - body - 4 < number_after(peer->data, "\r\ncontent-length:", 0)) return;
    peer->used = 0;
    double at = now();
    keep(at - peer->began);
    if (at < until) {
        ask(peer);
    } else {
        forget(peer);
        running--;
    }
}

static void load(int port, int connections, double seconds) {
    double began = now();
    until = began + seconds;
    for (int i = 0; i < connections; i++) ask(reach(port, answered));
    while (running) turn();
    double took = now() - began;
    qsort(values, count_of_values, sizeof *values, by_value);
    printf("{\"requests\": %zu, \"requests_per_second\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n", count_of_values,
           count_of_values / took, 1e3 * values[count_of_values / 2], 1e3 * values[count_of_values * 99 / 100]);
}

static double *rates;
static int done;

static void streamed(Peer *peer, ssize_t got) {
    if (got > 0) {
        double at = now();
        long came = 0;
        for (ssize_t i = 0; i < got; i++) came += peer->data[i] == MARK;
        all_tokens += came;
        if (came && peer->first) {
            keep(at - peer->last);
            peer->events += came;
        } else if (came) {
            peer->first = at;
        }
        if (came) peer->last = at;
        if (got < 5 || memcmp(peer->data + got - 5, "0\r\n\r\n", 5)) return;
        complete++;
    }
    rates[done++] = peer->last > peer->first ? peer->events / (peer->last - peer->first) : 0; /* after the first */
    forget(peer);
    running--;
}

static void streams(int port, int connections) {
    double began = now(), sum = 0;
    rates = calloc(connections, sizeof *rates);
    done = complete = all_tokens = 0;
    for (int i = 0; i < connections; i++) {
        ask(reach(port, streamed));
        turn();
    }
    while (running) turn();
    double took = now() - began;
    qsort(rates, done, sizeof *rates, by_value);
    qsort(values, count_of_values, sizeof *values, by_value);
    for (int i = 0; i < done; i++) sum += rates[i];
    printf("{\"streams\": %d, \"whole\": %d, \"tokens\": %ld, \"seconds\": %.3f, \"tokens_per_second_and_stream\": %.2f, "
           "\"slowest_tokens_per_second\": %.2f, \"gap_p50_ms\": %.3f, \"gap_p99_ms\": %.3f}\n",
           connections, complete, all_tokens, took, sum / done, rates[0], 1e3 * values[count_of_values / 2],
           1e3 * values[count_of_values * 99 / 100]);
    free(rates);
}

int main(int count, char **given) {
    if (count != 2) {
        fprintf(stderr, "usage: see the top of gateway_load.c\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    open_upstream(atof(given[1]));
    char line[512], what[32], key[256];
    int port, connections;
    double more;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%31s %d %255s %d %lf", what, &port, key, &connections, &more) != 5) return 2;
        int stream = !strcmp(what, "streams");
        write_request(key, stream ? (long)more : 16, stream);
        count_of_values = 0;
        if (stream) streams(port, connections);
        else load(port, connections, more);
        fflush(stdout);
    }
    return 0;
}
