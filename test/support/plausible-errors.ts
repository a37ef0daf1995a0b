import type { TracedCall } from './strace.ts';

/** Kinds of places that a call may be made on; see {@link placeOf}. */
type Place =
  | 'stdin'
  | 'answer'
  | 'log'
  | 'state'
  | 'native part'
  | 'sysfs'
  | 'procfs'
  | 'netns'
  | 'program'
  | 'device'
  | 'socket'
  | 'memory'
  | 'other';

/** What a call is made on, as far as it matters for what may go wrong. */
export function placeOf({ target, line }: TracedCall): Place {
  if (target === 'stdin') return 'stdin';
  if (target === 'stdout') return 'answer';
  if (target === 'stderr') return 'log';
  if (/#N|\/fd\/N$/.test(target)) return 'native part';
  if (/^\/(var\/lib\/cni|run\/k8s|var\/run\/k8s)/.test(target)) return 'state';
  if (/^\/(run|var\/run)\/netns|^net$|\/ns\/net$/.test(target) || /^setns\(/.test(line)) return 'netns';
  if (/^\/sys\//.test(target)) return 'sysfs';
  if (/^\/proc\//.test(target)) return 'procfs';
  if (/^\/opt\/cni\//.test(target)) return 'program';
  if (/^\/dev\//.test(target)) return 'device';
  if (target === 'socket' || /^socket\(/.test(line)) return 'socket';
  if (target === 'memfd' || /^memfd_create\(/.test(line)) return 'memory';
  return 'other';
}

/** Errors by place; "" is for all others. A list that is empty says: not here. */
type Errors = Partial<Record<Place | '', string>>;

const openErrors: Errors = {
  state: 'EMFILE EIO EACCES ENOSPC EROFS',
  // A namespace may be gone at any moment. Our own is always there.
  netns: 'ENOENT EMFILE ENOMEM EACCES',
  procfs: 'EMFILE ENOMEM EACCES',
  sysfs: 'EMFILE ENOMEM EACCES EIO',
  'native part': 'EMFILE EIO EACCES',
  '': 'EMFILE EIO EACCES',
};
const lookErrors: Errors = { state: 'EIO EACCES', sysfs: 'ENOMEM EACCES', '': 'ENOMEM EIO EACCES' };

/**
 * Errors that the kernel can plausibly give at a system call, of those that one disturbance explains: a full or failing disk, no memory, no
 * descriptor, a rule of SELinux or seccomp, a signal. Not what would have to persist to be true: a file of sysfs that is not there (ENOENT)
 * belongs to a device that is gone, and then all of it is.
 */
const errors: Record<string, Errors> = {
  access: lookErrors,
  faccessat2: lookErrors,
  stat: lookErrors,
  lstat: lookErrors,
  fstat: lookErrors,
  newfstatat: lookErrors,
  statx: lookErrors,
  statfs: lookErrors,
  fstatfs: lookErrors,
  readlink: lookErrors,
  readlinkat: lookErrors,
  open: openErrors,
  openat: openErrors,
  read: {
    stdin: 'EINTR EAGAIN EIO',
    sysfs: 'EIO ENODEV ENOMEM',
    procfs: 'ENOMEM',
    '': 'EIO',
  },
  pread64: { '': 'EIO' },
  readv: { '': 'EIO' },
  getdents64: { '': 'EIO ENOMEM' },
  write: {
    answer: 'EINTR EAGAIN EPIPE EIO',
    log: 'EAGAIN EPIPE ENOSPC EIO',
    state: 'EINTR ENOSPC EIO',
    sysfs: 'EINTR EBUSY EACCES EPERM ENODEV EIO',
    procfs: 'EINTR EACCES ENOMEM',
    '': 'EINTR ENOSPC EIO',
  },
  writev: { answer: 'EINTR EAGAIN EPIPE EIO', log: 'EAGAIN EPIPE ENOSPC EIO', '': 'EINTR ENOSPC EIO' },
  pwrite64: { '': 'EINTR ENOSPC EIO' },
  ftruncate: { '': 'EINTR EIO' },
  lseek: { '': '' },
  fsync: { '': 'EINTR EIO ENOSPC' },
  fdatasync: { '': 'EINTR EIO ENOSPC' },
  rename: { '': 'ENOSPC EROFS EIO EACCES' },
  renameat: { '': 'ENOSPC EROFS EIO EACCES' },
  unlink: { '': 'EROFS EPERM EIO EBUSY' },
  unlinkat: { '': 'EROFS EPERM EIO EBUSY' },
  mkdir: { '': 'ENOSPC EROFS EACCES' },
  mkdirat: { '': 'ENOSPC EROFS EACCES' },
  utimensat: { '': 'EROFS EPERM EIO' },
  fchmod: { '': 'EROFS EPERM EIO' },
  fallocate: { '': 'EINTR ENOSPC' },
  flock: { '': 'EINTR ENOLCK EAGAIN' },
  // The descriptor is gone whatever close() answers. strace's error keeps the call from being made: a pipe would stay open, and its reader wait.
  close: { '': '' },
  dup: { '': 'EMFILE' },
  dup2: { '': 'EBUSY' },
  dup3: { '': 'EBUSY' },
  socket: { '': 'EMFILE ENOBUFS EPERM' },
  bind: { '': 'EADDRINUSE ENOMEM' },
  getsockname: { '': 'ENOBUFS' },
  // Both are younger than the oldest kernel we run on.
  setsockopt: { '': 'ENOPROTOOPT ENOMEM' },
  getsockopt: { '': 'ENOPROTOOPT' },
  sendmsg: { '': 'ENOBUFS ENOMEM EINTR EAGAIN EPERM' },
  sendto: { '': 'ENOBUFS ENOMEM EINTR EPERM ENETDOWN' },
  recvmsg: { '': 'ENOBUFS EINTR EAGAIN ENOMEM' },
  recvfrom: { '': 'ENOBUFS EINTR EAGAIN ENOMEM' },
  poll: { '': 'EINTR ENOMEM' },
  ppoll: { '': 'EINTR ENOMEM' },
  epoll_pwait: { '': 'EINTR' },
  ioctl: {}, // see plausibleErrors()
  setns: { '': 'EPERM ENOMEM' },
  memfd_create: { '': 'EMFILE ENOMEM' },
  pipe2: { '': 'EMFILE' },
  fork: { '': 'EAGAIN ENOMEM' },
  vfork: { '': 'EAGAIN ENOMEM' },
  clone: { '': 'EAGAIN ENOMEM' },
  clone3: { '': 'EAGAIN ENOMEM' },
  wait4: { '': 'EINTR' },
  pidfd_open: { '': 'ENOSYS EMFILE' },
  timer_create: { '': 'EAGAIN ENOMEM' },
  timerfd_create: { '': 'EMFILE ENOMEM' },
  fcntl: { '': '' },
};

/** Calls that cannot fail, or whose failure is the C library's or the engine's own (memory, threads, libuv's queue of events). */
const leftOut = new Set(
  `mmap munmap mremap mprotect madvise brk futex rt_sigprocmask rt_sigaction rt_sigreturn sigaltstack getpid getppid gettid getuid geteuid getgid getegid
  exit exit_group prlimit64 getrlimit getrandom capget clock_gettime clock_nanosleep nanosleep sched_yield sched_getaffinity restart_syscall
  timer_settime timer_delete epoll_ctl epoll_create1 io_uring_enter eventfd2 sysinfo uname getcwd set_robust_list rseq arch_prctl prctl tgkill umask`.split(
    /\s+/,
  ),
);

/** The calls that errors can be put at. */
export const callsWithErrors: readonly string[] = Object.keys(errors);

/** Names in a trace that nobody has thought about: neither have they errors nor are they left out. */
export function unknownCalls(calls: readonly TracedCall[]): string[] {
  const names = new Set(calls.map(({ name }) => name));
  return [...names].filter((name) => !(name in errors) && !leftOut.has(name));
}

/** What may go wrong at this call. */
export function plausibleErrors(call: TracedCall): string[] {
  if (call.name === 'ioctl') return /SIOC/.test(call.line) ? ['ENODEV'] : [];
  const byPlace = errors[call.name] ?? {};
  return (byPlace[placeOf(call)] ?? byPlace[''] ?? '').split(' ').filter(Boolean);
}
