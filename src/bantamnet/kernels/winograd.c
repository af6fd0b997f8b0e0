/* Everything of Winograd's convolution but its matrix products: F(4 x 4, 3 x 3), "same" padding, stride 1 (others: see below).
 *
 * A tile of 6 x 6 pixels, two of which it shares with each neighbour, gives 4 x 4 pixels of output: 36 multiplications a pair of
 * channels, where nine a pixel are 144. With d the tile, w the filter, all of it a channel each and (.) elementwise,
 *
 *     y = AT [(G w GT) (.) (BT d B)] A,     the sum over input channels being 36 matrix products.
 *
 * winograd_large.c makes of this file the kernels of F(8 x 8, 3 x 3), tiles of 10 x 10 pixels: 100 multiplications instead of 576.
 * winograd_strided.c and winograd_strided_large.c make of it those of stride 2. Pixels of odd rows meet the filter's rows 0 and 2
 * only, pixels of even rows its row 1; so with columns. That is a convolution of stride 1 by filters of 2 x 2, over maps of half
 * the height and width with four times the channels: the four PHASES of a pixel. F(8 x 8, 2 x 2) takes 9 x 9 multiplications a phase.
 *
 * The points at which the polynomials are taken are 0, PAIRS of +-p and, for stride 1, infinity; these p lose the least to rounding
 * (winograd.py).
 *
 * Maps are [n][h][w][channels]; tiles are [POINTS][plane / channels][channels], image after image and row after row, where `plane`
 * may leave room behind the last one; those of inputs hold their channels once a phase. Filters are [out][9][in], in their points
 * [POINTS][out][PHASES][in]. Sums are float.
 */
#include "vectors.h"

#if defined STRIDED && defined LARGE
#define KERNEL(name) name##_strided_large
#elif defined STRIDED
#define KERNEL(name) name##_strided
#elif defined LARGE
#define KERNEL(name) name##_large
#else
#define KERNEL(name) name
#endif
#ifdef LARGE
#define PAIRS 4
#else
#define PAIRS 2
#endif
#ifdef STRIDED
#define STRIDE 2
#else
#define STRIDE 1
#endif
#define PHASES (STRIDE * STRIDE)
#define TAPS (4 - STRIDE)      /* height and width of a phase's filter */
#define TILE (2 * PAIRS)       /* of a tile's output */
#define SPAN (TILE + TAPS - 1) /* of its input, in each phase */
#define POINTS (SPAN * SPAN)
#define INFINITE (STRIDE == 1) /* whether infinity is one of the points, the last */
#define AHEAD 128 /* values before their turn, that tiles are fetched into the cache */

/* For each p its powers, the product of z - q^2 over the other points q > 0 by its coefficients, lowest first, and 1 / (2 p^2 times
 * that at z = p^2); the product of z - q^2 over all q > 0. */
#ifdef LARGE
#define P0 0.375
#define P1 0.8125
#define P2 1.25
#define P3 2.5
#define Q0 (P0 * P0)
#define Q1 (P1 * P1)
#define Q2 (P2 * P2)
#define Q3 (P3 * P3)
#define TO_7(p) {1, p, p * p, p * p * p, p * p * p * p, p * p * p * p * p, p * p * p * p * p * p, p * p * p * p * p * p * p}
#define OF_3(x, y, z) {-x * y * z, x * y + x * z + y * z, -x - y - z, 1}
#define AT_3(p, x, y, z) (1 / (2 * p * (p - x) * (p - y) * (p - z)))
static const float powers[PAIRS][TILE] = {TO_7(P0), TO_7(P1), TO_7(P2), TO_7(P3)};
static const float others[PAIRS][PAIRS] = {OF_3(Q1, Q2, Q3), OF_3(Q0, Q2, Q3), OF_3(Q0, Q1, Q3), OF_3(Q0, Q1, Q2)};
static const float scales[PAIRS] = {AT_3(Q0, Q1, Q2, Q3), AT_3(Q1, Q0, Q2, Q3), AT_3(Q2, Q0, Q1, Q3), AT_3(Q3, Q0, Q1, Q2)};
static const float all[PAIRS + 1] = {Q0 * Q1 * Q2 * Q3, -Q0 * Q1 * Q2 - Q0 * Q1 * Q3 - Q0 * Q2 * Q3 - Q1 * Q2 * Q3,
                                     Q0 * Q1 + Q0 * Q2 + Q0 * Q3 + Q1 * Q2 + Q1 * Q3 + Q2 * Q3, -Q0 - Q1 - Q2 - Q3, 1};
