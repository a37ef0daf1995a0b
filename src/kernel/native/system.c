/*
 * Every system call of the program, and nothing else: for Node (glibc, as an addon) and for the static executable's engine (musl, linked in).
 * All functions are synchronous, take numbers, strings and typed arrays, and throw an Error with `errno` (positive) and `syscall`.
 * TypeScript side: ../system.ts, which says what each does.
 *
 * Files:      open close readText writeText readFile stat fstat fstatfs readFolder readlink realpath access
 *             mkdir unlink rename fsync fdatasync fchmod touch memfd pipe poll columns flock
 * Processes:  spawn wait writeInChild exit
 * Network:    setns netnsCookie busInfo peerPid announce netlinkOpen netlinkSetUp netlinkSend netlinkReceive
 *             netlinkMembership
 * Clock:      nowMs
 * Constants:  O_RDONLY O_WRONLY O_RDWR O_CREAT O_TRUNC O_APPEND O_PATH O_DIRECTORY O_NOFOLLOW O_NONBLOCK (not the same on every machine)
 *
 * Node-API (the static executable's engine implements these and no more): napi_create_array napi_create_arraybuffer napi_create_double
 * napi_create_error napi_create_object napi_create_string_utf8 napi_create_typedarray napi_define_properties napi_get_array_length
 * napi_get_boolean napi_get_cb_info napi_get_element napi_get_named_property napi_get_typedarray_info napi_get_value_double
 * napi_get_value_string_utf8 napi_set_element napi_set_named_property napi_throw. A function that returns NULL returns undefined.
 * The engine's own main() has to do what Node's does: open /dev/null for descriptors 0 to 2 that are closed, ignore SIGPIPE and SIGXFSZ,
 * reset all other signals and the mask. A child by fork() does not get its heap (src/engine/arena.c): no Node-API there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <limits.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
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
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#ifndef sigev_notify_thread_id /* musl has it, glibc before 2.37 does not */
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define MAX_ARGS 8

static napi_value integer(napi_env env, double n) {
  napi_value value;
  napi_create_double(env, n, &value);
  return value;
}

static napi_value string(napi_env env, const char *s, size_t length) {
  napi_value value;
  napi_create_string_utf8(env, s, length, &value); /* what is no UTF-8 becomes U+FFFD */
  return value;
}

static napi_value boolean(napi_env env, int is) {
  napi_value value;
  napi_get_boolean(env, is, &value);
  return value;
}

static napi_value fail(napi_env env, const char *syscall_name, int err) {
  napi_value error;
  napi_create_error(env, NULL, string(env, syscall_name, NAPI_AUTO_LENGTH), &error);
  napi_set_named_property(env, error, "errno", integer(env, err));
  napi_set_named_property(env, error, "syscall", string(env, syscall_name, NAPI_AUTO_LENGTH));
  napi_throw(env, error);
  return NULL;
}

/* Arguments. Wrong types are a bug of system.ts: they read as 0 or "". */

static void arguments(napi_env env, napi_callback_info info, napi_value *args) {
  size_t count = MAX_ARGS;
  napi_get_cb_info(env, info, &count, args, NULL, NULL);
}

static int64_t number(napi_env env, napi_value value) {
  double n = 0;
  napi_get_value_double(env, value, &n);
  return n;
}

/* Nearly every text and file is smaller than this, and has room on the stack: musl asks the kernel for each block of such a size, and
 * gives it back. */
#define ROOM 8192

/* Text in the room, or on the heap; NULL with errno. */
static char *text_in(napi_env env, napi_value value, size_t *length, char room[ROOM]) {
  napi_get_value_string_utf8(env, value, NULL, 0, length);
  char *copy = *length < ROOM ? room : malloc(*length + 1);
  if (copy) napi_get_value_string_utf8(env, value, copy, *length + 1, length);
  else errno = ENOMEM;
  return copy;
}

static void leave_room(char *bytes, const char room[ROOM]) {
  if (bytes != room) free(bytes);
}

/* A word on the heap; NULL with errno. One that holds a zero byte is refused: C would take it for shorter than it is. */
static char *word(napi_env env, napi_value value) {
  size_t size = 0;
  napi_get_value_string_utf8(env, value, NULL, 0, &size);
  char *copy = calloc(size + 1, 1);
  if (!copy) {
    errno = ENOMEM;
    return NULL;
  }
  napi_get_value_string_utf8(env, value, copy, size + 1, &size);
  if (strlen(copy) == size) return copy;
  free(copy);
  errno = EINVAL;
  return NULL;
}

