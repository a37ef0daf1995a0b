/*
 * The engine, and the few things of its inside that its interface does not reach and a snapshot needs.
 */
/* Instead of cutting small blocks out of larger ones itself, as it does otherwise, the engine asks arena.c for each. */
#define __SANITIZE_ADDRESS__ 1
#include "quickjs.c"

#include "quickjs-ng.h"

void engine_fix_seeds(JSContext *ctx) {
  ctx->random_state = 1;
  ctx->hash_seed = 1;
}

void engine_forget_stack(JSRuntime *rt) {
  rt->stack_top = 0;
  rt->stack_limit = 0;
}

void engine_read_tables(JSRuntime *rt) {
  for (int i = 0; i < rt->atom_size; i++)
    if (!atom_is_free(rt->atom_array[i])) (void)((volatile JSAtomStruct *)rt->atom_array[i])->hash;
  for (int i = 0; i < rt->shape_hash_size; i++)
    for (JSShape *shape = rt->shape_hash[i]; shape != NULL; shape = shape->shape_hash_next)
      (void)((volatile JSShape *)shape)->hash;
}

void engine_seed_random(JSContext *ctx, uint64_t seed) {
  ctx->random_state = seed ? seed : 1; /* of 0 its generator makes nothing but 0 */
}
