/*
 * The system calls that Node has no call for, and nothing else. Every function is synchronous, takes numbers, strings and
 * typed arrays, and throws an Error with `errno` (positive) and `syscall`. TypeScript side: ../native.ts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <node_api.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* linux 5.14, uapi/asm-generic/socket.h */
#endif
#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define MAX_ARGS 8

static napi_value fail(napi_env env, const char *syscall_name, int err) {
  napi_value error, message, value;
  char text[160];
  snprintf(text, sizeof text, "%s: %s", syscall_name, strerror(err));
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_error(env, NULL, message, &error);
  napi_create_int32(env, err, &value);
  napi_set_named_property(env, error, "errno", value);
  napi_create_string_utf8(env, syscall_name, NAPI_AUTO_LENGTH, &value);
  napi_set_named_property(env, error, "syscall", value);
  napi_throw(env, error);
  return NULL;
}

/* Arguments. Wrong types are a bug of native.ts: they read as 0 or "". */

static void arguments(napi_env env, napi_callback_info info, napi_value *args) {
  size_t count = MAX_ARGS;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
}

static int32_t number(napi_env env, napi_value value) {
  int32_t n = 0;
  napi_get_value_int32(env, value, &n);
  return n;
}

static char *text(napi_env env, napi_value value) {
  size_t length = 0;
  napi_get_value_string_utf8(env, value, NULL, 0, &length);
  char *copy = calloc(length + 1, 1);
  if (copy) napi_get_value_string_utf8(env, value, copy, length + 1, &length);
  return copy;
}

static char **texts(napi_env env, napi_value array) {
  uint32_t count = 0;
  napi_get_array_length(env, array, &count);
  char **list = calloc(count + 1, sizeof *list);
  for (uint32_t i = 0; list && i < count; i++) {
    napi_value item;
    napi_get_element(env, array, i, &item);
    list[i] = text(env, item);
  }
  return list;
}

static void free_texts(char **list) {
  for (char **item = list; item && *item; item++) free(*item);
  free(list);
}

static napi_value integer(napi_env env, int64_t n) {
  napi_value value;
  napi_create_int64(env, n, &value);
  return value;
}

static napi_value string(napi_env env, const char *s) {
  napi_value value;
  napi_create_string_utf8(env, s, NAPI_AUTO_LENGTH, &value);
  return value;
}

/* setns(fd): the calling (main) thread enters the network namespace. */
static napi_value js_setns(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  if (setns(number(env, args[0]), CLONE_NEWNET)) return fail(env, "setns", errno);
  return NULL;
}

/* netnsCookie(): the identity of the current network namespace as decimal text, unique until reboot; "" before linux 5.14. */
static napi_value js_netns_cookie(napi_env env, napi_callback_info info) {
  (void)info;
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(env, "socket", errno);
  int err = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) ? errno : 0;
  close(fd);
  if (err == ENOPROTOOPT) return string(env, "");
  if (err) return fail(env, "getsockopt", err);
  char digits[24];
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)cookie);
  return string(env, digits);
}

/* busInfo(ifname): the PCI address of a link of the current namespace, as the driver tells it (for kernels before 5.14, which do
 * not report IFLA_PARENT_DEV_NAME); "" for links without one. */
static napi_value js_bus_info(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
  struct ifreq request = {0};
  size_t length;
  napi_get_value_string_utf8(env, args[0], request.ifr_name, IFNAMSIZ, &length);
  request.ifr_data = (char *)&driver;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(env, "socket", errno);
  int err = ioctl(fd, SIOCETHTOOL, &request) ? errno : 0;
  close(fd);
  if (err == EOPNOTSUPP) return string(env, "");
  if (err) return fail(env, "ioctl", err);
  driver.bus_info[sizeof driver.bus_info - 1] = 0;
  return string(env, driver.bus_info);
}

static void wake(int signal) { (void)signal; }

/* flock(fd, timeoutMs): exclusive lock; true when taken, false when somebody else kept it for that long. The wait is the kernel's own
 * queue: a timer aimed at this thread interrupts it. */
static napi_value js_flock(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], taken;
  arguments(env, info, args);
  int fd = number(env, args[0]), timeout_ms = number(env, args[1]);
  int err = flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
  if (err == EWOULDBLOCK && timeout_ms > 0) {
    struct sigaction action = {.sa_handler = wake}, before; /* no SA_RESTART: flock must return EINTR */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    event._sigev_un._tid = syscall(SYS_gettid);
    /* repeated: a first signal that arrives just before flock() sleeps would be lost */
    struct itimerspec when = {.it_value = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L}, .it_interval = {0, 10000000L}};
    /* not through glibc: built against 2.34 or later, its timer functions would need that on every host */
    int timer; /* the kernel's timer_t */
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer)) return fail(env, "timer_create", errno);
    sigaction(SIGALRM, &action, &before);
    syscall(SYS_timer_settime, timer, 0, &when, NULL);
    err = flock(fd, LOCK_EX) ? errno : 0;
    syscall(SYS_timer_delete, timer);
    sigaction(SIGALRM, &before, NULL);
  }
  if (err && err != EWOULDBLOCK && err != EINTR) return fail(env, "flock", err);
  napi_get_boolean(env, err == 0, &taken);
  return taken;
}

