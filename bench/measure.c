/*
 * Runs programs and measures each run from fork() to its end as wait4() tells it: nothing else runs in between, no shell.
 *
 *   measure each ROUNDS CASE...       one after the other, ROUNDS times: variants take turns
 *   measure together ROUNDS CASE...   all at once, ROUNDS times; and one row "all": wall time until the last has ended, sums of the rest
 *   measure evict FILE...             drops files from the page cache
 *
 * A CASE is a file: a name, a program and its arguments with spaces between them, lines of KEY=VALUE, an empty line, and what the program gets on stdin. A row is name, wall us,
 * CPU us, peak KiB, minor faults, exit code, with tabs between them; what a failed run wrote goes to stderr.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct run {
  char *name, *argv[16], *env[64], *input;
  size_t input_length;
  int in, out, err;
  pid_t pid;
  long wall, cpu, peak, faults;
  int code;
};

static long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static char *read_file(const char *path) {
  FILE *file = fopen(path, "r");
  if (!file) fail(path);
  char *text = calloc(1, 1 << 16);
  if (fread(text, 1, (1 << 16) - 1, file) == 0) fail(path);
  fclose(file);
  return text;
}

static void read_case(const char *path, struct run *run) {
  char *text = read_file(path), *line = strsep(&text, "\n");
  run->name = line;
  char *words = strsep(&text, "\n");
  for (int i = 0; words && i < 15; i++) run->argv[i] = strsep(&words, " ");
  int count = 0;
  while ((line = strsep(&text, "\n")) && *line && count < 63) run->env[count++] = line;
  run->input = text ? text : "";
  run->input_length = strlen(run->input);
}

static int memory(const char *content, size_t length) {
  int fd = memfd_create("measure", MFD_CLOEXEC);
  if (fd < 0 || pwrite(fd, content, length, 0) != (ssize_t)length) fail("memfd");
  return fd;
}

static long start(struct run *run) {
  run->in = memory(run->input, run->input_length);
  run->out = memory("", 0);
  run->err = memory("", 0);
  long began = now_us();
  run->pid = vfork();
  if (run->pid == 0) {
    dup2(run->in, 0);
    dup2(run->out, 1);
    dup2(run->err, 2);
    execve(run->argv[0], run->argv, run->env);
    _exit(126);
  }
  return began;
}

static void ended(struct run *run, long began, int status, const struct rusage *usage) {
  run->wall = now_us() - began;
  run->cpu = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 + usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
  run->peak = usage->ru_maxrss;
  run->faults = usage->ru_minflt;
  run->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What a failed run said, for whoever has to find out why. */
static void report(struct run *run) {
  printf("%s\t%ld\t%ld\t%ld\t%ld\t%d\n", run->name, run->wall, run->cpu, run->peak, run->faults, run->code);
  if (run->code) {
    char text[512];
    for (int *fd = (int[]){run->out, run->err, 0}; *fd; fd++) {
      ssize_t length = pread(*fd, text, sizeof text, 0);
      if (length > 0) fprintf(stderr, "%s: %.*s\n", run->name, (int)length, text);
    }
  }
  close(run->in), close(run->out), close(run->err);
}

static void each(struct run *runs, int count) {
  for (int i = 0; i < count; i++) {
    struct rusage usage;
    int status;
    long began = start(&runs[i]);
    wait4(runs[i].pid, &status, 0, &usage);
    ended(&runs[i], began, status, &usage);
    report(&runs[i]);
  }
}

static void together(struct run *runs, int count) {
  struct run all = {.name = "all", .code = 0};
  long began = now_us();
  for (int i = 0; i < count; i++) start(&runs[i]);
  for (int left = count; left > 0; left--) {
    struct rusage usage;
    int status;
    pid_t pid = wait4(-1, &status, 0, &usage);
    for (int i = 0; i < count; i++) {
      if (runs[i].pid != pid) continue;
      ended(&runs[i], began, status, &usage);
      all.cpu += runs[i].cpu;
      all.peak += runs[i].peak;
      all.faults += runs[i].faults;
      all.code |= runs[i].code;
    }
  }
  all.wall = now_us() - began;
  for (int i = 0; i < count; i++) report(&runs[i]);
  printf("%s\t%ld\t%ld\t%ld\t%ld\t%d\n", all.name, all.wall, all.cpu, all.peak, all.faults, all.code);
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "evict") == 0) {
    for (int i = 2; i < argc; i++) {
      int fd = open(argv[i], O_RDONLY);
      if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) fail(argv[i]);
      close(fd);
    }
    return 0;
  }
  if (argc < 4) return 2;
  int count = argc - 3;
  struct run *runs = calloc(count, sizeof *runs);
  for (int i = 0; i < count; i++) read_case(argv[i + 3], &runs[i]);
  for (int round = atoi(argv[2]); round > 0; round--) (strcmp(argv[1], "each") == 0 ? each : together)(runs, count);
  return 0;
}
