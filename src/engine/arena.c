#define _GNU_SOURCE
#include "arena.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Before each block. What follows is at a multiple of 8, which is all that the engine asks for. */
struct block {
  uint32_t size; /* of what follows */
  uint32_t number;
};

struct free_block {
  struct block block;
  struct free_block *next;
};

enum {
  ALIGNMENT = 8,
  MAX_SMALL = 512,
};

/* Small ones by their size, the last one first; and all others by their address. */
static struct free_block *small_free[MAX_SMALL / ALIGNMENT + 1], *large_free;
static uint32_t blocks_taken;

static const struct kept_block *kept_next, *kept_end;
static uint8_t *hot_top, *read_top, *cold_top;

static bool is_spread;
static uint8_t *spread_top;
static struct free_block *free_pages;

static bool is_snapshot_made(void) { return arena_root()->used > 0; }

static bool in_arena(const void *memory) {
  return (uintptr_t)memory >= (uintptr_t)arena_start && (uintptr_t)memory < (uintptr_t)arena_end;
}

/* Of what is in the arena. */
static bool in_snapshot(const void *memory) {
  return (uintptr_t)memory < (uintptr_t)arena_start + arena_root()->used;
}

static struct block *block_of(const void *memory) { return (struct block *)memory - 1; }

static uint8_t *end_of(struct free_block *free) { return (uint8_t *)(&free->block + 1) + free->block.size; }

static size_t rounded(size_t size, size_t unit) { return (size + unit - 1) & ~(unit - 1); }

static void free_from(size_t offset) {
  large_free = (struct free_block *)(arena_start + rounded(offset, ALIGNMENT));
  large_free->block.size = arena_end - (uint8_t *)(&large_free->block + 1);
}

/* Blocks that are kept: in the first half of the region. All others are in the second, which is not written to the file. */

static uint8_t *second_half(void) { return arena_start + (arena_end - arena_start) / 2; }

void arena_gather(const struct kept_block *blocks, size_t count) {
  kept_next = blocks;
  kept_end = blocks + count;
  hot_top = arena_start + rounded(sizeof(struct arena_root), ALIGNMENT);
  size_t hot = hot_top - arena_start, read = 0;
  for (size_t i = 0; i < count; i++) {
    size_t size = sizeof(struct block) + blocks[i].size;
    if (blocks[i].is_hot) hot += size;
    else if (blocks[i].is_read) read += size;
  }
  arena_root()->hot = rounded(hot, ARENA_PAGE);
  arena_root()->read = arena_root()->hot + read;
  read_top = arena_start + arena_root()->hot;
  cold_top = arena_start + arena_root()->read;
  free_from(second_half() - arena_start);
}

static struct block *take_kept(size_t size) {
  if (kept_next->size != size) abort(); /* the rehearsal was another heap's */
  uint8_t **top = kept_next->is_hot ? &hot_top : kept_next->is_read ? &read_top : &cold_top;
  struct block *block = (struct block *)*top;
  *top += sizeof *block + size;
  kept_next++;
  return cold_top <= second_half() ? block : NULL;
}

/* Pages for each block */

void arena_spread(void) {
  is_spread = true;
  spread_top = arena_first_page();
}

static size_t pages_of(size_t size) { return rounded(sizeof(struct block) + size, ARENA_PAGE); }

static struct block *take_pages(size_t size) {
  struct free_block *free = free_pages;
  size_t pages = pages_of(size);
  if (pages == ARENA_PAGE && free != NULL) {
    free_pages = free->next;
    return &free->block;
  }
  if ((size_t)(arena_end - spread_top) < pages) return NULL;
  struct block *block = (struct block *)spread_top;
  spread_top += pages;
  return block;
}

static void give_back_pages(struct free_block *free) {
  free->block.number = 0;
  if (pages_of(free->block.size) > ARENA_PAGE) return;
  free->next = free_pages;
  free_pages = free;
}

uint8_t *arena_first_page(void) { return arena_start + ARENA_PAGE; }

uint8_t *arena_next_page(const uint8_t *page) {
  return (uint8_t *)page + pages_of(((const struct block *)page)->size);
}

uint8_t *arena_end_of_pages(void) { return spread_top; }

struct kept_block arena_block_at(const uint8_t *page) {
  const struct block *block = (const struct block *)page;
  return (struct kept_block){.number = block->number, .size = block->size};
}

/* The heap */

/* First fit: slow, and the heap stays small and the same in every build. What is taken has exactly the size that was asked
 * for: the engine asks how large a block became, and is to do the same wherever it lies. */