/* memfd(name): an anonymous file, closed on exec. */
static napi_value js_memfd(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  char *name = text(env, args[0]);
  int fd = memfd_create(name, MFD_CLOEXEC);
  int err = errno;
  free(name);
  return fd < 0 ? fail(env, "memfd_create", err) : integer(env, fd);
}

/* In the child of vfork(): the parent is stopped and the memory is shared, so only system calls and these locals. */
static void become(const char *file, char **argv, char **envp, int in, int out, const int *kept, size_t kept_count, pid_t parent,
                   volatile int *err) {
  sigset_t none;
  sigemptyset(&none);
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent) goto failed; /* the parent may have died before prctl() */
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0) goto failed;
  for (size_t i = 0; i < kept_count; i++)
    if (fcntl(kept[i], F_SETFD, 0)) goto failed; /* the descriptor table is our own copy: the parent's stay closed on exec */
  signal(SIGPIPE, SIG_DFL); /* Node ignores these two (and resets all others at its start); an ignored signal stays ignored over exec */
  signal(SIGXFSZ, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(file, argv, envp);
failed:
  *err = errno ? errno : ESRCH;
  _exit(127);
}

/* spawn(file, argv, env, stdinFd, stdoutFd, keptFds): starts a program that is killed when we die; returns its pid. stderr is ours.
 * keptFds stay open in it under their numbers. */
static napi_value js_spawn(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  int in = number(env, args[3]), out = number(env, args[4]);
  uint32_t kept_count = 0;
  int kept[16];
  napi_get_array_length(env, args[5], &kept_count);
  if (kept_count > 16) return fail(env, "spawn", E2BIG);
  for (uint32_t i = 0; i < kept_count; i++) {
    napi_value item;
    napi_get_element(env, args[5], i, &item);
    kept[i] = number(env, item);
  }
  char *file = text(env, args[0]), **argv = texts(env, args[1]), **envp = texts(env, args[2]);
  volatile int err = 0;
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before); /* no handler of ours may run in the child, on our stack */
  pid_t parent = getpid(), pid = vfork();
  if (pid == 0) {
    errno = 0;
    become(file, argv, envp, in, out, kept, kept_count, parent, &err);
  }
  if (pid < 0) err = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  if (pid > 0 && err) waitpid(pid, NULL, 0);
  free(file);
  free_texts(argv);
  free_texts(envp);
  return err ? fail(env, "execve", err) : integer(env, pid);
}

/* wait(pid, timeoutMs): the exit code, 128 + signal, or -1 when it still runs after timeoutMs (negative: no limit). */
static napi_value js_wait(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  pid_t pid = number(env, args[0]);
  int timeout_ms = number(env, args[1]), status = 0, left = timeout_ms;
  pid_t done = waitpid(pid, &status, timeout_ms < 0 ? 0 : WNOHANG);
  if (done == 0) {
    struct pollfd child = {.fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (child.fd >= 0) {
      poll(&child, 1, left);
      close(child.fd);
      done = waitpid(pid, &status, WNOHANG);
    } else { /* before linux 5.3 */
      for (; done == 0 && left > 0; left -= 5) {
        nanosleep(&(struct timespec){0, 5000000}, NULL);
        done = waitpid(pid, &status, WNOHANG);
      }
    }
  }
  if (done < 0) return fail(env, "waitpid", errno);
  if (done == 0) return integer(env, -1);
  return integer(env, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int is_netlink_port(int fd, uint32_t port) {
  struct sockaddr_nl address = {0};
  socklen_t size = sizeof address;
  return !getsockname(fd, (struct sockaddr *)&address, &size) && address.nl_family == AF_NETLINK && address.nl_pid == port;
}

/* extendedAck(port): ask for the kernel's error texts on our netlink socket with this port (the netlink package keeps its
 * descriptor to itself). It was opened just now, so it is looked for from the newest descriptor down. */
static napi_value js_extended_ack(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  uint32_t port = 0;
  napi_get_value_uint32(env, args[0], &port);
  int on = 1, fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return NULL;
  close(fd);
  while (fd > 2 && !is_netlink_port(fd, port)) fd--;
  if (fd > 2) setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on); /* before linux 4.12: no texts */
  return NULL;
}

struct frame {
  struct sockaddr_ll to;
  size_t length;
  uint8_t bytes[128];
};

static int send_frames(int fd, const struct frame *frames, uint32_t count) {
  int err = 0;
  for (uint32_t i = 0; i < count; i++)
    if (sendto(fd, frames[i].bytes, frames[i].length, 0, (const struct sockaddr *)&frames[i].to, sizeof frames[i].to) < 0) err = errno;
  return err;
}

static int running(int fd, const char *ifname) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, ifname, IFNAMSIZ - 1);
  if (ioctl(fd, SIOCGIFFLAGS, &request)) return -1;
  return (request.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

/* A child that holds nothing but this socket closes it, and before that waits for the carrier if there are frames left to send: without
 * carrier the kernel drops them, and a VF's can come long after its IFF_UP. The close is not ours to wait for either: the kernel lets an
 * RCU grace period pass in it (packet_release), 10 to 25 ms. */
static void leave_to_child(int fd, const char *ifname, const struct frame *frames, uint32_t count, int patience_ms) {
  if (fork() != 0) return; /* we exit before it: init reaps it */
  setsid();
  if (dup2(fd, 3) < 0) _exit(1);
  for (int i = 0; i < 3; i++) close(i); /* the caller reads our stdout until the last writer is gone */
  if (syscall(SYS_close_range, 4, ~0U, 0)) /* locks and namespaces; linux 5.9 */
    for (int i = 4; i < 1024; i++) close(i);
  for (int step_ms = 10; count > 0 && patience_ms > 0; patience_ms -= step_ms) {
    nanosleep(&(struct timespec){0, step_ms * 1000000L}, NULL);
    int up = running(3, ifname);
    if (up < 0) break; /* the link has left the pod */
    if (up) {
      send_frames(3, frames, count);
      break;
    }
  }
  _exit(0);
}

/* writeInChild(path, text, keptFd): a child writes the text to a kernel file and exits with 0 or the error number; returns its pid. For
 * a write that may block where no signal reaches: the caller waits as long as it likes and goes. The child keeps keptFd and nothing else
 * of ours: its lock is held until the write has ended, and nobody waits for our stdout. */
static napi_value js_write_in_child(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  char *path = text(env, args[0]), *value = text(env, args[1]);
  int kept = number(env, args[2]);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent) _exit(EINTR);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) _exit(errno);
    for (int i = 0; i < 1024; i++) /* files of Node beyond that are closed on exec, and harmless: no pipe, no lock */
      if (i != kept && i != fd) close(i);
    _exit(write(fd, value, strlen(value)) < 0 ? errno : 0);
  }
  int err = errno;
  free(path);
  free(value);
  return pid < 0 ? fail(env, "fork", err) : integer(env, pid);
}

