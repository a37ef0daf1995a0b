/*
 * The engine's memory. While the snapshot is made, all of it comes from one region at a fixed address, and at the end
 * that region is written to a file, which the second link puts at the very same address (arena.S, arena.ld). In the
 * finished executable the region is the snapshot and a spare megabyte: enough for most runs, without one call of the system
 * for memory. What does not fit comes from libc.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quickjs.h>

/* What a start finds in the snapshot: the first block of the region. */
struct arena_root {
  size_t used; /* 0: there is no snapshot yet */
  JSContext *ctx;
  JSValue main;       /* (args, env) => a promise of the exit code */
  JSValue run_timers; /* () => ms until the next timer, -1 without one */
};

extern uint8_t arena_start[], arena_end[]; /* of the linker */

static inline struct arena_root *arena_root(void) { return (struct arena_root *)arena_start; }

extern const JSMallocFunctions arena_functions;

/* Writes the region to a descriptor and returns false when that failed. */
bool arena_write(int fd);

/* How many blocks have been taken from the region so far. */
size_t arena_blocks_taken(void);

#endif
