/* Everything of Winograd's convolution but its matrix products: F(4 x 4, 3 x 3), "same" padding, stride 1.
 *
 * A tile of 6 x 6 pixels, two of which it shares with each neighbour, gives 4 x 4 pixels of output: 36 multiplications a pair of
 * channels, where nine a pixel are 144. With d the tile, w the filter, all of it a channel each and (.) elementwise,
 *
 *     y = AT [(G w GT) (.) (BT d B)] A,     the sum over input channels being 36 matrix products.
 *
 * The points at which the polynomials are taken are 0, +-5/8, +-3/2 and infinity: they lose the least to rounding (winograd.py).
 *
 * Maps are [n][h][w][channels]; tiles are [36][plane / channels][channels], image after image and row after
 * row, where `plane` may leave room behind the last one; filters are [out][9][in], in 36 points [36][out][in]. Sums are float.
 */
#include "vectors.h"

#define AHEAD 128 /* values before their turn, that tiles are fetched into the cache */

static const float a = 0.625f, b = 1.5f;
#define A2 (a * a)
#define B2 (b * b)

/* The matrices along one dimension; s is the stride of both arrays. */
/* BT d, 6 values to 6 */
static inline void bt(const vec *d, vec *o, int s) {
    vec e1 = d[4 * s] - B2 * d[2 * s], o1 = a * (d[3 * s] - B2 * d[s]), e2 = d[4 * s] - A2 * d[2 * s], o2 = b * (d[3 * s] - A2 * d[s]);
    o[0] = A2 * B2 * d[0] - (A2 + B2) * d[2 * s] + d[4 * s];
    o[s] = e1 + o1, o[2 * s] = e1 - o1, o[3 * s] = e2 + o2, o[4 * s] = e2 - o2;
    o[5 * s] = A2 * B2 * d[s] - (A2 + B2) * d[3 * s] + d[5 * s];
}

/* AT m, 6 to 4 */
static inline void at(const vec *m, vec *o, int s) {
    vec s1 = m[s] + m[2 * s], d1 = m[s] - m[2 * s], s2 = m[3 * s] + m[4 * s], d2 = m[3 * s] - m[4 * s];
    o[0] = m[0] + s1 + s2, o[s] = a * d1 + b * d2, o[2 * s] = A2 * s1 + B2 * s2, o[3 * s] = A2 * a * d1 + B2 * b * d2 + m[5 * s];
}

/* A g, 4 to 6 */
static inline void a_(const vec *g, vec *o, int s) {
    vec e1 = g[0] + A2 * g[2 * s], o1 = a * g[s] + A2 * a * g[3 * s], e2 = g[0] + B2 * g[2 * s], o2 = b * g[s] + B2 * b * g[3 * s];
    o[0] = g[0], o[5 * s] = g[3 * s];
    o[s] = e1 + o1, o[2 * s] = e1 - o1, o[3 * s] = e2 + o2, o[4 * s] = e2 - o2;
}

/* B v, 6 to 6 */
static inline void b_(const vec *v, vec *o, int s) {
    vec s1 = v[s] + v[2 * s], d1 = a * (v[s] - v[2 * s]), s2 = v[3 * s] + v[4 * s], d2 = b * (v[3 * s] - v[4 * s]);
    vec v0 = v[0], v5 = v[5 * s];
    o[0] = A2 * B2 * v0, o[5 * s] = v5;
    o[s] = A2 * B2 * v5 - B2 * d1 - A2 * d2, o[2 * s] = -(A2 + B2) * v0 - B2 * s1 - A2 * s2;
    o[3 * s] = d1 + d2 - (A2 + B2) * v5, o[4 * s] = v0 + s1 + s2;
}

/* G w, 3 to 6 */
static inline void g_(const vec *w, vec *o, int s) {
    vec e1 = (w[0] + A2 * w[2 * s]) * (1 / (2 * A2 * (A2 - B2))), o1 = w[s] * (a / (2 * A2 * (A2 - B2)));
    vec e2 = (w[0] + B2 * w[2 * s]) * (1 / (2 * B2 * (B2 - A2))), o2 = w[s] * (b / (2 * B2 * (B2 - A2)));
    o[0] = w[0] * (1 / (A2 * B2)), o[5 * s] = w[2 * s];
    o[s] = e1 + o1, o[2 * s] = e1 - o1, o[3 * s] = e2 + o2, o[4 * s] = e2 - o2;
}

/* GT u, 6 to 3 */
static inline void gt(const vec *u, vec *o, int s) {
    vec s1 = (u[s] + u[2 * s]) * (1 / (2 * A2 * (A2 - B2))), d1 = (u[s] - u[2 * s]) * (a / (2 * A2 * (A2 - B2)));
    vec s2 = (u[3 * s] + u[4 * s]) * (1 / (2 * B2 * (B2 - A2))), d2 = (u[3 * s] - u[4 * s]) * (b / (2 * B2 * (B2 - A2)));
    o[0] = u[0] * (1 / (A2 * B2)) + s1 + s2, o[s] = d1 + d2, o[2 * s] = A2 * s1 + B2 * s2 + u[5 * s];
}