/* announce(ifname, ifindex, frames, patienceMs): sends each {protocol, to, bytes} (layer 3, at most 128 bytes) on the link of the
 * current namespace: now where it has carrier, else in the background as soon as it has. True: sent now. */
static napi_value js_announce(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], sent;
  arguments(env, info, args);
  char *ifname = text(env, args[0]);
  uint32_t count = 0;
  napi_get_array_length(env, args[2], &count);
  struct frame *frames = calloc(count, sizeof *frames);
  for (uint32_t i = 0; i < count; i++) {
    napi_value item, value;
    void *data;
    size_t length = 0;
    struct frame *frame = &frames[i];
    napi_get_element(env, args[2], i, &item);
    napi_get_named_property(env, item, "protocol", &value);
    frame->to.sll_family = AF_PACKET;
    frame->to.sll_ifindex = number(env, args[1]);
    frame->to.sll_protocol = htons(number(env, value));
    napi_get_named_property(env, item, "to", &value);
    napi_get_typedarray_info(env, value, NULL, &length, &data, NULL, NULL);
    frame->to.sll_halen = length < sizeof frame->to.sll_addr ? length : sizeof frame->to.sll_addr;
    memcpy(frame->to.sll_addr, data, frame->to.sll_halen);
    napi_get_named_property(env, item, "bytes", &value);
    napi_get_typedarray_info(env, value, NULL, &length, &data, NULL, NULL);
    frame->length = length < sizeof frame->bytes ? length : sizeof frame->bytes;
    memcpy(frame->bytes, data, frame->length);
  }
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0, up = 0;
  if (fd < 0) {
    err = errno;
  } else {
    up = running(fd, ifname);
    if (up < 0) err = errno;
    else if (up) err = send_frames(fd, frames, count);
    if (!err) leave_to_child(fd, ifname, frames, up ? 0 : count, number(env, args[3]));
    close(fd); /* not the last of it, so this one returns at once */
  }
  free(ifname);
  free(frames);
  if (err) return fail(env, "announce", err);
  napi_get_boolean(env, up, &sent);
  return sent;
}

/* exit(code): at once, without V8's and Node's teardown. Everything of ours is written synchronously. */
static napi_value js_exit(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  _exit(number(env, args[0]));
}

#define FUNCTION(name, fn) {name, NULL, fn, NULL, NULL, NULL, napi_enumerable, NULL}

static napi_value init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      FUNCTION("setns", js_setns),   FUNCTION("netnsCookie", js_netns_cookie), FUNCTION("busInfo", js_bus_info),
      FUNCTION("flock", js_flock),   FUNCTION("memfd", js_memfd),              FUNCTION("spawn", js_spawn),
      FUNCTION("wait", js_wait),     FUNCTION("extendedAck", js_extended_ack), FUNCTION("announce", js_announce),
      FUNCTION("exit", js_exit),     FUNCTION("writeInChild", js_write_in_child),
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}

NAPI_MODULE(sriov, init)
