#ifndef QUICKJS_NG_H
#define QUICKJS_NG_H

#include <stdint.h>

#include <quickjs.h>

/* Of a new context: instead of seeds made of the time of day, the same in every build. */
void engine_fix_seeds(JSContext *ctx);

/* Takes the address of this process's stack out of the heap. */
void engine_forget_stack(JSRuntime *rt);

/* Reads all that a name may be compared with when it is looked for: every atom, and every shape in the table. */
void engine_read_tables(JSRuntime *rt);

/* The seed of Math.random(). */
void engine_seed_random(JSContext *ctx, uint64_t seed);

#endif