static struct block *take_first(size_t size) {
  struct free_block **link = &large_free, *found;
  while ((found = *link) != NULL && found->block.size != size && found->block.size < size + sizeof *found)
    link = &found->next;
  if (found == NULL) return NULL;
  *link = found->next;
  if (found->block.size > size) {
    struct free_block *rest = (struct free_block *)((uint8_t *)(&found->block + 1) + size);
    rest->block.size = found->block.size - size - sizeof rest->block;
    rest->next = found->next;
    *link = rest;
  }
  return &found->block;
}

static struct block *take_small(size_t size) {
  struct free_block **link = &small_free[size / ALIGNMENT], *found = *link;
  if (found == NULL) return take_first(size);
  *link = found->next;
  return &found->block;
}

static struct block *take_in_the_making(size_t size) {
  if (is_spread) return take_pages(size);
  if (kept_next != kept_end && kept_next->number == blocks_taken) return take_kept(size);
  return size <= MAX_SMALL ? take_small(size) : take_first(size);
}

static void *take(size_t wanted) {
  size_t size = rounded(wanted, ALIGNMENT);
  if (size < wanted || size > INT32_MAX) return NULL;
  blocks_taken++;
  struct block *block = !is_snapshot_made() ? take_in_the_making(size) : take_first(size);
  if (block == NULL) return NULL;
  *block = (struct block){size, blocks_taken};
  return block + 1;
}

static void join_with_next(struct free_block *free) {
  struct free_block *next = free->next;
  if (next == NULL || end_of(free) != (uint8_t *)next) return;
  free->block.size += sizeof next->block + next->block.size;
  free->next = next->next;
  memset(next, 0, sizeof *next);
}

static void give_back_large(struct free_block *free) {
  struct free_block *below = NULL;
  for (struct free_block *other = large_free; other != NULL && other < free; other = other->next) below = other;
  struct free_block **link = below ? &below->next : &large_free;
  free->next = *link;
  *link = free;
  join_with_next(free);
  if (below) join_with_next(below);
}

static void give_back(struct free_block *free) {
  size_t size = free->block.size;
  if (size > MAX_SMALL) return give_back_large(free);
  free->next = small_free[size / ALIGNMENT];
  small_free[size / ALIGNMENT] = free;
}

static void give_back_in_the_making(struct free_block *free) {
  /* What was in it must not get into the snapshot: it may be an address of this process's stack. */
  memset(&free->block + 1, 0, free->block.size);
  if (is_spread) return give_back_pages(free);
  if ((uint8_t *)free < second_half()) abort(); /* the rehearsal kept it */
  give_back(free);
}

static void *arena_malloc(void *opaque, size_t size) {
  (void)opaque;
  /* In a start most are of a size that has been given back before. */
  if (size <= MAX_SMALL && is_snapshot_made()) {
    struct free_block **link = &small_free[rounded(size, ALIGNMENT) / ALIGNMENT], *found = *link;
    if (found != NULL) {
      *link = found->next;
      return &found->block + 1;
    }
  }
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
  else if (!is_snapshot_made()) give_back_in_the_making((struct free_block *)block_of(memory));
  else if (!in_snapshot(memory)) give_back((struct free_block *)block_of(memory));
}

static void *arena_realloc(void *opaque, void *memory, size_t size) {
  if (memory != NULL && !in_arena(memory)) return realloc(memory, size);
  size_t old_size = memory ? block_of(memory)->size : 0;
  if (memory != NULL && rounded(size, ALIGNMENT) == old_size) return memory;
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

/* The snapshot */

bool arena_write(int fd) {
  if (kept_next != kept_end) return false;
  /* To the end of a page: the kernel would else read the last one at every start, to clear what follows. */
  arena_root()->used = rounded(cold_top - arena_start, ARENA_PAGE);
  const uint8_t *from = arena_start, *end = arena_start + arena_root()->used;
  while (from < end) {
    ssize_t written = write(fd, from, end - from);
    if (written <= 0) return false;
    from += written;
  }
  return true;
}

/* Of the spare memory: what a start with a short answer needs. */
static const size_t always_needed = 24 * ARENA_PAGE;

void arena_open(void) {
  const struct arena_root *root = arena_root();
  uint8_t *spare = arena_start + root->used;
  madvise(arena_start, root->hot, MADV_POPULATE_WRITE);
  madvise(spare, always_needed, MADV_POPULATE_WRITE);
  /* A child by fork() has no use for it, and its pages would be copied at the next write to each. */
  madvise(arena_start, arena_end - arena_start, MADV_DONTFORK);
  free_from(root->used);
}
