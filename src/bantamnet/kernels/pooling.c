/* Max-pooling of 2 x 2 pixels, stride 2; an odd last row or column is left out. Maps are [n][h][w][channels]. */
#include "vectors.h"

/* The four values of a window and the largest of them, which is a NaN where one of them is. */
static inline vec window(const stored *x, long row, long channels, vec *values) {
    for (int i = 0; i < 4; i++) values[i] = load(x + i / 2 * row + i % 2 * channels);
    vec most = values[0];
    for (int i = 1; i < 4; i++) most = choose((values[i] > most) | (values[i] != values[i]), values[i], most);
    return most;
}

/* x to y, half as high and wide. */
void pool(const stored *x, stored *y, long n, long h, long w, long channels) {
    long rows = h / 2, cols = w / 2;
#pragma omp parallel for
    for (long r = 0; r < n * rows; r++)
        for (long s = 0; s < cols; s++)
            for (long c = 0; c < channels; c += LANES) {
                c = block(c, channels);
                vec values[4];
                const stored *from = x + ((r / rows * h + r % rows * 2) * w + 2 * s) * channels + c;
                store(y + (r * cols + s) * channels + c, window(from, w * channels, channels, values));
            }
}

/* Gradients g of y to those of x: each to the first of the pixels that have the largest value, zero to all others. */
void pool_grad(const stored *x, const stored *g, stored *to, long n, long h, long w, long channels) {
    long rows = h / 2, cols = w / 2;
#pragma omp parallel for
    for (long r = 0; r < n * rows; r++) {
        long first = (r / rows * h + r % rows * 2) * w * channels;
        for (long s = 0; s < cols; s++)
            for (long c = 0; c < channels; c += LANES) {
                c = block(c, channels);
                vec values[4], most = window(x + first + 2 * s * channels + c, w * channels, channels, values);
                ints grad = (ints)load(g + (r * cols + s) * channels + c), open = ~(ints){0};
                for (int i = 0; i < 4; i++) {
                    ints here = (values[i] == most) & open;
                    open &= ~here;
                    store(to + first + (i / 2 * w + 2 * s + i % 2) * channels + c, (vec)(grad & here));
                }
            }
        for (int i = 0; i < 2 && w % 2; i++) memset(to + first + (i * w + w - 1) * channels, 0, channels * sizeof *to);
        if (h % 2 && r % rows == rows - 1) memset(to + first + 2 * w * channels, 0, w * channels * sizeof *to);
    }
}
