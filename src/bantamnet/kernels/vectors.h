/* Vectors of 16 channels: bfloat16 in memory, float in between.
 *
 * Channels are the last dimension. They are taken in blocks of 16, the last of which may lie over the one before, so there must be
 * 16 at least.
 */
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
typedef float vec __attribute__((vector_size(64)));
typedef uint32_t bits __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint16_t bf16s __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint8_t bytes __attribute__((vector_size(16), aligned(1), may_alias));
typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t bf16;

static inline vec load(const bf16 *from) { return (vec)(__builtin_convertvector(*(const bf16s *)from, bits) << 16); }

static inline void store(bf16 *to, vec values) {
#ifdef __AVX512BF16__
    *(bf16s *)to = (bf16s)_mm512_cvtneps_pbh((__m512)values);
#else /* to nearest, ties to even */
    bits all = (bits)values;
    *(bf16s *)to = __builtin_convertvector((all + 0x7fff + ((all >> 16) & 1)) >> 16, bf16s);
#endif
}

static inline vec choose(ints which, vec yes, vec no) { return (vec)((which & (ints)yes) | (~which & (ints)no)); }

static inline long block(long c, long channels) { return c > channels - LANES ? channels - LANES : c; }