/* A path of an argument; 0 or the error number. */
static int path_of(napi_env env, napi_value value, char path[PATH_MAX]) {
  size_t size = 0;
  path[0] = 0;
  napi_get_value_string_utf8(env, value, NULL, 0, &size);
  if (size >= PATH_MAX) return ENAMETOOLONG;
  napi_get_value_string_utf8(env, value, path, PATH_MAX, &size);
  return strlen(path) == size ? 0 : EINVAL;
}

/* Strings of an array, NULL at the end; NULL with errno. */
static void free_words(char **list) {
  for (char **item = list; item && *item; item++) free(*item);
  free(list);
}

static char **words(napi_env env, napi_value array) {
  uint32_t count = 0;
  napi_get_array_length(env, array, &count);
  char **list = calloc(count + 1, sizeof *list);
  if (!list) {
    errno = ENOMEM;
    return NULL;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value item;
    napi_get_element(env, array, i, &item);
    if ((list[i] = word(env, item))) continue;
    int err = errno;
    free_words(list);
    errno = err;
    return NULL;
  }
  return list;
}

static double clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* Like poll() of one descriptor, over any number of signals; a negative timeout is none. */
static int poll_fully(int fd, short events, double timeout_ms) {
  double deadline = clock_ms() + timeout_ms;
  for (;;) {
    struct pollfd one = {.fd = fd, .events = events};
    double left = timeout_ms < 0 ? -1 : deadline - clock_ms();
    int ready = poll(&one, 1, timeout_ms < 0 ? -1 : left <= 0 ? 0 : left >= INT_MAX ? INT_MAX : (int)left + 1);
    if (ready >= 0 || errno != EINTR) return ready;
  }
}

static napi_value js_now_ms(napi_env env, napi_callback_info info) {
  (void)info;
  return integer(env, clock_ms());
}

/* Files. A file that is not there is no error where something is looked at: undefined. */

static int is_missing(int err) { return err == ENOENT || err == ENOTDIR; }

static int open_file(const char *path, int flags, mode_t mode) {
  int fd;
  /* The caller's umask is not ours: files have the modes that the documents promise. */
  mode_t before = flags & O_CREAT ? umask(0) : 0;
  /* musl's open() sets FD_CLOEXEC a second time, for kernels before 2.6.23 */
  do fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC | O_NOCTTY, mode);
  while (fd < 0 && errno == EINTR);
  int err = errno;
  if (flags & O_CREAT) umask(before);
  errno = err;
  return fd;
}

static napi_value js_open(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path), fd = err ? -1 : open_file(path, number(env, args[1]), number(env, args[2]));
  return fd < 0 ? fail(env, "open", err ? err : errno) : integer(env, fd);
}

static napi_value js_close(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  close(number(env, args[0])); /* it is closed whatever close() says */
  return NULL;
}

/* Reads until the end or max bytes, waiting where the descriptor would not; into the room or onto the heap, or NULL with errno. */
static char *read_up_to(int fd, size_t max, size_t *length, char room[ROOM]) {
  size_t size = max < ROOM ? max : ROOM, got = 0;
  char *bytes = room;
  while (got < max) {
    if (got == size) {
      size = size > max / 4 ? max : size * 4;
      char *more = realloc(bytes == room ? NULL : bytes, size);
      if (more && bytes == room) memcpy(more, room, got);
      if (!more) {
        leave_room(bytes, room);
        errno = ENOMEM;
        return NULL;
      }
      bytes = more;
    }
    ssize_t n = read(fd, bytes + got, size - got);
    if (n == 0) break;
    if (n > 0) got += n;
    else if (errno == EAGAIN && poll_fully(fd, POLLIN, -1) >= 0) continue;
    else if (errno != EINTR) {
      int err = errno;
      leave_room(bytes, room);
      errno = err;
      return NULL;
    }
  }
  *length = got;
  return bytes;
}