/* Filters w, float, to the 36 points: G w GT. */
void filters_in(const float *w, stored *u, long out, long in) {
    long plane = out * in;
#pragma omp parallel for
    for (long k = 0; k < out; k++)
        for (long c = 0; c < in; c += LANES) {
            c = block(c, in);
            vec d[18], t[36];
            for (int i = 0; i < 3; i++) {
                vec row[3];
                for (int j = 0; j < 3; j++) row[j] = (vec)*(const floats *)(w + (k * 9 + 3 * i + j) * in + c);
                g_(row, d + 6 * i, 1);
            }
            for (int j = 0; j < 6; j++) g_(d + j, t + j, 6);
            for (int i = 0; i < 36; i++) store(u + i * plane + k * in + c, t[i]);
        }
}

/* Gradients of the filters, float, from those in the 36 points: GT u G. */
void filters_out(float *w, const stored *u, long out, long in) {
    long plane = out * in;
#pragma omp parallel for
    for (long k = 0; k < out; k++)
        for (long c = 0; c < in; c += LANES) {
            c = block(c, in);
            vec d[36], t[18];
            for (int i = 0; i < 36; i++) d[i] = load(u + i * plane + k * in + c);
            for (int j = 0; j < 6; j++) gt(d + j, t + j, 6);
            for (int i = 0; i < 3; i++) {
                vec row[6];
                gt(t + 6 * i, row, 1);
                for (int j = 0; j < 3; j++) *(floats *)(w + (k * 9 + 3 * i + j) * in + c) = (floats)row[j];
            }
        }
}

/* Zeros in the room behind the last tile, which is part of sums over tiles. */
static inline void clear(stored *tiles, long used, long plane) {
    for (int i = 0; i < 36 && used < plane; i++) memset(tiles + i * plane + used, 0, (plane - used) * sizeof *tiles);
}

/* Maps x to tiles: BT d B. */
void tiles_in(const stored *x, stored *v, long n, long h, long w, long channels, long plane) {
    long rows = (h + 3) / 4, cols = (w + 3) / 4;
#pragma omp parallel for
    for (long r = 0; r < n * rows; r++)
        for (long s = 0; s < cols; s++) {
            long y0 = r % rows * 4 - 1, x0 = s * 4 - 1;
            const stored *image = x + (r / rows) * h * w * channels;
            stored *out = v + (r * cols + s) * channels;
            for (long c = 0; c < channels; c += LANES) {
                c = block(c, channels);
                vec d[36], t[36];
                const stored *from = image + (y0 * w + x0) * channels + c;
                if (y0 >= 0 && x0 >= 0 && y0 + 6 <= h && x0 + 6 <= w)
                    for (int i = 0; i < 6; i++)
                        for (int j = 0; j < 6; j++) d[6 * i + j] = load(from + i * w * channels + j * channels);
                else
                    for (int i = 0; i < 6; i++)
                        for (int j = 0; j < 6; j++) {
                            int in = y0 + i >= 0 && y0 + i < h && x0 + j >= 0 && x0 + j < w;
                            d[6 * i + j] = in ? load(from + i * w * channels + j * channels) : (vec){0};
                        }
                for (int i = 0; i < 6; i++) bt(d + 6 * i, t + 6 * i, 1);
                for (int j = 0; j < 6; j++) bt(t + j, d + j, 6);
                for (int i = 0; i < 36; i++) store(out + i * plane + c, d[i]), __builtin_prefetch(out + i * plane + c + AHEAD, 1);
            }
        }
    clear(v, n * rows * cols * channels, plane);
}

/* For each tile, s of row r, and 16 of its channels, c the first; its output, `side` pixels high and wide, begins at y0, x0. */
#define EVERY_TILE(side)                                                               \
    long rows = (h + 3) / 4, cols = (w + 3) / 4;                                       \
    _Pragma("omp parallel for") for (long r = 0; r < n * rows; r++)                    \
        for (long s = 0, y0 = r % rows * side, x0 = 0; s < cols; s++, x0 += side)      \
            for (long c = 0; c < channels && (c = block(c, channels), 1); c += LANES)

/* AT m A of a tile, 16 channels: 4 x 4 values. */
static inline void output(const stored *m, long plane, vec *o) {
    vec d[36], t[24];
    for (int i = 0; i < 36; i++) d[i] = load(m + i * plane), __builtin_prefetch(m + i * plane + AHEAD);
    for (int j = 0; j < 6; j++) at(d + j, t + j, 6);
    for (int i = 0; i < 4; i++) {
        vec row[6];
        at(t + 6 * i, row, 1);
        for (int j = 0; j < 4; j++) o[4 * i + j] = row[j];
    }
}

