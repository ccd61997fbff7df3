// The one instruction that kernels need and Swift cannot say: the compiler drops its own prefetch intrinsic.

#ifndef BATCHLOSS_PREFETCH_H
#define BATCHLOSS_PREFETCH_H

/// Asks for a cache line that will be read soon. Any address will do; nothing is read.
static inline __attribute__((always_inline)) void batchloss_prefetch(const void *address) {
  __builtin_prefetch(address, 0, 3);
}

#endif
