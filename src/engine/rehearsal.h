#ifndef REHEARSAL_H
#define REHEARSAL_H

#include <stdbool.h>

/* Notes which blocks are in the spread region, and from now on which of them are written to. */
bool rehearsal_watch(void);

/* Writes what it has noted (struct kept_block) to a descriptor, in the order of their numbers. */
bool rehearsal_write(int fd);

#endif