static napi_value js_read_text(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char room[ROOM];
  size_t length = 0, max;
  arguments(env, info, args);
  max = number(env, args[1]);
  char *bytes = read_up_to(number(env, args[0]), max + 1, &length, room);
  if (!bytes) return fail(env, "read", errno);
  int is_cut = length > max && number(env, args[2]);
  napi_value value = length > max && !is_cut ? fail(env, "read", EFBIG) : string(env, bytes, is_cut ? max : length);
  leave_room(bytes, room);
  return value;
}

static napi_value js_read_file(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX], room[ROOM];
  size_t length = 0, max;
  arguments(env, info, args);
  max = number(env, args[1]);
  int err = path_of(env, args[0], path), fd = err ? -1 : open_file(path, O_RDONLY, 0);
  if (fd < 0) {
    if (!err) err = errno;
    return is_missing(err) ? NULL : fail(env, "open", err);
  }
  char *bytes = read_up_to(fd, max + 1, &length, room);
  err = !bytes ? errno : length > max ? EFBIG : 0;
  close(fd);
  napi_value value = err ? fail(env, "read", err) : string(env, bytes, length);
  if (bytes) leave_room(bytes, room);
  return value;
}

/* Writes all of it, waiting where the descriptor would not; 0 or the error number. */
static int write_fully(int fd, const char *bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = write(fd, bytes + done, length - done);
    if (n >= 0) done += n;
    else if (errno == EAGAIN && poll_fully(fd, POLLOUT, -1) >= 0) continue;
    else if (errno != EINTR) return errno;
  }
  return 0;
}

static napi_value js_write_text(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char room[ROOM];
  size_t length = 0;
  arguments(env, info, args);
  char *bytes = text_in(env, args[1], &length, room);
  if (!bytes) return fail(env, "write", errno);
  int err = write_fully(number(env, args[0]), bytes, length);
  leave_room(bytes, room);
  return err ? fail(env, "write", err) : NULL;
}

static napi_value stat_object(napi_env env, const struct stat *found) {
  napi_value object;
  napi_create_object(env, &object);
  napi_set_named_property(env, object, "mode", integer(env, found->st_mode));
  napi_set_named_property(env, object, "size", integer(env, found->st_size));
  napi_set_named_property(env, object, "inode", integer(env, found->st_ino));
  napi_set_named_property(env, object, "rdev", integer(env, found->st_rdev));
  napi_set_named_property(env, object, "modifiedMs", integer(env, found->st_mtim.tv_sec * 1e3 + found->st_mtim.tv_nsec / 1000000));
  return object;
}

/* Not through glibc: built against 2.33 or later, its stat() would need that on every host. The kernel's struct is the C library's. */
static int stat_path(const char *path, struct stat *found) { return syscall(SYS_newfstatat, AT_FDCWD, path, found, 0); }
static int stat_fd(int fd, struct stat *found) { return syscall(SYS_fstat, fd, found); }

static napi_value js_stat(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  struct stat found;
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  if (!err && stat_path(path, &found)) err = errno;
  if (err) return is_missing(err) ? NULL : fail(env, "stat", err);
  return stat_object(env, &found);
}

static napi_value js_fstat(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  struct stat found;
  arguments(env, info, args);
  return stat_fd(number(env, args[0]), &found) ? fail(env, "fstat", errno) : stat_object(env, &found);
}

static napi_value js_fstatfs(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  struct statfs found;
  arguments(env, info, args);
  return fstatfs(number(env, args[0]), &found) ? fail(env, "fstatfs", errno) : integer(env, found.f_type);
}

static napi_value js_access(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  if (!err && access(path, number(env, args[1]))) err = errno;
  return err && !is_missing(err) ? fail(env, "access", err) : boolean(env, !err);
}

/* What getdents64() writes: linux/dirent.h, which is not for programs. */
struct folder_entry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

static napi_value js_read_folder(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], names;
  char path[PATH_MAX];
  _Alignas(struct folder_entry) char room[ROOM];
  arguments(env, info, args);
  int err = path_of(env, args[0], path), fd = err ? -1 : open_file(path, O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) {
    if (!err) err = errno;
    return is_missing(err) ? NULL : fail(env, "opendir", err);
  }
  napi_create_array(env, &names);
  uint32_t count = 0;
  long size;
  while ((size = syscall(SYS_getdents64, fd, room, sizeof room)) > 0) {
    const struct folder_entry *entry;
    for (long at = 0; at < size; at += entry->length) {
      entry = (const struct folder_entry *)(room + at);
      if (strcmp(entry->name, ".") && strcmp(entry->name, ".."))
        napi_set_element(env, names, count++, string(env, entry->name, NAPI_AUTO_LENGTH));
    }
  }
  err = errno;
  close(fd);
  return size < 0 ? fail(env, "readdir", err) : names;
}