/* A g AT of a tile, 16 channels, of 4 x 4 values. */
static inline void expand(const vec *g, stored *m, long plane) {
    vec d[24], t[36];
    for (int i = 0; i < 4; i++) a_(g + 4 * i, d + 6 * i, 1);
    for (int j = 0; j < 6; j++) a_(d + j, t + j, 6);
    for (int i = 0; i < 36; i++) store(m + i * plane, t[i]), __builtin_prefetch(m + i * plane + AHEAD, 1);
}

/* Tiles to maps y: AT m A. */
void tiles_out(stored *y, const stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(4) {
        stored *to = y + ((r / rows * h + y0) * w + x0) * channels;
        vec o[16];
        output(m + (r * cols + s) * channels + c, plane, o);
        for (int i = 0; i < 4 && y0 + i < h; i++)
            for (int j = 0; j < 4 && x0 + j < w; j++) store(to + (i * w + j) * channels + c, o[4 * i + j]);
    }
}

/* The same, of which y holds the largest of each 2 x 2 pixels, and `which` the first of the four that is it; a NaN is largest. */
void tiles_out_pooled(stored *y, uint8_t *which, const stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(2) {
        vec o[16];
        output(m + (r * cols + s) * channels + c, plane, o);
        for (int i = 0; i < 2 && y0 + i < h / 2; i++)
            for (int j = 0; j < 2 && x0 + j < w / 2; j++) {
                const vec *four = o + 8 * i + 2 * j;
                vec most = four[0];
                ints place = {0};
                for (int k = 1; k < 4; k++) {
                    vec other = four[k / 2 * 4 + k % 2];
                    ints larger = (other > most) | (other != other);
                    most = choose(larger, other, most);
                    place = (larger & k) | (~larger & place);
                }
                long at = ((r / rows * (h / 2) + y0 + i) * (w / 2) + x0 + j) * channels + c;
                store(y + at, most);
                *(bytes *)(which + at) = __builtin_convertvector(place, bytes);
            }
    }
}

/* Gradients of maps y to tiles: A g AT. */
void grads_in(const stored *g, stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(4) {
        const stored *from = g + ((r / rows * h + y0) * w + x0) * channels;
        vec d[16] = {{0}};
        for (int i = 0; i < 4 && y0 + i < h; i++)
            for (int j = 0; j < 4 && x0 + j < w; j++) d[4 * i + j] = load(from + (i * w + j) * channels + c);
        expand(d, m + (r * cols + s) * channels + c, plane);
    }
    clear(m, n * rows * cols * channels, plane);
}

/* The same from gradients of pooled maps, each of which goes to the pixel that `which` says. */
void grads_in_pooled(const stored *g, const uint8_t *which, stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(2) {
        vec d[16] = {{0}};
        for (int i = 0; i < 2 && y0 + i < h / 2; i++)
            for (int j = 0; j < 2 && x0 + j < w / 2; j++) {
                long at = ((r / rows * (h / 2) + y0 + i) * (w / 2) + x0 + j) * channels + c;
                ints grad = (ints)load(g + at), place = __builtin_convertvector(*(const bytes *)(which + at), ints);
                for (int k = 0; k < 4; k++) d[8 * i + 2 * j + k / 2 * 4 + k % 2] = (vec)(grad & (place == k));
            }
        expand(d, m + (r * cols + s) * channels + c, plane);
    }
    clear(m, n * rows * cols * channels, plane);
}

/* Gradients in tiles to those of maps x: B v BT, tiles added where they share pixels. */
void grads_out(stored *x, const stored *v, long n, long h, long w, long channels, long plane) {
    long rows = (h + 3) / 4, cols = (w + 3) / 4, width = 4 * cols + 2;
#pragma omp parallel for
    for (long k = 0; k < n; k++)
        for (long c = 0; c < channels; c += LANES) {
            c = block(c, channels);
            vec sums[6 * width];
            memset(sums, 0, sizeof sums);
            for (long r = 0; r < rows; r++) {
                for (long s = 0; s < cols; s++) {
                    const stored *in = v + ((k * rows + r) * cols + s) * channels + c;
                    vec d[36], t[36];
                    for (int i = 0; i < 36; i++) d[i] = load(in + i * plane), __builtin_prefetch(in + i * plane + channels);
                    for (int i = 0; i < 6; i++) b_(d + 6 * i, t + 6 * i, 1);
                    for (int j = 0; j < 6; j++) b_(t + j, d + j, 6);
                    for (int i = 0; i < 6; i++)
                        for (int j = 0; j < 6; j++) sums[i * width + 4 * s + j] += d[6 * i + j];
                }
                for (int i = 0; i < (r == rows - 1 ? 6 : 4); i++) {
                    long y = 4 * r + i - 1;
                    if (y < 0 || y >= h) continue;
                    for (int j = 0; j < w; j++) store(x + ((k * h + y) * w + j) * channels + c, sums[i * width + j + 1]);
                }
                memmove(sums, sums + 4 * width, 2 * width * sizeof(vec));
                memset(sums + 2 * width, 0, 4 * width * sizeof(vec));
            }
        }
}