#else
#define P0 0.625
#define P1 1.5
#define Q0 (P0 * P0)
#define Q1 (P1 * P1)
static const float powers[PAIRS][TILE] = {{1, P0, Q0, Q0 * P0}, {1, P1, Q1, Q1 * P1}};
static const float others[PAIRS][PAIRS] = {{-Q1, 1}, {-Q0, 1}};
static const float scales[PAIRS] = {1 / (2 * Q0 * (Q0 - Q1)), 1 / (2 * Q1 * (Q1 - Q0))};
static const float all[PAIRS + 1] = {Q0 * Q1, -Q0 - Q1, 1};
#endif

#define EVERY(i, num) _Pragma("GCC unroll 16") for (int i = 0; i < num; i++)

/* The matrices along one dimension; s is the stride of both arrays. At p and -p even powers are the same, odd ones of other sign. */
/* BT d, SPAN values to SPAN */
static inline void bt(const vec *d, vec *o, int s) {
    vec first = d[2 * PAIRS * s], last = d[(SPAN - 1) * s];
    EVERY(k, PAIRS) first += all[k] * d[2 * k * s], last += all[k] * d[(2 * k + 1) * s];
    EVERY(i, PAIRS) {
        vec even = d[2 * PAIRS * s], odd = d[(2 * PAIRS - 1) * s];
        EVERY(k, PAIRS - 1) even += others[i][k] * d[(2 * k + 2) * s], odd += others[i][k] * d[(2 * k + 1) * s];
        o[(2 * i + 1) * s] = even + powers[i][1] * odd, o[(2 * i + 2) * s] = even - powers[i][1] * odd;
    }
    o[0] = first;
    if (INFINITE) o[(SPAN - 1) * s] = last;
}

/* B v, SPAN to SPAN */
static inline void b_(const vec *v, vec *o, int s) {
    vec first = v[0], last = INFINITE ? v[(SPAN - 1) * s] : (vec){0}, sums[PAIRS], gaps[PAIRS];
    EVERY(i, PAIRS) {
        sums[i] = v[(2 * i + 1) * s] + v[(2 * i + 2) * s];
        gaps[i] = powers[i][1] * (v[(2 * i + 1) * s] - v[(2 * i + 2) * s]);
    }
    EVERY(k, PAIRS + 1) {
        vec even = all[k] * first, odd = all[k] * last;
        EVERY(i, PAIRS) {
            if (k > 0) even += others[i][k - 1] * sums[i];
            if (k < PAIRS) odd += others[i][k] * gaps[i];
        }
        o[2 * k * s] = even;
        if (2 * k + 1 < SPAN) o[(2 * k + 1) * s] = odd;
    }
}

/* AT m, SPAN to TILE */
static inline void at(const vec *m, vec *o, int s) {
    vec first = m[0], last = INFINITE ? m[(SPAN - 1) * s] : (vec){0}, sums[PAIRS], gaps[PAIRS];
    EVERY(i, PAIRS) sums[i] = m[(2 * i + 1) * s] + m[(2 * i + 2) * s], gaps[i] = m[(2 * i + 1) * s] - m[(2 * i + 2) * s];
    EVERY(k, PAIRS) {
        vec even = k == 0 ? first : (vec){0}, odd = k == PAIRS - 1 ? last : (vec){0};
        EVERY(i, PAIRS) even += powers[i][2 * k] * sums[i], odd += powers[i][2 * k + 1] * gaps[i];
        o[2 * k * s] = even, o[(2 * k + 1) * s] = odd;
    }
}

/* A g, TILE to SPAN */
static inline void a_(const vec *g, vec *o, int s) {
    EVERY(i, PAIRS) {
        vec even = g[0], odd = powers[i][1] * g[s];
        EVERY(k, PAIRS - 1) even += powers[i][2 * k + 2] * g[(2 * k + 2) * s], odd += powers[i][2 * k + 3] * g[(2 * k + 3) * s];
        o[(2 * i + 1) * s] = even + odd, o[(2 * i + 2) * s] = even - odd;
    }
    o[0] = g[0];
    if (INFINITE) o[(SPAN - 1) * s] = g[(TILE - 1) * s];
}

