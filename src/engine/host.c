/*
 * The host of the second engine: what Node is to the first one. At build time it makes the snapshot; at every start
 * afterwards it goes on from there: new environment and arguments, then the event loop (promises and timers) until there
 * is an exit code.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "napi.h"
#include "quickjs-ng.h"
#include "rehearsal.h"

/* Exit codes as Node has them. */
enum { EXIT_UNCAUGHT = 1, EXIT_UNSETTLED = 13 };

static const size_t memory_limit = (size_t)512 << 20;
static const size_t stack_limit = (size_t)4 << 20;
/* A process that lives for milliseconds collects no garbage, unless there is a lot. */
static const size_t garbage_limit = (size_t)64 << 20;

/* What goes wrong here is told on stderr, and nobody is left to tell if that fails. */
static void tell(const char *text) {
  ssize_t written = write(2, text, strlen(text));
  (void)written;
}

/* A bug, or no memory left: nobody has caught it. */
static _Noreturn void leave(JSContext *ctx, JSValueConst error) {
  tell("engine: uncaught ");
  const char *message = JS_ToCString(ctx, error);
  /* Where not even an error could be made for want of memory, the engine throws null. */
  tell(JS_IsNull(error) || message == NULL ? "out of memory" : message);
  JSValue stack = JS_IsError(error) ? JS_GetPropertyStr(ctx, error, "stack") : JS_UNDEFINED;
  const char *trace = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
  tell("\n");
  if (trace) tell(trace);
  _exit(EXIT_UNCAUGHT);
}

static JSValue checked(JSContext *ctx, JSValue value) {
  if (JS_IsException(value)) leave(ctx, JS_GetException(ctx));
  return value;
}

/* Rejected promises that nobody has taken care of (yet). */

#define MAX_REJECTED 64

static struct {
  JSValue promise, reason;
} rejected[MAX_REJECTED];
static size_t rejected_count;

static void on_rejection(JSContext *ctx, JSValueConst promise, JSValueConst reason, bool is_handled, void *opaque) {
  (void)opaque;
  if (!is_handled) {
    if (rejected_count == MAX_REJECTED) leave(ctx, reason);
    rejected[rejected_count].promise = JS_DupValue(ctx, promise);
    rejected[rejected_count++].reason = JS_DupValue(ctx, reason);
    return;
  }
  for (size_t i = 0; i < rejected_count; i++) {
    if (JS_VALUE_GET_PTR(rejected[i].promise) != JS_VALUE_GET_PTR(promise)) continue;
    JS_FreeValue(ctx, rejected[i].promise);
    JS_FreeValue(ctx, rejected[i].reason);
    rejected[i] = rejected[--rejected_count];
    return;
  }
}

static void run_jobs(JSContext *ctx) {
  JSContext *of_job;
  int result;
  while ((result = JS_ExecutePendingJob(JS_GetRuntime(ctx), &of_job)) > 0) continue;
  if (result < 0) checked(ctx, JS_EXCEPTION);
  if (rejected_count > 0) leave(ctx, rejected[0].reason);
}

static void sleep_ms(double ms) {
  struct timespec time = {.tv_sec = (time_t)(ms / 1e3)};
  time.tv_nsec = (long)((ms - time.tv_sec * 1e3) * 1e6);
  nanosleep(&time, NULL); /* a signal wakes us early: the timers are asked again */
}

/* Runs until the promise is settled; its value is the exit code. */
static int run_until_settled(JSContext *ctx, JSValueConst promise, JSValueConst run_timers) {
  for (;;) {
    run_jobs(ctx);
    int32_t code = 0;
    JSPromiseStateEnum state = JS_PromiseState(ctx, promise);
    if (state == JS_PROMISE_REJECTED) leave(ctx, JS_PromiseResult(ctx, promise));
    if (state != JS_PROMISE_PENDING) {
      JSValue value = JS_PromiseResult(ctx, promise);
      if (JS_IsNumber(value)) JS_ToInt32(ctx, &code, value);
      return code;
    }
    double wait_ms = -1;
    JSValue wait = checked(ctx, JS_Call(ctx, run_timers, JS_UNDEFINED, 0, NULL));
    JS_ToFloat64(ctx, &wait_ms, wait);
    if (JS_IsJobPending(JS_GetRuntime(ctx))) continue;
    if (wait_ms < 0) {
      tell("engine: nothing is left to do, and there is no answer\n");
      return EXIT_UNSETTLED;
    }
    sleep_ms(wait_ms);
  }
}

/* The process */

/* A descriptor that nobody opened for us would become that of the next file: whoever prints would write into it. */
static void open_standard_streams(void) {
  struct stat unused;
  for (int fd = 0; fd <= 2; fd++)
    if (fstat(fd, &unused) && errno == EBADF && open("/dev/null", O_RDWR) != fd) _exit(EXIT_UNCAUGHT);
}