static napi_value js_readlink(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX], target[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  ssize_t length = err ? -1 : readlink(path, target, sizeof target);
  if (length >= 0) return string(env, target, length);
  if (!err) err = errno;
  return is_missing(err) ? NULL : fail(env, "readlink", err);
}

static napi_value js_realpath(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX], real[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  if (!err && !realpath(path, real)) err = errno;
  if (err) return is_missing(err) ? NULL : fail(env, "realpath", err);
  return string(env, real, NAPI_AUTO_LENGTH);
}

/* mkdir(path, mode): false if something of that name is there. */
static napi_value js_mkdir(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  mode_t before = umask(0);
  if (!err && mkdir(path, number(env, args[1]))) err = errno;
  umask(before);
  return err && err != EEXIST ? fail(env, "mkdir", err) : boolean(env, !err);
}

/* unlink(path): false if there is no such file. */
static napi_value js_unlink(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path);
  if (!err && unlink(path)) err = errno;
  return err && !is_missing(err) ? fail(env, "unlink", err) : boolean(env, !err);
}

static napi_value js_rename(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char from[PATH_MAX], to[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], from);
  if (!err) err = path_of(env, args[1], to);
  if (!err && rename(from, to)) err = errno;
  return err ? fail(env, "rename", err) : NULL;
}

static napi_value js_fsync(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  return fsync(number(env, args[0])) ? fail(env, "fsync", errno) : NULL;
}

static napi_value js_fdatasync(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  return fdatasync(number(env, args[0])) ? fail(env, "fdatasync", errno) : NULL;
}

static napi_value js_fchmod(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  return fchmod(number(env, args[0]), number(env, args[1])) ? fail(env, "fchmod", errno) : NULL;
}

static napi_value js_touch(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  return futimens(number(env, args[0]), NULL) ? fail(env, "futimens", errno) : NULL;
}

static napi_value js_poll(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  int ready = poll_fully(number(env, args[0]), number(env, args[1]), number(env, args[2]));
  return ready < 0 ? fail(env, "poll", errno) : boolean(env, ready);
}

static napi_value js_columns(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  struct winsize size;
  arguments(env, info, args);
  return ioctl(number(env, args[0]), TIOCGWINSZ, &size) ? NULL : integer(env, size.ws_col);
}

/* Namespaces and links. */

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
  if (err == ENOPROTOOPT) return string(env, "", 0);
  if (err) return fail(env, "getsockopt", err);
  char digits[24];
  snprintf(digits, sizeof digits, "%llu", (unsigned long long)cookie);
  return string(env, digits, NAPI_AUTO_LENGTH);
}

/* peerPid(fd): id of the process that connected this Unix socket; 0 if it is in another pid namespace. */
static napi_value js_peer_pid(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  struct ucred peer;
  socklen_t size = sizeof peer;
  arguments(env, info, args);
  if (getsockopt(number(env, args[0]), SOL_SOCKET, SO_PEERCRED, &peer, &size)) return fail(env, "getsockopt", errno);
  return integer(env, peer.pid);
}

/* busInfo(ifname): the PCI address of a link of the current namespace, as the driver tells it (for kernels before 5.14, which do
 * not report IFLA_PARENT_DEV_NAME); "" for links without one, and for one that has gone. */
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
  if (err == EOPNOTSUPP || err == ENODEV) return string(env, "", 0);
  if (err) return fail(env, "ioctl", err);
  driver.bus_info[sizeof driver.bus_info - 1] = 0;
  return string(env, driver.bus_info, NAPI_AUTO_LENGTH);
}

static void wake(int signal) { (void)signal; }

/* flock(fd, timeoutMs): exclusive lock; true when taken, false when somebody else kept it for that long. The wait is the kernel's own
 * queue: a timer aimed at this thread interrupts it. */
