/* SiLU and GELU of bfloat16 numbers and their gradients. */
#include "activation.h"

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
