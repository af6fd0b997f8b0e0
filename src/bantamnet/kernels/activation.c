/* SiLU and GELU and their gradients. */
#include "activation.h"

/* `num` is LANES at least; the last LANES may lie over those before. */
#define KERNELS(name)                                                                                              \
    void name(const stored *x, stored *y, long num) {                                                                  \
        _Pragma("omp parallel for") for (long start = 0; start < num; start += LANES) {                            \
            long i = block(start, num);                                                                            \
            store(y + i, name##_of(load(x + i)));                                                                  \
        }                                                                                                          \
    }                                                                                                              \
    void name##_grad(const stored *x, const stored *g, stored *to, long num) {                                           \
        _Pragma("omp parallel for") for (long start = 0; start < num; start += LANES) {                            \
            long i = block(start, num);                                                                            \
            store(to + i, load(g + i) * name##_slope(load(x + i)));                                                \
        }                                                                                                          \
    }

KERNELS(silu)
KERNELS(gelu)