/* G w, TAPS to SPAN */
static inline void g_(const vec *w, vec *o, int s) {
    EVERY(i, PAIRS) {
        vec even = scales[i] * w[0], odd = (powers[i][1] * scales[i]) * w[s];
        if (TAPS == 3) even += (powers[i][2] * scales[i]) * w[2 * s];
        o[(2 * i + 1) * s] = even + odd, o[(2 * i + 2) * s] = even - odd;
    }
    o[0] = (1 / all[0]) * w[0];
    if (INFINITE) o[(SPAN - 1) * s] = w[2 * s];
}

/* GT u, SPAN to TAPS */
static inline void gt(const vec *u, vec *o, int s) {
    o[0] = (1 / all[0]) * u[0], o[s] = (vec){0};
    if (INFINITE) o[2 * s] = u[(SPAN - 1) * s];
    EVERY(i, PAIRS) {
        vec sum = scales[i] * (u[(2 * i + 1) * s] + u[(2 * i + 2) * s]);
        o[0] += sum;
        if (TAPS == 3) o[2 * s] += powers[i][2] * sum;
        o[s] += (powers[i][1] * scales[i]) * (u[(2 * i + 1) * s] - u[(2 * i + 2) * s]);
    }
}

/* For each filter k, the two halves y and x of each phase, and LANES of its channels, c the first. */
#define EVERY_PHASE                                                                                         \
    _Pragma("omp parallel for") for (long k = 0; k < out; k++)                                              \
        for (long phase = 0, y, x; phase < PHASES && (y = phase / STRIDE, x = phase % STRIDE, 1); phase++)  \
            for (long c = 0; c < in && (c = block(c, in), 1); c += LANES)

/* The row or column of a filter that tap i of a phase is; a tap that has none is 0. */
static inline int of_filter(int i, int phase) { return STRIDE * (i - 1) + phase + 1; }

/* Filters w, float, to their points: G w GT. */
void KERNEL(filters_in)(const float *w, stored *u, long out, long in) {
    EVERY_PHASE {
        vec d[TAPS * SPAN], t[POINTS];
        for (int i = 0; i < TAPS; i++) {
            vec row[TAPS];
            for (int j = 0; j < TAPS; j++) {
                int v = of_filter(i, y), h = of_filter(j, x);
                row[j] = v < 0 || h < 0 ? (vec){0} : (vec)*(const floats *)(w + (k * 9 + 3 * v + h) * in + c);
            }
            g_(row, d + SPAN * i, 1);
        }
        for (int j = 0; j < SPAN; j++) g_(d + j, t + j, SPAN);
        for (int i = 0; i < POINTS; i++) store(u + ((i * out + k) * PHASES + phase) * in + c, t[i]);
    }
}

/* Gradients of the filters, float, from those in their points: GT u G. */
void KERNEL(filters_out)(float *w, const stored *u, long out, long in) {
    EVERY_PHASE {
        vec d[POINTS], t[TAPS * SPAN];
        for (int i = 0; i < POINTS; i++) d[i] = load(u + ((i * out + k) * PHASES + phase) * in + c);
        for (int j = 0; j < SPAN; j++) gt(d + j, t + j, SPAN);
        for (int i = 0; i < TAPS; i++) {
            vec row[TAPS];
            gt(t + SPAN * i, row, 1);
            for (int j = 0; j < TAPS; j++) {
                int v = of_filter(i, y), h = of_filter(j, x);
                if (v >= 0 && h >= 0) *(floats *)(w + (k * 9 + 3 * v + h) * in + c) = (floats)row[j];
            }
        }
    }
}

/* Rows of tiles that cover so many rows of the input, and so with columns. */
#define ROWS(h) (((h) + STRIDE * TILE - 1) / (STRIDE * TILE))

/* Zeros in the room behind the last tile, which is part of sums over tiles. */
static inline void clear(stored *tiles, long used, long plane) {
    for (int i = 0; i < POINTS && used < plane; i++) memset(tiles + i * plane + used, 0, (plane - used) * sizeof *tiles);
}