static napi_value js_flock(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  int fd = number(env, args[0]), timeout_ms = number(env, args[1]), err;
  do err = flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
  while (err == EINTR);
  if (err == EWOULDBLOCK && timeout_ms > 0) {
    struct sigaction action = {.sa_handler = wake}, before; /* no SA_RESTART: flock must return EINTR */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    event.sigev_notify_thread_id = syscall(SYS_gettid);
    /* repeated: a first signal that arrives just before flock() sleeps would be lost */
    struct itimerspec when = {.it_value = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L}, .it_interval = {0, 10000000L}};
    /* not through glibc: built against 2.34 or later, its timer functions would need that on every host */
    int timer; /* the kernel's timer_t */
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer)) return fail(env, "timer_create", errno);
    sigset_t alarm, mask; /* the caller may have blocked it */
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigaction(SIGALRM, &action, &before);
    sigprocmask(SIG_UNBLOCK, &alarm, &mask);
    double deadline = clock_ms() + timeout_ms;
    syscall(SYS_timer_settime, timer, 0, &when, NULL);
    do err = flock(fd, LOCK_EX) ? errno : 0;
    while (err == EINTR && clock_ms() < deadline); /* any signal ends the call */
    syscall(SYS_timer_delete, timer);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigaction(SIGALRM, &before, NULL);
  }
  if (err && err != EWOULDBLOCK && err != EINTR) return fail(env, "flock", err);
  return boolean(env, err == 0);
}

/* memfd(name, text): an anonymous file that holds the text and stands at its start, closed on exec. Not executable as a program, which a
 * host may forbid (vm.memfd_noexec); a library can be mapped from it all the same. */
static napi_value js_memfd(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char name[NAME_MAX], room[ROOM];
  size_t length = 0;
  arguments(env, info, args);
  napi_get_value_string_utf8(env, args[0], name, sizeof name, &length);
  char *content = text_in(env, args[1], &length, room);
  int err = content ? 0 : errno, fd = err ? -1 : memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  if (!err && fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC); /* before linux 6.3 */
  if (!err && fd < 0) err = errno;
  if (!err) err = write_fully(fd, content, length);
  if (!err && lseek(fd, 0, SEEK_SET) < 0) err = errno;
  if (err && fd >= 0) close(fd);
  if (content) leave_room(content, room);
  return err ? fail(env, "memfd_create", err) : integer(env, fd);
}

/* pipe(): both ends, the reading one first, closed on exec. */
static napi_value js_pipe(napi_env env, napi_callback_info info) {
  (void)info;
  int fds[2];
  if (pipe2(fds, O_CLOEXEC)) return fail(env, "pipe2", errno);
  napi_value ends;
  napi_create_array(env, &ends);
  for (uint32_t i = 0; i < 2; i++) napi_set_element(env, ends, i, integer(env, fds[i]));
  return ends;
}

/* Programs. */

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
  char *file = word(env, args[0]), **argv = file ? words(env, args[1]) : NULL, **envp = argv ? words(env, args[2]) : NULL;
  volatile int err = 0;
  if (!envp) {
    err = errno;
    free(file);
    free_words(argv);
    return fail(env, "execve", err);
  }
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
  if (pid > 0 && err)
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
  free(file);
  free_words(argv);
  free_words(envp);
  return err ? fail(env, "execve", err) : integer(env, pid);
}

