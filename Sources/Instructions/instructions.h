// Instructions that Swift cannot say: the compiler drops its own prefetch intrinsic, and has none for a pause.

#ifndef BATCHLOSS_INSTRUCTIONS_H
#define BATCHLOSS_INSTRUCTIONS_H

/// Asks for a cache line that will be read soon, into the second-level cache: the first level waits for few lines at a
/// time, and has nearer ones to wait for. Any address will do; nothing is read.
static inline __attribute__((always_inline)) void batchloss_prefetch(const void *address) {
  __builtin_prefetch(address, 0, 2);
}

/// Asks for a cache line into the first level, and for the translation of its address. Some processors drop a request into
/// the second level where that is missing.
static inline __attribute__((always_inline)) void batchloss_prefetch_nearest(const void *address) {
  __builtin_prefetch(address, 0, 3);
}

/// Tells the processor that this thread waits for another one in a loop.
static inline __attribute__((always_inline)) void batchloss_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

#endif