/* Maps x to tiles: BT d B. */
void KERNEL(tiles_in)(const stored *x, stored *v, long n, long h, long w, long channels, long plane) {
    long rows = ROWS(h), cols = ROWS(w);
#pragma omp parallel for
    for (long r = 0; r < n * rows; r++)
        for (long s = 0; s < cols * PHASES; s++) {
            long y0 = STRIDE * (r % rows * TILE - 1) + s % PHASES / STRIDE, x0 = STRIDE * (s / PHASES * TILE - 1) + s % STRIDE;
            const stored *image = x + (r / rows) * h * w * channels;
            stored *out = v + (r * cols * PHASES + s) * channels;
            for (long c = 0; c < channels; c += LANES) {
                c = block(c, channels);
                vec d[POINTS], t[POINTS];
                const stored *from = image + (y0 * w + x0) * channels + c;
                long down = STRIDE * w * channels, right = STRIDE * channels;
                if (y0 >= 0 && x0 >= 0 && y0 + STRIDE * (SPAN - 1) < h && x0 + STRIDE * (SPAN - 1) < w)
                    for (int i = 0; i < SPAN; i++)
                        for (int j = 0; j < SPAN; j++) d[SPAN * i + j] = load(from + i * down + j * right);
                else
                    for (int i = 0; i < SPAN; i++)
                        for (int j = 0; j < SPAN; j++) {
                            long y = y0 + STRIDE * i, x = x0 + STRIDE * j;
                            d[SPAN * i + j] = y >= 0 && y < h && x >= 0 && x < w ? load(from + i * down + j * right) : (vec){0};
                        }
                for (int i = 0; i < SPAN; i++) bt(d + SPAN * i, t + SPAN * i, 1);
                for (int j = 0; j < SPAN; j++) bt(t + j, d + j, SPAN);
                for (int i = 0; i < POINTS; i++) store(out + i * plane + c, d[i]), __builtin_prefetch(out + i * plane + c + AHEAD, 1);
            }
        }
    clear(v, n * rows * cols * PHASES * channels, plane);
}

/* For each tile, s of row r, and LANES of its channels, c the first; its output, `side` pixels high and wide, begins at y0, x0. */
#define EVERY_TILE(side)                                                               \
    long rows = (h + TILE - 1) / TILE, cols = (w + TILE - 1) / TILE;                   \
    _Pragma("omp parallel for") for (long r = 0; r < n * rows; r++)                    \
        for (long s = 0, y0 = r % rows * side, x0 = 0; s < cols; s++, x0 += side)      \
            for (long c = 0; c < channels && (c = block(c, channels), 1); c += LANES)

/* AT m A of a tile, LANES channels: TILE x TILE values. */
static inline void output(const stored *m, long plane, vec *o) {
    vec d[POINTS], t[TILE * SPAN];
    for (int i = 0; i < POINTS; i++) d[i] = load(m + i * plane), __builtin_prefetch(m + i * plane + AHEAD);
    for (int j = 0; j < SPAN; j++) at(d + j, t + j, SPAN);
    for (int i = 0; i < TILE; i++) at(t + SPAN * i, o + TILE * i, 1);
}

/* A g AT of a tile, LANES channels, of TILE x TILE values. */
static inline void expand(const vec *g, stored *m, long plane) {
    vec d[TILE * SPAN], t[POINTS];
    for (int i = 0; i < TILE; i++) a_(g + TILE * i, d + SPAN * i, 1);
    for (int j = 0; j < SPAN; j++) a_(d + j, t + j, SPAN);
    for (int i = 0; i < POINTS; i++) store(m + i * plane, t[i]), __builtin_prefetch(m + i * plane + AHEAD, 1);
}

/* Tiles to maps y: AT m A. */
void KERNEL(tiles_out)(stored *y, const stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(TILE) {
        stored *to = y + ((r / rows * h + y0) * w + x0) * channels;
        vec o[TILE * TILE];
        output(m + (r * cols + s) * channels + c, plane, o);
        for (int i = 0; i < TILE && y0 + i < h; i++)
            for (int j = 0; j < TILE && x0 + j < w; j++) store(to + (i * w + j) * channels + c, o[TILE * i + j]);
    }
}

