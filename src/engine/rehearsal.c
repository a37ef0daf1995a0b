/*
 * Which blocks of the heap a start reads, and which it writes to: each has its own pages (arena.h), nobody may touch any of
 * them, and the first touch of each is a signal, as is the first write after it.
 */
#define _GNU_SOURCE
#include "rehearsal.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"

static struct {
  uint8_t *page;
  struct kept_block block;
} *kept; /* by their pages */
static size_t kept_count;

static uint8_t *touched; /* by page: whether it may be read by now */

/* The last one that starts at a page or before it; NULL if none does. */
static struct kept_block *kept_at(const uint8_t *page) {
  size_t low = 0, high = kept_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (kept[middle].page <= page) low = middle + 1;
    else high = middle;
  }
  return low > 0 ? &kept[low - 1].block : NULL;
}

static void on_touch(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  uint8_t *page = (uint8_t *)((uintptr_t)info->si_addr & -(uintptr_t)ARENA_PAGE);
  if (page < arena_start || page >= arena_end_of_pages()) _exit(1);
  uint8_t *is_read = &touched[(page - arena_start) / ARENA_PAGE];
  if (mprotect(page, ARENA_PAGE, *is_read ? PROT_READ | PROT_WRITE : PROT_READ)) _exit(1);
  struct kept_block *block = kept_at(page);
  if (block != NULL) {
    block->is_read = 1;
    /* A large one is not copied by every start because of the page that is written to. */
    if (*is_read && block->size < ARENA_PAGE) block->is_hot = 1;
  }
  *is_read = 1;
}

bool rehearsal_watch(void) {
  size_t pages = (arena_end_of_pages() - arena_first_page()) / ARENA_PAGE;
  kept = calloc(pages, sizeof *kept);
  touched = calloc(pages + 1, 1);
  if (kept == NULL || touched == NULL) return false;
  for (uint8_t *page = arena_first_page(); page < arena_end_of_pages(); page = arena_next_page(page)) {
    struct kept_block block = arena_block_at(page);
    if (block.number == 0) continue;
    kept[kept_count].page = page;
    kept[kept_count++].block = block;
  }
  struct sigaction action = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO};
  return !sigaction(SIGSEGV, &action, NULL) && !mprotect(arena_start, arena_end_of_pages() - arena_start, PROT_NONE);
}

static int by_number(const void *a, const void *b) {
  uint32_t first = ((const struct kept_block *)a)->number, second = ((const struct kept_block *)b)->number;
  return (first > second) - (first < second);
}

bool rehearsal_write(int fd) {
  struct kept_block *blocks = calloc(kept_count, sizeof *blocks);
  if (blocks == NULL) return false;
  for (size_t i = 0; i < kept_count; i++) blocks[i] = kept[i].block;
  qsort(blocks, kept_count, sizeof *blocks, by_number);
  const uint8_t *from = (const uint8_t *)blocks, *end = (const uint8_t *)(blocks + kept_count);
  while (from < end) {
    ssize_t written = write(fd, from, end - from);
    if (written <= 0) return false;
    from += written;
  }
  return true;
}