/* What a caller ignores or blocks is inherited. Who writes to a pipe that nobody reads is to get an error; children must
 * be waited for, and SIGALRM ends the wait for a lock. */
static void reset_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
  signal(SIGALRM, SIG_DFL);
}

/* musl does this for dynamic executables only. */
static void protect_relocated(void) {
  const Elf64_Phdr *header = (const Elf64_Phdr *)getauxval(AT_PHDR);
  for (size_t left = getauxval(AT_PHNUM); left > 0; left--, header++) {
    if (header->p_type != PT_GNU_RELRO) continue;
    size_t page = getauxval(AT_PAGESZ), start = header->p_vaddr & -page, end = (header->p_vaddr + header->p_memsz) & -page;
    if (end > start) mprotect((void *)start, end - start, PROT_READ);
  }
}

static size_t usable_stack(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) || limit.rlim_cur / 2 >= stack_limit) return stack_limit;
  return limit.rlim_cur / 2; /* the other half: arguments, environment, and C code that does not look */
}

static uint64_t random_seed(void) {
  uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed = (uint64_t)getpid();
  return seed;
}

static JSValue arguments(JSContext *ctx, char **argv) {
  JSValue list = checked(ctx, JS_NewArray(ctx));
  for (uint32_t i = 0; argv[0] != NULL && argv[i + 1] != NULL; i++) {
    JSValue text = checked(ctx, napi_text(ctx, argv[i + 1], strlen(argv[i + 1])));
    if (JS_SetPropertyUint32(ctx, list, i, text) < 0) checked(ctx, JS_EXCEPTION);
  }
  return list;
}

/* Of two entries with one name the first counts, as for getenv(). */
static JSValue environment(JSContext *ctx, char **envp) {
  JSValue object = checked(ctx, JS_NewObjectProto(ctx, JS_NULL));
  for (; *envp != NULL; envp++) {
    const char *separator = strchr(*envp, '=');
    if (separator == NULL) continue;
    JSValue name = checked(ctx, napi_text(ctx, *envp, separator - *envp));
    JSValue value = checked(ctx, napi_text(ctx, separator + 1, strlen(separator + 1)));
    JSAtom atom = JS_ValueToAtom(ctx, name);
    JS_FreeValue(ctx, name);
    if (JS_HasProperty(ctx, object, atom) > 0) JS_FreeValue(ctx, value);
    else if (JS_DefinePropertyValue(ctx, object, atom, value, JS_PROP_C_W_E) < 0) checked(ctx, JS_EXCEPTION);
    JS_FreeAtom(ctx, atom);
  }
  return object;
}

static int start(char **argv, char **envp) {
  arena_open();
  JSContext *ctx = arena_root()->ctx;
  JSRuntime *rt = JS_GetRuntime(ctx);
  JS_UpdateStackTop(rt);
  JS_SetMaxStackSize(rt, usable_stack());
  engine_seed_random(ctx, random_seed());
  JSValue args[] = {arguments(ctx, argv), environment(ctx, envp)};
  JSValue promise = checked(ctx, JS_Call(ctx, arena_root()->main, JS_UNDEFINED, 2, args));
  return run_until_settled(ctx, promise, arena_root()->run_timers);
}

/* The snapshot */

static JSValue monotonic_ms(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
  (void)this_value, (void)argc, (void)argv;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return JS_NewFloat64(ctx, now.tv_sec * 1e3 + now.tv_nsec / 1e6);
}

static JSValue utf8(JSContext *ctx, JSValueConst this_value, int argc, JSValueConst *argv) {
  (void)this_value, (void)argc;
  size_t length;
  const char *bytes = JS_ToCStringLen(ctx, &length, argv[0]);
  if (bytes == NULL) return JS_EXCEPTION;
  JSValue array = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)bytes, length);
  JS_FreeCString(ctx, bytes);
  return array;
}

/* No eval() and no Function(): the parser is not linked in. */
static JSContext *new_context(JSRuntime *rt) {
  JSContext *ctx = JS_NewContextRaw(rt);
  if (ctx == NULL) return NULL;
  engine_fix_seeds(ctx);
  if (JS_AddIntrinsicBaseObjects(ctx) || JS_AddIntrinsicDate(ctx) || JS_AddIntrinsicRegExp(ctx) ||
      JS_AddIntrinsicJSON(ctx) || JS_AddIntrinsicProxy(ctx) || JS_AddIntrinsicMapSet(ctx) ||
      JS_AddIntrinsicTypedArrays(ctx) || JS_AddIntrinsicPromise(ctx) || JS_AddIntrinsicWeakRef(ctx))
    return NULL;
  return ctx;
}