#ifndef STRIDED
/* The same, of which y holds the largest of each 2 x 2 pixels, and `which` the first of the four that is it; a NaN is largest. */
void KERNEL(tiles_out_pooled)(stored *y, uint8_t *which, const stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(PAIRS) {
        vec o[TILE * TILE];
        output(m + (r * cols + s) * channels + c, plane, o);
        for (int i = 0; i < PAIRS && y0 + i < h / 2; i++)
            for (int j = 0; j < PAIRS && x0 + j < w / 2; j++) {
                const vec *four = o + 2 * (TILE * i + j);
                vec most = four[0];
                ints place = {0};
                for (int k = 1; k < 4; k++) {
                    vec other = four[k / 2 * TILE + k % 2];
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

#endif

/* Gradients of maps y to tiles: A g AT. */
void KERNEL(grads_in)(const stored *g, stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(TILE) {
        const stored *from = g + ((r / rows * h + y0) * w + x0) * channels;
        vec d[TILE * TILE] = {{0}};
        for (int i = 0; i < TILE && y0 + i < h; i++)
            for (int j = 0; j < TILE && x0 + j < w; j++) d[TILE * i + j] = load(from + (i * w + j) * channels + c);
        expand(d, m + (r * cols + s) * channels + c, plane);
    }
    clear(m, n * rows * cols * channels, plane);
}

#ifndef STRIDED
/* The same from gradients of pooled maps, each of which goes to the pixel that `which` says. */
void KERNEL(grads_in_pooled)(const stored *g, const uint8_t *which, stored *m, long n, long h, long w, long channels, long plane) {
    EVERY_TILE(PAIRS) {
        vec d[TILE * TILE] = {{0}};
        for (int i = 0; i < PAIRS && y0 + i < h / 2; i++)
            for (int j = 0; j < PAIRS && x0 + j < w / 2; j++) {
                long at = ((r / rows * (h / 2) + y0 + i) * (w / 2) + x0 + j) * channels + c;
                ints grad = (ints)load(g + at), place = __builtin_convertvector(*(const bytes *)(which + at), ints);
                for (int k = 0; k < 4; k++) d[2 * (TILE * i + j) + k / 2 * TILE + k % 2] = (vec)(grad & (place == k));
            }
        expand(d, m + (r * cols + s) * channels + c, plane);
    }
    clear(m, n * rows * cols * channels, plane);
}

#endif

/* Gradients in tiles to those of maps x: B v BT, tiles added where they share pixels. */
void KERNEL(grads_out)(stored *x, const stored *v, long n, long h, long w, long channels, long plane) {
    long rows = ROWS(h), cols = ROWS(w), width = TILE * cols + SPAN - TILE;
#pragma omp parallel for
    for (long k = 0; k < n * PHASES; k++)
        for (long c = 0; c < channels; c += LANES) {
            c = block(c, channels);
            long phase = k % PHASES;
            vec sums[SPAN * width];
            memset(sums, 0, sizeof sums);
            for (long r = 0; r < rows; r++) {
                for (long s = 0; s < cols; s++) {
                    const stored *in = v + (((k / PHASES * rows + r) * cols + s) * PHASES + phase) * channels + c;
                    vec d[POINTS], t[POINTS];
                    for (int i = 0; i < POINTS; i++) d[i] = load(in + i * plane), __builtin_prefetch(in + i * plane + PHASES * channels);
                    for (int i = 0; i < SPAN; i++) b_(d + SPAN * i, t + SPAN * i, 1);
                    for (int j = 0; j < SPAN; j++) b_(t + j, d + j, SPAN);
                    for (int i = 0; i < SPAN; i++)
                        for (int j = 0; j < SPAN; j++) sums[i * width + TILE * s + j] += d[SPAN * i + j];
                }
                for (int i = 0; i < (r == rows - 1 ? SPAN : TILE); i++) {
                    long row = STRIDE * (TILE * r + i - 1) + phase / STRIDE;
                    if (row < 0 || row >= h) continue;
                    for (long col = phase % STRIDE; col < w; col += STRIDE)
                        store(x + ((k / PHASES * h + row) * w + col) * channels + c, sums[i * width + col / STRIDE + 1]);
                }
                memmove(sums, sums + TILE * width, (SPAN - TILE) * width * sizeof(vec));
                memset(sums + (SPAN - TILE) * width, 0, TILE * width * sizeof(vec));
            }
        }
}
