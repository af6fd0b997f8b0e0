/* Vectors of LANES channels: in memory bfloat16, or float where FLOAT is defined, which is a library of its own; float in between.
 *
 * Channels are the last dimension. They are taken in blocks of LANES, the last of which may lie over the one before, so there must
 * be LANES at least.
 */
#include <stdint.h>
#include <string.h>
#if defined __AVX512F__ || defined __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES 16
#else /* 16 would take more registers than there are */
#define LANES 8
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#ifdef FLOAT
typedef float stored;

static inline vec load(const stored *from) { return (vec)*(const floats *)from; }
static inline void store(stored *to, vec values) { *(floats *)to = (floats)values; }
#else
typedef uint16_t stored;

static inline vec load(const stored *from) { return (vec)(__builtin_convertvector(*(const halves *)from, bits) << 16); }

static inline void store(stored *to, vec values) {
#ifdef __AVX512BF16__
    *(halves *)to = (halves)_mm512_cvtneps_pbh((__m512)values);
#else /* to nearest, ties to even */
    bits all = (bits)values;
    *(halves *)to = __builtin_convertvector((all + 0x7fff + ((all >> 16) & 1)) >> 16, halves);
#endif
}
#endif

static inline vec choose(ints which, vec yes, vec no) { return (vec)((which & (ints)yes) | (~which & (ints)no)); }

static inline long block(long c, long channels) { return c > channels - LANES ? channels - LANES : c; }
