/* Activations and their slopes, to about 1e-6. */
#include "vectors.h"

/* x within -most and most; what is no number stays so. */
static inline vec limit(vec x, float most) {
    vec all = (vec){0} + most;
#if defined __AVX512F__
    return (vec)_mm512_min_ps((__m512)all, _mm512_max_ps((__m512)-all, (__m512)x));
#elif defined __AVX2__
    return (vec)_mm256_min_ps((__m256)all, _mm256_max_ps((__m256)-all, (__m256)x));
#else
    x = choose(x < -all, -all, x);
    return choose(x > all, all, x);
#endif
}

/* 1 / x for a number of usual size. */
static inline vec inverse(vec x) {
#if defined __AVX512F__
    vec near = (vec)_mm512_rcp14_ps((__m512)x);
    return near * (2 - x * near);
#else
    return 1 / x;
#endif
}

/* e to the x: 2 to a whole number, by its bits, times 2 to the rest, by a polynomial. */
static inline vec exponential(vec x) {
    vec y = limit(x, 87) * 1.44269504f;
    vec shifted = y + 12582912.0f; /* 1.5 x 2^23: the last bits are the nearest whole number */
    vec rest = (y - (shifted - 12582912.0f)) * 0.69314718f;
    vec power = 1 + rest * (1 + rest * (0.5f + rest * (1 / 6.0f + rest * (1 / 24.0f + rest * (1 / 120.0f)))));
    return (vec)((ints)power + ((ints)shifted << 23));
}

static inline vec sigmoid(vec x) { return inverse(1 + exponential(-x)); }

/* The normal distribution's density, and its integral up to x (Abramowitz and Stegun 7.1.26, 1.5e-7). */
static inline vec density(vec x) { return 0.39894228f * exponential(-0.5f * x * x); }
static inline vec normal(vec x) {
    vec size = (vec)((ints)x & 0x7fffffff) * 0.70710678f, t = inverse(1 + 0.3275911f * size);
    vec tail = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    tail *= 0.5f * exponential(-size * size);
    return choose(x < 0, tail, 1 - tail);
}

static inline vec relu_of(vec x) { return choose(x < 0, (vec){0}, x); }
static inline vec relu_slope(vec x) { return choose(x <= 0, (vec){0}, (vec){0} + 1); }
static inline vec silu_of(vec x) { return x * sigmoid(x); }
static inline vec silu_slope(vec x) {
    vec s = sigmoid(x);
    return s * (1 + x * (1 - s));
}
static inline vec gelu_of(vec x) { return x * normal(x); }
static inline vec gelu_slope(vec x) { return normal(x) + x * density(x); }