static uint8_t *read_all(int fd, size_t *size) {
  uint8_t *bytes = NULL;
  size_t capacity = 0;
  ssize_t count;
  *size = 0;
  do {
    if (*size == capacity && (bytes = realloc(bytes, capacity += 1 << 20)) == NULL) return NULL;
    count = read(fd, bytes + *size, capacity - *size);
    if (count > 0) *size += count;
  } while (count > 0);
  return count < 0 ? NULL : bytes;
}

/* Loads a script that leaves `entry` behind, and returns that. It has main and runTimers (arena.h), the promise `ready`; and
 * for the rehearsal () => a promise of 0, and pretend (name, ...args) => what a function of the addon returns there. */
static JSValue load(JSContext *ctx, const uint8_t *bytecode, size_t size) {
  JSValue global = JS_GetGlobalObject(ctx);
  JS_SetPropertyStr(ctx, global, "addon", checked(ctx, napi_load(ctx)));
  JS_SetPropertyStr(ctx, global, "monotonicMs", JS_NewCFunction(ctx, monotonic_ms, "monotonicMs", 0));
  JS_SetPropertyStr(ctx, global, "utf8", JS_NewCFunction(ctx, utf8, "utf8", 1));
  napi_seal();
  JSValue script = checked(ctx, JS_ReadObject(ctx, bytecode, size, JS_READ_OBJ_BYTECODE));
  JS_FreeValue(ctx, checked(ctx, JS_EvalFunction(ctx, script)));
  JSValue entry = checked(ctx, JS_GetPropertyStr(ctx, global, "entry"));
  JS_FreeValue(ctx, global);
  return entry;
}

static int rehearse(JSContext *ctx, JSValueConst entry) {
  JSValue function = checked(ctx, JS_GetPropertyStr(ctx, entry, "rehearse"));
  napi_pretend(checked(ctx, JS_GetPropertyStr(ctx, entry, "pretend")));
  if (!rehearsal_watch()) return EXIT_UNCAUGHT;
  JSValue promise = checked(ctx, JS_Call(ctx, function, JS_UNDEFINED, 0, NULL));
  int code = run_until_settled(ctx, promise, arena_root()->run_timers);
  engine_read_tables(JS_GetRuntime(ctx));
  return code == 0 && !rehearsal_write(1) ? EXIT_UNCAUGHT : code;
}

/* What is on stdin: the number of blocks that a rehearsal found (0: it is this one), these, and bytecode. */
struct ingredients {
  uint64_t kept_count;
  struct kept_block kept[];
};

/* stdout: of a rehearsal the blocks, otherwise the snapshot. */
static int make_snapshot(void) {
  size_t size;
  const struct ingredients *given = (const struct ingredients *)read_all(0, &size);
  if (given == NULL || size < sizeof *given || given->kept_count > (size - sizeof *given) / sizeof *given->kept) {
    tell("engine: cannot read the bytecode\n");
    return EXIT_UNCAUGHT;
  }
  bool is_rehearsal = given->kept_count == 0;
  if (is_rehearsal) arena_spread();
  else arena_gather(given->kept, given->kept_count);
  JSRuntime *rt = JS_NewRuntime2(&arena_functions, NULL);
  JSContext *ctx = rt ? new_context(rt) : NULL;
  if (ctx == NULL) {
    tell("engine: cannot start\n");
    return EXIT_UNCAUGHT;
  }
  JS_SetHostPromiseRejectionTracker(rt, on_rejection, NULL);
  JS_SetMaxStackSize(rt, usable_stack());
  const uint8_t *bytecode = (const uint8_t *)(given->kept + given->kept_count);
  JSValue entry = load(ctx, bytecode, (const uint8_t *)given + size - bytecode);
  arena_root()->ctx = ctx;
  arena_root()->main = checked(ctx, JS_GetPropertyStr(ctx, entry, "main"));
  arena_root()->run_timers = checked(ctx, JS_GetPropertyStr(ctx, entry, "runTimers"));
  JSValue ready = checked(ctx, JS_GetPropertyStr(ctx, entry, "ready"));
  int code = run_until_settled(ctx, ready, arena_root()->run_timers);
  if (code != 0) return code;
  JS_FreeValue(ctx, ready);
  JS_RunGC(rt);
  JS_SetMemoryLimit(rt, memory_limit);
  JS_SetGCThreshold(rt, garbage_limit);
  if (is_rehearsal) return rehearse(ctx, entry);
  JS_FreeValue(ctx, entry);
  engine_forget_stack(rt);
  if (arena_write(1)) return 0;
  tell("engine: cannot write the snapshot, or it is too large\n");
  return EXIT_UNCAUGHT;
}

int main(int argc, char **argv, char **envp) {
  (void)argc;
  protect_relocated();
  open_standard_streams();
  reset_signals();
  _exit(arena_root()->used > 0 ? start(argv, envp) : make_snapshot());
}
