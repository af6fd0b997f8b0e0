/* BatchNorm with the activation after it, over maps [pixels][channels].
 *
 * y = act(scale x + shift), where a channel's scale and shift come from its mean and variance, which Python derives from sums; so are
 * the gradients. `lines` are floats [..][channels]: scale, shift and mean, then what a gradient is made of. What is summed goes to `to`,
 * float [parts][2][channels], a part being so many `rows`, pixels. The channels of the last block may be those before once more.
 */
#include "activation.h"

static inline vec line(const float *lines, long which, long channels, long c) {
    return (vec)*(const floats *)(lines + which * channels + c);
}

#define LINE(which) line(lines, which, channels, c)
#define SCALE LINE(0)
#define SHIFT LINE(1)
#define MEAN LINE(2)
#define OF_X LINE(3)
#define CONSTANT LINE(4)

/* For each LANES values, from i on, whose channels begin with c. */
#define EVERYWHERE(...)                                                   \
    _Pragma("omp parallel for") for (long p = 0; p < pixels; p++)         \
        for (long begin = 0; begin < channels; begin += LANES) {          \
            long c = block(begin, channels), i = p * channels + c;        \
            __VA_ARGS__                                                   \
        }

/* The sums over pixels of `first` and of `second`, which `...` computes. */
#define SUMS(...)                                                                                             \
    long blocks = (channels + LANES - 1) / LANES;                                                             \
    _Pragma("omp parallel for") for (long part = 0; part < (pixels + rows - 1) / rows; part++) {              \
        vec sums[2 * blocks];                                                                                 \
        memset(sums, 0, sizeof sums);                                                                         \
        for (long p = part * rows; p < pixels && p < (part + 1) * rows; p++)                                  \
            for (long k = 0; k < blocks; k++) {                                                               \
                long c = block(k * LANES, channels), i = p * channels + c;                                    \
                __VA_ARGS__                                                                                   \
                sums[2 * k] += first, sums[2 * k + 1] += second;                                              \
            }                                                                                                 \
        for (long k = 0; k < 2 * blocks; k++)                                                                 \
            *(floats *)(to + (2 * part + k % 2) * channels + block(k / 2 * LANES, channels)) = (floats)sums[k]; \
    }

/* Sums of how far values are from those of the first pixel, and of the squares of that. */
void norm_sums(const stored *x, float *to, long pixels, long channels, long rows) {
    SUMS(vec first = load(x + i) - load(x + c), second = first * first;)
}

/* The gradient of what the activation takes is `first`. x's is scale first + of_x (x - mean) + constant. */
#define KERNELS(act)                                                                                                       \
    void norm_##act(const stored *x, const float *lines, stored *y, long pixels, long channels) {                              \
        EVERYWHERE(store(y + i, act##_of(SCALE * load(x + i) + SHIFT));)                                                   \
    }                                                                                                                      \
    void norm_##act##_sums(const stored *x, const stored *g, const float *lines, float *to, long pixels, long channels, long rows) { \
        SUMS(vec in = load(x + i), first = load(g + i) * act##_slope(SCALE * in + SHIFT), second = first * (in - MEAN);)   \
    }                                                                                                                      \
    void norm_##act##_grad(const stored *x, const stored *g, const float *lines, stored *to, long pixels, long channels) {       \
        EVERYWHERE(vec in = load(x + i), first = load(g + i) * act##_slope(SCALE * in + SHIFT);                            \
                   store(to + i, SCALE * first + OF_X * (in - MEAN) + CONSTANT);)                                          \
    }

KERNELS(relu)
KERNELS(silu)
KERNELS(gelu)

/* ReLU of the sum with other maps, whose gradient goes to `of_added`; y tells where it let through. */
void norm_add_relu(const stored *x, const stored *added, const float *lines, stored *y, long pixels, long channels) {
    EVERYWHERE(store(y + i, relu_of(SCALE * load(x + i) + SHIFT + load(added + i)));)
}
void norm_add_relu_sums(const stored *x, const stored *y, const stored *g, const float *lines, stored *of_added, float *to, long pixels,
                        long channels, long rows) {
    SUMS(vec first = load(g + i) * relu_slope(load(y + i)), second = first * (load(x + i) - MEAN); store(of_added + i, first);)
}
void norm_add_relu_grad(const stored *x, const stored *of_added, const float *lines, stored *to, long pixels, long channels) {
    EVERYWHERE(store(to + i, SCALE * load(of_added + i) + OF_X * (load(x + i) - MEAN) + CONSTANT);)
}
