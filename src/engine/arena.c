#include "arena.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Before each block; keeps the 16 bytes of alignment that malloc() promises. */
struct block {
  size_t size; /* of what follows */
  struct block *next; /* while it is free: the free block at the next higher address */
};

#define ALIGNMENT 16

static struct block *free_blocks;
static size_t blocks_taken;

static bool is_snapshot_made(void) { return arena_root()->used > 0; }

static bool in_arena(const void *memory) {
  return (uintptr_t)memory >= (uintptr_t)arena_start && (uintptr_t)memory < (uintptr_t)arena_end;
}

static bool in_snapshot(const void *memory) {
  return in_arena(memory) && (uintptr_t)memory < (uintptr_t)arena_start + arena_root()->used;
}

static struct block *block_of(const void *memory) { return (struct block *)memory - 1; }

static uint8_t *end_of(struct block *block) { return (uint8_t *)(block + 1) + block->size; }

static size_t rounded(size_t size) { return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1); }

/* First fit: slow, and the heap stays small and the same in every build. */
static void *take(size_t wanted) {
  size_t size = rounded(wanted);
  if (size < wanted) return NULL;
  if (free_blocks == NULL && blocks_taken == 0) {
    free_blocks = (struct block *)(arena_start + rounded(is_snapshot_made() ? arena_root()->used : sizeof(struct arena_root)));
    free_blocks->size = arena_end - (uint8_t *)(free_blocks + 1);
  }
  struct block **link = &free_blocks;
  while (*link != NULL && (*link)->size < size) link = &(*link)->next;
  struct block *found = *link;
  if (found == NULL) return NULL;
  if (found->size >= size + sizeof *found + ALIGNMENT) {
    struct block *rest = (struct block *)((uint8_t *)(found + 1) + size);
    rest->size = found->size - size - sizeof *rest;
    rest->next = found->next;
    *link = rest;
    found->size = size;
  } else {
    *link = found->next;
  }
  found->next = NULL;
  blocks_taken++;
  return found + 1;
}

static void join_with_next(struct block *block) {
  struct block *next = block->next;
  if (next == NULL || end_of(block) != (uint8_t *)next) return;
  block->size += sizeof *next + next->size;
  block->next = next->next;
  memset(next, 0, sizeof *next);
}

static void give_back(void *memory) {
  struct block *block = block_of(memory), *below = NULL;
  /* What was in it must not get into the snapshot: it may be an address of this process's stack. */
  if (!is_snapshot_made()) memset(memory, 0, block->size);
  for (struct block *other = free_blocks; other != NULL && other < block; other = other->next) below = other;
  struct block **link = below ? &below->next : &free_blocks;
  block->next = *link;
  *link = block;
  join_with_next(block);
  if (below) join_with_next(below);
}

static void *arena_malloc(void *opaque, size_t size) {
  (void)opaque;
  void *memory = take(size);
  return memory == NULL && is_snapshot_made() ? malloc(size) : memory;
}

static void *arena_calloc(void *opaque, size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return NULL;
  void *memory = arena_malloc(opaque, total);
  return memory ? memset(memory, 0, total) : NULL;
}

/* What the snapshot holds stays where it is: giving it back would only write to one more of its pages. */
static void arena_free(void *opaque, void *memory) {
  (void)opaque;
  if (!in_arena(memory)) free(memory);
  else if (!is_snapshot_made() || !in_snapshot(memory)) give_back(memory);
}

static void *arena_realloc(void *opaque, void *memory, size_t size) {
  if (memory != NULL && !in_arena(memory)) return realloc(memory, size);
  size_t old_size = memory ? block_of(memory)->size : 0;
  void *moved = arena_malloc(opaque, size);
  if (moved == NULL || memory == NULL) return moved;
  memcpy(moved, memory, size < old_size ? size : old_size);
  arena_free(opaque, memory);
  return moved;
}

static size_t arena_usable_size(const void *memory) {
  if (memory == NULL) return 0;
  return in_arena(memory) ? block_of(memory)->size : malloc_usable_size((void *)memory);
}

const JSMallocFunctions arena_functions = {
    .js_calloc = arena_calloc,
    .js_malloc = arena_malloc,
    .js_free = arena_free,
    .js_realloc = arena_realloc,
    .js_malloc_usable_size = arena_usable_size,
};

size_t arena_blocks_taken(void) { return blocks_taken; }

bool arena_write(int fd) {
  struct block *last = free_blocks;
  while (last != NULL && last->next != NULL) last = last->next;
  if (last == NULL || end_of(last) != arena_end) return false; /* not one free byte at the end: it was too small */
  arena_root()->used = (uint8_t *)last - arena_start;
  const uint8_t *from = arena_start, *end = (uint8_t *)last;
  while (from < end) {
    ssize_t written = write(fd, from, end - from);
    if (written <= 0) return false;
    from += written;
  }
  return true;
}