/* wait(pid, timeoutMs): the exit code, 128 + signal, or -1 when it still runs after timeoutMs (negative: no limit). */
static napi_value js_wait(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  pid_t pid = number(env, args[0]), done;
  int timeout_ms = number(env, args[1]), status = 0;
  double deadline = clock_ms() + timeout_ms;
  do done = waitpid(pid, &status, timeout_ms < 0 ? 0 : WNOHANG);
  while (done < 0 && errno == EINTR);
  if (done == 0) {
    int fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0) {
      int ended = poll_fully(fd, POLLIN, timeout_ms) > 0;
      close(fd);
      /* who traces it hears of its end first, and until then it is not ours to wait for */
      do done = waitpid(pid, &status, ended ? 0 : WNOHANG);
      while (done < 0 && errno == EINTR);
    } else { /* before linux 5.3 */
      while (done == 0 && clock_ms() < deadline) {
        nanosleep(&(struct timespec){0, 5000000}, NULL);
        done = waitpid(pid, &status, WNOHANG);
      }
    }
  }
  if (done < 0) return fail(env, "waitpid", errno);
  if (done == 0) return integer(env, -1);
  return integer(env, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Netlink. */

static int is_netlink_port(int fd, uint32_t port) {
  struct sockaddr_nl address = {0};
  socklen_t size = sizeof address;
  return !getsockname(fd, (struct sockaddr *)&address, &size) && address.nl_family == AF_NETLINK && address.nl_pid == port;
}

/* Error texts (linux 4.12), and no ENOBUFS when notifications are lost: whoever waits for one looks again after the last that is queued,
 * so later than what was lost; and on ENOBUFS the netlink package's C++ aborts the process. */
static void set_options(int fd) {
  int on = 1;
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
}

/* netlinkSetUp(port): the options of netlinkOpen() for our socket with this port (the netlink package keeps its descriptor to itself).
 * It was opened just now, so it is looked for from the newest descriptor down. */
static napi_value js_netlink_set_up(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  uint32_t port = number(env, args[0]);
  int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return NULL;
  close(fd);
  while (fd > 2 && !is_netlink_port(fd, port)) fd--;
  if (fd > 2) set_options(fd);
  return NULL;
}

/* netlinkOpen(protocol): a netlink socket of the current namespace, with a port that the kernel chose. */
static napi_value js_netlink_open(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, number(env, args[0]));
  if (fd < 0) return fail(env, "socket", errno);
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) {
    int err = errno;
    close(fd);
    return fail(env, "bind", err);
  }
  set_options(fd);
  return integer(env, fd);
}

/* netlinkSend(fd, bytes): one datagram to the kernel. */
static napi_value js_netlink_send(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  void *data = NULL;
  size_t length = 0;
  ssize_t sent;
  arguments(env, info, args);
  napi_get_typedarray_info(env, args[1], NULL, &length, &data, NULL, NULL);
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  struct iovec part = {data, length};
  struct msghdr message = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &part, .msg_iovlen = 1};
  do sent = sendmsg(number(env, args[0]), &message, 0);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? fail(env, "sendmsg", errno) : NULL;
}

/* netlinkReceive(fd, timeoutMs): the next datagram of the kernel, whatever its size; undefined if none came for timeoutMs. */
static napi_value js_netlink_receive(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS], buffer, array;
  arguments(env, info, args);
  int fd = number(env, args[0]);
  double deadline = clock_ms() + number(env, args[1]);
  for (;;) {
    /* The answer to a request is there as soon as that is sent: only notifications have to be waited for. */
    ssize_t size = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) {
      double left = deadline - clock_ms();
      int ready = poll_fully(fd, POLLIN, left > 0 ? left : 0);
      if (ready < 0) return fail(env, "poll", errno);
      if (ready == 0) return NULL;
      continue;
    }
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail(env, "recvmsg", errno);
    void *data = NULL;
    napi_create_arraybuffer(env, size, &data, &buffer);
    if (!data && size > 0) return fail(env, "recvmsg", ENOMEM);
    struct sockaddr_nl from = {0};
    struct iovec part = {data, size};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return fail(env, "recvmsg", errno);
    if (from.nl_pid != 0) continue; /* of another process */
    napi_create_typedarray(env, napi_uint8_array, got, buffer, 0, &array);
    return array;
  }
}

/* netlinkMembership(fd, group, join): enters or leaves a multicast group. */
static napi_value js_netlink_membership(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  int group = number(env, args[1]), option = number(env, args[2]) ? NETLINK_ADD_MEMBERSHIP : NETLINK_DROP_MEMBERSHIP;
  return setsockopt(number(env, args[0]), SOL_NETLINK, option, &group, sizeof group) ? fail(env, "setsockopt", errno) : NULL;
}

/* Announcements. */

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

struct announcement {
  const char *ifname;
  const struct frame *frames;
  uint32_t count;
  int patience_ms;
  const char *netns; /* path of the pod's namespace */
  ino_t inode;       /* and its inode */
};

static int is_there(const char *netns, ino_t inode) {
  struct stat found;
  return !stat_path(netns, &found) && found.st_ino == inode;
}

