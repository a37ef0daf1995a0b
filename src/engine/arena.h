/*
 * The engine's memory. While the snapshot is made, all of it comes from one region at a fixed address, and at the end
 * that region is written to a file, which the second link puts at the very same address (arena.S, arena.ld). In the
 * finished executable the region is the snapshot and a spare megabyte: enough for most runs, without one call of the system
 * for memory. What does not fit comes from libc.
 *
 * A start writes to about a thousand of the snapshot's blocks, which are counted references more than anything else. Where
 * those lie among all the others, each of two hundred pages is copied by a fault of its own. And what has been given back
 * while the script was loaded leaves holes. So the heap is made twice: the first time every block has its own page, which
 * tells which blocks are there at the end and which of them a start writes to or reads (rehearsal.c); the second time the
 * first of these lie together, then the second, and then the others, two thirds of all, which no start reads from the disk.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quickjs.h>

/* What a start finds in the snapshot: the first thing in the region. */
struct arena_root {
  size_t used; /* 0: there is no snapshot yet */
  size_t hot;  /* as many bytes from the start of the region are what a start writes to */
  size_t read; /* and as many what it writes to or reads */
  JSContext *ctx;
  JSValue main;       /* (args, env) => a promise of the exit code */
  JSValue run_timers; /* () => ms until the next timer, -1 without one */
};

_Static_assert(offsetof(struct arena_root, read) == 16, "build/executable.ts reads it there");

/* A block that is there when the script has been loaded. */
struct kept_block {
  uint32_t number; /* how many blocks had been taken when it was, itself counted */
  uint32_t size : 30;
  uint32_t is_read : 1; /* a start reads it */
  uint32_t is_hot : 1;  /* a start writes to it */
};

enum { ARENA_PAGE = 4096 };

extern uint8_t arena_start[], arena_end[]; /* of the linker */

static inline struct arena_root *arena_root(void) { return (struct arena_root *)arena_start; }

extern const JSMallocFunctions arena_functions;

/* Before the first block is taken for the snapshot: these, in the order of their numbers, will be kept. */
void arena_gather(const struct kept_block *blocks, size_t count);

/* Before the first block is taken in a rehearsal: each is to have pages of its own. */
void arena_spread(void);

/* Of a spread region: the page of the first block, of the block after this one, and where the blocks end. */
uint8_t *arena_first_page(void);
uint8_t *arena_next_page(const uint8_t *page);
uint8_t *arena_end_of_pages(void);

/* Which block starts on a page; its number is 0 if none is there any more. */
struct kept_block arena_block_at(const uint8_t *page);

/* Writes the region to a descriptor and returns false when that failed. */
bool arena_write(int fd);

/* At a start. What it will write to it gets in two calls, instead of by a fault for each page. */
void arena_open(void);

#endif
