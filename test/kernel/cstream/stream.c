/*
 * stream - a peer on librdmacm's rsockets, or on the kernel's sockets, for the tests of the stream. Both ends take the same options.
 *
 * Each connection carries -s bytes from this end and -r bytes to it, at once, and every byte is compared: byte i of either
 * direction is pattern[i % PERIOD]. How the stream ends is told by -e. With -q there are round trips instead. With -j one thread sends
 * while another receives. With -z this end does nothing for so many milliseconds at first.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <rdma/rsocket.h>

#define PERIOD 65521
#define MOST (4 << 20)

static struct calls {
	int (*socket)(int, int, int);
	int (*bind)(int, const struct sockaddr *, socklen_t);
	int (*listen)(int, int);
	int (*accept)(int, struct sockaddr *, socklen_t *);
	int (*connect)(int, const struct sockaddr *, socklen_t);
	int (*shutdown)(int, int);
	int (*close)(int);
	ssize_t (*recv)(int, void *, size_t, int);
	ssize_t (*send)(int, const void *, size_t, int);
	int (*setsockopt)(int, int, int, const void *, socklen_t);
	int (*fcntl)(int, int, ...);
	int (*poll)(struct pollfd *, nfds_t, int);
} rs = { rsocket, rbind, rlisten, raccept, rconnect, rshutdown, rclose, rrecv, rsend, rsetsockopt, rfcntl, rpoll },
  tcp = { socket, bind, listen, accept, connect, shutdown, close, recv, send, setsockopt, fcntl, poll }, *s = &rs;

static unsigned char pattern[PERIOD + MOST];
static long long to_send, to_receive;
static size_t chunk = 65536;
static long connections = 1, trips, idle;
static const char *end = "half";
static int threads;

static void fail(const char *what)
{
	fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void wrong(const char *what, long long at)
{
	fprintf(stderr, "stream: %s at byte %lld\n", what, at);
	exit(1);
}

/* may_wait is for a call that would block, and fails for every other error. */
static ssize_t may_wait(const char *what, ssize_t k)
{
	if (k < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		fail(what);
	return k < 0 ? 0 : k;
}

static ssize_t send_more(int fd, long long *sent)
{
	size_t n = chunk < (size_t)(to_send - *sent) ? chunk : (size_t)(to_send - *sent);
	ssize_t k = may_wait("send", s->send(fd, pattern + *sent % PERIOD, n, 0));

	*sent += k;
	if (*sent == to_send && !strcmp(end, "half") && s->shutdown(fd, SHUT_WR))
		fail("shutdown");
	return k;
}

/* receive_some takes and compares up to n bytes. */
static ssize_t receive_some(int fd, unsigned char *buf, long long *got, long long n)
{
	ssize_t k = s->recv(fd, buf, MOST < n - *got ? MOST : n - *got, 0);

	if (k == 0)
		wrong("early end of the stream", *got);
	k = may_wait("recv", k);
	if (memcmp(buf, pattern + *got % PERIOD, k))
		wrong("wrong data", *got);
	*got += k;
	return k;
}

static void *sender(void *arg)
{
	long long sent = 0;

	while (sent < to_send)
		send_more(*(int *)arg, &sent);
	return NULL;
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (s->poll(&p, 1, -1) < 0)
		fail("poll");
}

/* in_turns sends and receives in one thread, as rsockets counts wrong when two threads use a connection at once. */
static void in_turns(int fd, unsigned char *buf, long long *got)
{
	long long sent = 0;

	if (to_send && to_receive && s->fcntl(fd, F_SETFL, O_NONBLOCK))
		fail("fcntl");
	while (sent < to_send || *got < to_receive) {
		ssize_t k = 0;
		if (sent < to_send)
			k += send_more(fd, &sent);
		if (*got < to_receive)
			k += receive_some(fd, buf, got, to_receive);
		if (!k)
			wait_for(fd, (sent < to_send ? POLLOUT : 0) | (*got < to_receive ? POLLIN : 0));
	}
	if (s->fcntl(fd, F_SETFL, 0))
		fail("fcntl");
}

static void at_once(int fd, unsigned char *buf, long long *got)
{
	pthread_t t;

	if (pthread_create(&t, NULL, sender, &fd))
		fail("thread");
	while (*got < to_receive)
		receive_some(fd, buf, got, to_receive);
	pthread_join(t, NULL);
}

static void both_ways(int fd, unsigned char *buf)
{
	long long got = 0;
	ssize_t k;

	if (idle)
		usleep(idle * 1000);
	if (!to_send && !strcmp(end, "half") && s->shutdown(fd, SHUT_WR))
		fail("shutdown");
	(threads ? at_once : in_turns)(fd, buf, &got);
	if (!strcmp(end, "close"))
		return;                 /* as soon as all is sent */
	k = s->recv(fd, buf, 1, 0);
	if (k > 0)
		wrong("more data than expected", got);
	if (k < 0)
		fail("end of the stream");
	if (!strcmp(end, "last") && s->shutdown(fd, SHUT_WR))
		fail("shutdown");
}

static int ascending(const void *a, const void *b)
{
	double x = *(double *)a, y = *(double *)b;
	return x < y ? -1 : x > y;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void send_all(int fd, size_t n)
{
	size_t sent = 0;
	while (sent < n) {
		ssize_t k = s->send(fd, pattern + sent, n - sent, 0);
		if (k <= 0)
			fail("send");
		sent += k;
	}
}

/* round_trips sends chunk bytes and waits for as many, or the other way round. */
static void round_trips(int fd, unsigned char *buf, int first)
{
	double *took = calloc(trips, sizeof *took);
	for (long i = 0; i < trips; i++) {
		long long got = 0;
		double t = now();
		if (first)
			send_all(fd, chunk);
		while (got < (long long)chunk)
			receive_some(fd, buf, &got, chunk);
		if (!first)
			send_all(fd, chunk);
		took[i] = now() - t;
	}
	qsort(took, trips, sizeof *took, ascending);
	if (first)
		printf("p50 %.1f us\n", took[trips / 2]);
	free(took);
	if (first)
		s->shutdown(fd, SHUT_WR);
	while (s->recv(fd, buf, 1, 0) > 0)
		;
}

static void nodelay(int fd)
{
	int one = 1;
	if (s == &tcp && s->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
		fail("nodelay");
}

static void talk(int fd, unsigned char *buf, int first)
{
	nodelay(fd);
	if (trips)
		round_trips(fd, buf, first);
	else
		both_ways(fd, buf);
	if (s->close(fd))
		fail("close");
}

int main(int argc, char **argv)
{
	const char *listen_on = NULL, *dial = NULL, *port = "7471";
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *a;
	unsigned char *buf = malloc(MOST);
	uint32_t x = 1;
	double begin;
	int fd, c;

	while ((c = getopt(argc, argv, "l:c:p:s:r:w:e:n:q:z:tj")) != -1) {
		switch (c) {
		case 'l': listen_on = optarg; break;
		case 'c': dial = optarg; break;
		case 'p': port = optarg; break;
		case 's': to_send = atoll(optarg); break;
		case 'r': to_receive = atoll(optarg); break;
		case 'w': chunk = atoll(optarg); break;
		case 'e': end = optarg; break;
		case 'n': connections = atol(optarg); break;
		case 'q': trips = atol(optarg); break;
		case 'z': idle = atol(optarg); break;
		case 't': s = &tcp; break;
		case 'j': threads = 1; break;
		default: return 2;
		}
	}
	if (chunk < 1 || chunk > MOST || !buf || (!listen_on == !dial))
		return 2;
	for (size_t i = 0; i < sizeof pattern; i++) {
		if (i >= PERIOD) {
			pattern[i] = pattern[i - PERIOD];
			continue;
		}
		x = x * 1664525 + 1013904223;
		pattern[i] = x >> 24;
	}
	if (getaddrinfo(listen_on ? listen_on : dial, port, &hints, &a))
		fail("address");
	setvbuf(stdout, NULL, _IOLBF, 0);
	begin = now();
	if (listen_on) {
		int one = 1, ln = s->socket(a->ai_family, SOCK_STREAM, 0);
		if (s == &tcp)
			s->setsockopt(ln, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (ln < 0 || s->bind(ln, a->ai_addr, a->ai_addrlen) || s->listen(ln, 128))
			fail("listen");
		printf("listening on %s port %s\n", listen_on, port);
		for (long i = 0; i < connections; i++) {
			if ((fd = s->accept(ln, NULL, NULL)) < 0)
				fail("accept");
			talk(fd, buf, 0);
		}
		s->close(ln);
	} else {
		for (long i = 0; i < connections; i++) {
			if ((fd = s->socket(a->ai_family, SOCK_STREAM, 0)) < 0 || s->connect(fd, a->ai_addr, a->ai_addrlen))
				fail("connect");
			if (i == 0)
				begin = now();
			talk(fd, buf, 1);
		}
	}
	printf("%ld connections, %lld bytes sent, %lld received on each, %.0f us\n", connections, to_send, to_receive, now() - begin);
	return 0;
}