/* Waits for the carrier before it sends: without one the kernel drops them, and a VF's can come long after its IFF_UP. The socket keeps
 * the namespace alive, and the VF in it: it is given up as soon as nobody else finds the way there any more. */
static void send_when_running(int fd, const struct announcement *it) {
  for (double deadline = clock_ms() + it->patience_ms; it->count > 0 && clock_ms() < deadline;) {
    nanosleep(&(struct timespec){0, 10000000L}, NULL);
    int up = running(fd, it->ifname);
    if (up < 0 || !is_there(it->netns, it->inode)) break; /* the link has left the pod, or the pod is gone */
    if (!up) continue;
    send_frames(fd, it->frames, it->count);
    break;
  }
}

/* Whether an orphan is reaped: only a machine's own first process is known to do so. The first of a container's own PID namespace (a
 * thick Multus without hostPID) may not, and would collect a zombie per pod. PROC_PID_INIT_INO: include/linux/proc_ns.h. */
static int orphans_are_reaped(void) {
  char target[32] = {0};
  return readlink("/proc/self/ns/pid", target, sizeof target - 1) > 0 && !strcmp(target, "pid:[4026531836]");
}

/* Closes all descriptors from one number to another. */
static void close_span(int first, int last) {
  if (first > last || !syscall(SYS_close_range, first, last, 0)) return;
  for (int i = first; i <= last && i < 1024; i++) close(i); /* before linux 5.9; files of Node beyond that are harmless: no pipe, no lock */
}

/* A child that holds nothing but this socket sends what is left to send and closes it. The close is not ours to wait for either: the
 * kernel lets an RCU grace period pass in it (packet_release), 10 to 25 ms. Where nobody would reap the child, we wait ourselves. */
static void leave_to_child(int fd, const struct announcement *it) {
  pid_t child = orphans_are_reaped() ? fork() : -1;
  if (child < 0) send_when_running(fd, it);
  if (child != 0) return;
  setsid();
  if (dup2(fd, 3) < 0) _exit(1);
  close_span(0, 2); /* the caller reads our stdout until the last writer is gone */
  close_span(4, INT_MAX); /* locks and namespaces */
  nanosleep(&(struct timespec){0, 10000000L}, NULL); /* our parent's close must not be the last one, or it waits all the same */
  send_when_running(3, it);
  _exit(0);
}

/* An exit code has room for a byte: error numbers of the kernel's own (ENOTSUPP is 524) come from 200 up. */
static int exit_code_of(int err) { return err < 200 ? err : err >= 512 && err < 567 ? err - 512 + 200 : 199; }

/* writeInChild(path, text, keptFd): a child writes the text to a kernel file and exits with 0 or exit_code_of() the error; returns its
 * pid. For a write that may block where no signal reaches: the caller waits as long as it likes and goes. The child keeps keptFd and
 * nothing else of ours: its lock is held until the write has ended, and nobody waits for our stdout. */
static napi_value js_write_in_child(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  char path[PATH_MAX];
  arguments(env, info, args);
  int err = path_of(env, args[0], path), kept = number(env, args[2]);
  char *value = err ? NULL : word(env, args[1]);
  if (!value) return fail(env, "open", err ? err : errno);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent) _exit(EINTR);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) _exit(exit_code_of(errno));
    int low = kept < fd ? kept : fd, high = kept < fd ? fd : kept;
    close_span(0, low - 1);
    close_span(low + 1, high - 1);
    close_span(high + 1, INT_MAX);
    _exit(write(fd, value, strlen(value)) < 0 ? exit_code_of(errno) : 0);
  }
  err = errno;
  free(value);
  return pid < 0 ? fail(env, "fork", err) : integer(env, pid);
}

/* announce(ifname, ifindex, frames, patienceMs, netns, inode): sends each {protocol, to, bytes} (layer 3, at most 128 bytes) on the link
 * of the current namespace: now where it has carrier, else in the background as soon as it has. True: sent now. */
