/* SiLU and GELU of bfloat16 numbers and their gradients, in float to about 1e-6. */
#include "vectors.h"

static inline vec limit(vec x, float least, float most) {
    x = choose(x < least, (vec){0} + least, x);
    return choose(x > most, (vec){0} + most, x);
}

/* e to the x: 2 to a whole number, by its bits, times 2 to the rest, by a polynomial. */
static inline vec exponential(vec x) {
    vec y = limit(x, -87, 87) * 1.44269504f;
    vec shifted = y + 12582912.0f; /* 1.5 x 2^23: the last bits are the nearest whole number */
    vec rest = (y - (shifted - 12582912.0f)) * 0.69314718f;
    vec power = 1 + rest * (1 + rest * (0.5f + rest * (1 / 6.0f + rest * (1 / 24.0f + rest * (1 / 120.0f)))));
    return (vec)((ints)power + ((ints)shifted << 23));
}

static inline vec sigmoid(vec x) { return 1 / (1 + exponential(-x)); }

/* The normal distribution's density, and its integral up to x (Abramowitz and Stegun 7.1.26, 1.5e-7). */
static inline vec density(vec x) { return 0.39894228f * exponential(-0.5f * x * x); }
static inline vec normal(vec x) {
    vec size = (vec)((ints)x & 0x7fffffff) * 0.70710678f, t = 1 / (1 + 0.3275911f * size);
    vec tail = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    tail *= 0.5f * exponential(-size * size);
    return choose(x < 0, tail, 1 - tail);
}

static inline vec silu_of(vec x) { return x * sigmoid(x); }
static inline vec silu_slope(vec x) {
    vec s = sigmoid(x);
    return s * (1 + x * (1 - s));
}
static inline vec gelu_of(vec x) { return x * normal(x); }
static inline vec gelu_slope(vec x) { return normal(x) + x * density(x); }

/* `num` is 16 at least; the last 16 may lie over those before. */
#define KERNELS(name)                                                                                              \
    void name(const bf16 *x, bf16 *y, long num) {                                                                  \
        _Pragma("omp parallel for") for (long start = 0; start < num; start += LANES) {                            \
            long i = block(start, num);                                                                            \
            store(y + i, name##_of(load(x + i)));                                                                  \
        }                                                                                                          \
    }                                                                                                              \
    void name##_grad(const bf16 *x, const bf16 *g, bf16 *to, long num) {                                           \
        _Pragma("omp parallel for") for (long start = 0; start < num; start += LANES) {                            \
            long i = block(start, num);                                                                            \
            store(to + i, load(g + i) * name##_slope(load(x + i)));                                                \
        }                                                                                                          \
    }

KERNELS(silu)
KERNELS(gelu)