static napi_value js_announce(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  uint32_t count = 0;
  napi_get_array_length(env, args[2], &count);
  char *ifname = word(env, args[0]), netns[PATH_MAX];
  int err = ifname ? path_of(env, args[4], netns) : errno, up = 0;
  struct frame *frames = calloc(count + 1, sizeof *frames);
  if (!err && !frames) err = ENOMEM;
  for (uint32_t i = 0; !err && i < count; i++) {
    napi_value item, value;
    void *data = NULL;
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
    if (data) memcpy(frame->to.sll_addr, data, frame->to.sll_halen);
    napi_get_named_property(env, item, "bytes", &value);
    length = 0;
    napi_get_typedarray_info(env, value, NULL, &length, &data, NULL, NULL);
    frame->length = length < sizeof frame->bytes ? length : sizeof frame->bytes;
    if (data) memcpy(frame->bytes, data, frame->length);
  }
  int fd = err ? -1 : socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!err && fd < 0) err = errno;
  if (!err) {
    up = running(fd, ifname);
    if (up < 0) err = errno;
    else if (up) err = send_frames(fd, frames, count);
    const struct announcement rest = {ifname, frames, up ? 0 : count, number(env, args[3]), netns, number(env, args[5])};
    if (!err) leave_to_child(fd, &rest);
  }
  if (fd >= 0) close(fd); /* not the last of it where there is a child, so this one returns at once */
  free(ifname);
  free(frames);
  return err ? fail(env, "announce", err) : boolean(env, up);
}

/* exit(code): at once, without V8's and Node's teardown. Everything of ours is written synchronously. */
static napi_value js_exit(napi_env env, napi_callback_info info) {
  napi_value args[MAX_ARGS];
  arguments(env, info, args);
  _exit(number(env, args[0]));
}

#define FUNCTION(name, fn) {name, NULL, fn, NULL, NULL, NULL, napi_enumerable, NULL}

static napi_value init(napi_env env, napi_value exports) {
  static const napi_property_descriptor functions[] = {
      FUNCTION("open", js_open),
      FUNCTION("close", js_close),
      FUNCTION("readText", js_read_text),
      FUNCTION("writeText", js_write_text),
      FUNCTION("readFile", js_read_file),
      FUNCTION("stat", js_stat),
      FUNCTION("fstat", js_fstat),
      FUNCTION("fstatfs", js_fstatfs),
      FUNCTION("access", js_access),
      FUNCTION("readFolder", js_read_folder),
      FUNCTION("readlink", js_readlink),
      FUNCTION("realpath", js_realpath),
      FUNCTION("mkdir", js_mkdir),
      FUNCTION("unlink", js_unlink),
      FUNCTION("rename", js_rename),
      FUNCTION("fsync", js_fsync),
      FUNCTION("fdatasync", js_fdatasync),
      FUNCTION("fchmod", js_fchmod),
      FUNCTION("touch", js_touch),
      FUNCTION("poll", js_poll),
      FUNCTION("columns", js_columns),
      FUNCTION("flock", js_flock),
      FUNCTION("memfd", js_memfd),
      FUNCTION("pipe", js_pipe),
      FUNCTION("spawn", js_spawn),
      FUNCTION("wait", js_wait),
      FUNCTION("writeInChild", js_write_in_child),
      FUNCTION("exit", js_exit),
      FUNCTION("setns", js_setns),
      FUNCTION("netnsCookie", js_netns_cookie),
      FUNCTION("busInfo", js_bus_info),
      FUNCTION("peerPid", js_peer_pid),
      FUNCTION("announce", js_announce),
      FUNCTION("netlinkSetUp", js_netlink_set_up),
      FUNCTION("netlinkOpen", js_netlink_open),
      FUNCTION("netlinkSend", js_netlink_send),
      FUNCTION("netlinkReceive", js_netlink_receive),
      FUNCTION("netlinkMembership", js_netlink_membership),
      FUNCTION("nowMs", js_now_ms),
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  const struct {
    const char *name;
    int value;
  } flags[] = {{"O_RDONLY", O_RDONLY}, {"O_WRONLY", O_WRONLY}, {"O_RDWR", O_RDWR},           {"O_CREAT", O_CREAT},      {"O_TRUNC", O_TRUNC},
               {"O_APPEND", O_APPEND}, {"O_PATH", O_PATH},     {"O_DIRECTORY", O_DIRECTORY}, {"O_NOFOLLOW", O_NOFOLLOW},
               {"O_NONBLOCK", O_NONBLOCK}};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) napi_set_named_property(env, exports, flags[i].name, integer(env, flags[i].value));
  return exports;
}

NAPI_MODULE(system, init)
