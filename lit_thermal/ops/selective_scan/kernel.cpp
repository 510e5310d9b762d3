// Selective scan on the CPU, forward and hand-written backward, in float and double.
//
//   d = softplus(delta + bias);  h[t] = exp(d[t] A) h[t-1] + d[t] B[t] u[t];  y[t] = sum_n C[t] h[t] + D u[t];
//   out[t] = y[t] SiLU(z[t])
//
// A SIMD lane is a channel: a tile is up to `lanes` neighbouring channels of one group, so that B and C are scalars to
// it and any number of states N is served alike. Time runs in blocks that stay in the first-level cache; within a block
// the loop over N is outside and the loop over time inside. The forward keeps the states at the start of every block;
// the backward recomputes one block at a time from them. Decays are only ever multiplied, never divided by. Every sum
// has a fixed order whatever the number of threads, so that two runs agree bit for bit.
//
// Needs the vector extensions of GCC and Clang, and must not see -ffast-math: `exponential` relies on exact rounding.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define API extern "C" __attribute__((visibility("default")))

constexpr int64_t BLOCK = 64;  // steps

// Mirrored by `_Problem` in cpp.py. Everything is contiguous; a null pointer means absent.
struct Problem {
    int64_t batch, channels, groups, states, length, slots, threads, softplus;
    const void *u, *delta, *z, *dout;      // (batch, channels, length)
    const void *A, *B_lane, *C_lane;       // (channels, states); the latter two are a constant B and C
    const void *B, *C;                     // (batch, groups, states, length), null where constant
    const void *D, *bias;                  // (channels)
    void *starts;                          // (batch, groups, tiles, blocks, states, lanes): states at block starts
    void *out, *du, *ddelta, *dz;          // (batch, channels, length)
    void *last, *dA, *dB_lane, *dC_lane;   // (batch, channels, states); gradients still to be summed over the batch
    void *dD, *dbias;                      // (batch, channels), the same
    void *dB, *dC;                         // (batch, groups, slots, states, length), zeros on entry, to be summed over slots
};

namespace {

template <class T>
struct Simd;
template <>
struct Simd<float> {
    typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    static constexpr int mantissa = 23, bias = 127, exp_degree = 7, log_degree = 6;
    static constexpr float inverse_factorial[] = {1.f, 1.f, 1 / 2.f, 1 / 6.f, 1 / 24.f, 1 / 120.f, 1 / 720.f, 1 / 5040.f};
    static constexpr float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    static constexpr float lowest = -87.33f, highest = 88.37f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};
template <>
struct Simd<double> {
    typedef double Vec __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint64_t Bits __attribute__((vector_size(VECTOR_BYTES)));
    static constexpr int mantissa = 52, bias = 1023, exp_degree = 13, log_degree = 15;
    static constexpr double inverse_factorial[] = {
        1.0,          1.0,           1 / 2.0,        1 / 6.0,         1 / 24.0,         1 / 120.0,        1 / 720.0,
        1 / 5040.0,   1 / 40320.0,   1 / 362880.0,   1 / 3628800.0,   1 / 39916800.0,   1 / 479001600.0,  1 / 6227020800.0};
    static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double lowest = -708.39, highest = 709.4;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
};

template <class T>
using Vec = typename Simd<T>::Vec;
template <class T>
constexpr int64_t LANES = VECTOR_BYTES / sizeof(T);

template <class T>
inline T sum_lanes(Vec<T> v) {
    T a[LANES<T>];
    std::memcpy(a, &v, sizeof v);
    for (int64_t half = LANES<T> / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) a[i] += a[i + half];
    return a[0];
}

// exp(x) to about 1 ulp: x = k ln 2 + r, Taylor series in |r| <= 0.35, times 2^k. What is below the smallest normal
// number becomes 0, what is above 2^127.5 (2^1023.5) infinity; NaN stays NaN.
template <class T>
inline Vec<T> exponential(Vec<T> x) {
    using S = Simd<T>;
    const Vec<T> zero = {}, shifted = x * T(1.4426950408889634) + S::magic, k = shifted - S::magic;
    const Vec<T> r = (x - k * S::ln2_high) - k * S::ln2_low;
    Vec<T> p = zero + S::inverse_factorial[S::exp_degree];
    for (int i = S::exp_degree; i--;) p = p * r + S::inverse_factorial[i];
    typename S::Bits bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + S::bias) << S::mantissa;
    Vec<T> scale;
    std::memcpy(&scale, &bits, sizeof scale);
    p = x < S::lowest ? zero : p * scale;
    return x > S::highest ? zero + T(INFINITY) : p;
}

template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
    return T(1) / (T(1) + exponential<T>(-x));
}

// log(1 + exp(x)) = max(x, 0) + log1p(e) with e = exp(-|x|); log1p(e) = 2 artanh(s) with s = e / (2 + e) <= 1/3.
template <class T>
inline Vec<T> softplus(Vec<T> x) {
    const Vec<T> zero = {}, e = exponential<T>(x > zero ? -x : x), s = e / (T(2) + e), q = s * s;
    Vec<T> p = zero + T(1) / (2 * Simd<T>::log_degree + 1);
    for (int i = Simd<T>::log_degree - 1; i >= 0; --i) p = p * q + T(1) / (2 * i + 1);
    return x > T(20) ? x : (x > zero ? x : zero) + T(2) * s * p;  // identity above 20, as everywhere
}

// One tile: `count` channels from `channel` on. Missing lanes read zero, which adds nothing to any sum.
template <class T>
struct Tile {
    const Problem &p;
    int64_t batch, group, tile, channel, count;

    Tile(const Problem &problem, int64_t b, int64_t g, int64_t i) : p(problem), batch(b), group(g), tile(i) {
        const int64_t per_group = p.channels / p.groups;
        channel = g * per_group + i * LANES<T>;
        count = std::min(LANES<T>, per_group - i * LANES<T>);
    }
    // Channel rows of a (batch, channels, length) tensor from `start` on <-> (steps, lanes) in scratch memory.
    void read(const void *tensor, int64_t start, int64_t steps, Vec<T> *scratch) const {
        T *s = reinterpret_cast<T *>(scratch);
        for (int64_t i = 0; i < LANES<T>; ++i) {
            const T *row = static_cast<const T *>(tensor) + (batch * p.channels + channel + i) * p.length + start;
            for (int64_t t = 0; t < steps; ++t) s[t * LANES<T> + i] = i < count ? row[t] : T(0);
        }
    }
    void write(void *tensor, int64_t start, int64_t steps, const Vec<T> *scratch) const {
        const T *s = reinterpret_cast<const T *>(scratch);
        for (int64_t i = 0; i < count; ++i) {
            T *row = static_cast<T *>(tensor) + (batch * p.channels + channel + i) * p.length + start;
            for (int64_t t = 0; t < steps; ++t) row[t] = s[t * LANES<T> + i];
        }
    }
    // Column n of a (channels, columns) tensor; `absent` where there is none.
    Vec<T> gather(const void *tensor, int64_t n, int64_t columns, T absent) const {
        T v[LANES<T>] = {};
        for (int64_t i = 0; i < count; ++i)
            v[i] = tensor ? static_cast<const T *>(tensor)[(channel + i) * columns + n] : absent;
        Vec<T> result;
        std::memcpy(&result, v, sizeof v);
        return result;
    }
    // Column n of a (batch, channels, columns) tensor, if there is one.
    void scatter(Vec<T> v, void *tensor, int64_t n, int64_t columns) const {
        if (tensor)
            for (int64_t i = 0; i < count; ++i)
                static_cast<T *>(tensor)[(batch * p.channels + channel + i) * columns + n] = v[i];
    }
    // States at the start of a block: (states, lanes).
    Vec<T> *start_of(int64_t block, int64_t blocks, int64_t tiles) const {
        return static_cast<Vec<T> *>(p.starts) + (((batch * p.groups + group) * tiles + tile) * blocks + block) * p.states;
    }
    // Row n of B or C from `start` on; ones where it is constant, for its value then sits in the lanes.
    const T *row(const void *weight, int64_t n, int64_t start, const T *ones) const {
        return weight ? static_cast<const T *>(weight) + ((batch * p.groups + group) * p.states + n) * p.length + start : ones;
    }
    T *row_gradient(void *weight, int64_t n, int64_t start, T *unused) const {
        const int64_t slot = (batch * p.groups + group) * p.slots + tile % p.slots;
        return weight ? static_cast<T *>(weight) + (slot * p.states + n) * p.length + start : unused;
    }
};

// What a tile holds per state: A, and B and C where they are constant (ones elsewhere).
template <class T>
struct Weights {
    std::vector<Vec<T>> A, B, C;
    explicit Weights(const Tile<T> &tile) {
        for (int64_t n = 0; n < tile.p.states; ++n) {
            A.push_back(tile.gather(tile.p.A, n, tile.p.states, T(0)));
            B.push_back(tile.gather(tile.p.B_lane, n, tile.p.states, T(1)));
            C.push_back(tile.gather(tile.p.C_lane, n, tile.p.states, T(1)));
        }
    }
};

// LANEWISE: B or C is constant in time. Otherwise the multiplications with ones are left out.
template <class T, bool LANEWISE>
void forward_tile(const Tile<T> &tile, int64_t tiles) {
    const Problem &p = tile.p;
    const int64_t blocks = (p.length + BLOCK - 1) / BLOCK;
    const Weights<T> w(tile);
    const Vec<T> D = tile.gather(p.D, 0, 1, T(0)), bias = tile.gather(p.bias, 0, 1, T(0));
    std::vector<Vec<T>> h(p.states, Vec<T>{});
    Vec<T> u[BLOCK], d[BLOCK], y[BLOCK];
    T ones[BLOCK];
    std::fill(ones, ones + BLOCK, T(1));
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t start = block * BLOCK, steps = std::min(BLOCK, p.length - start);
        std::copy(h.begin(), h.end(), tile.start_of(block, blocks, tiles));
        tile.read(p.u, start, steps, u);
        tile.read(p.delta, start, steps, d);
        for (int64_t t = 0; t < steps; ++t) {
            d[t] = p.softplus ? softplus<T>(d[t] + bias) : d[t] + bias;
            y[t] = D * u[t];
            u[t] *= d[t];
        }
        for (int64_t n = 0; n < p.states; ++n) {
            const T *B = tile.row(p.B, n, start, ones), *C = tile.row(p.C, n, start, ones);
            const Vec<T> A = w.A[n], lane_B = w.B[n], lane_C = w.C[n];
            Vec<T> state = h[n];
            for (int64_t t = 0; t < steps; ++t) {
                state = exponential<T>(d[t] * A) * state + (LANEWISE ? u[t] * lane_B : u[t]) * B[t];
                y[t] += (LANEWISE ? state * lane_C : state) * C[t];
            }
            h[n] = state;
        }
        if (p.z) {
            tile.read(p.z, start, steps, u);
            for (int64_t t = 0; t < steps; ++t) y[t] *= u[t] * sigmoid<T>(u[t]);
        }
        tile.write(p.out, start, steps, y);
    }
    for (int64_t n = 0; n < p.states; ++n) tile.scatter(h[n], p.last, n, p.states);
}

template <class T, bool LANEWISE>
void backward_tile(const Tile<T> &tile, int64_t tiles) {
    const Problem &p = tile.p;
    const int64_t blocks = (p.length + BLOCK - 1) / BLOCK;
    const Weights<T> w(tile);
    const Vec<T> zero = {}, D = tile.gather(p.D, 0, 1, T(0)), bias = tile.gather(p.bias, 0, 1, T(0));
    std::vector<Vec<T>> carry(p.states, zero), dA(p.states, zero), dB_lane(p.states, zero), dC_lane(p.states, zero);
    Vec<T> dD = zero, dbias = zero;
    Vec<T> u[BLOCK], d[BLOCK], slope[BLOCK], x[BLOCK], y[BLOCK], dy[BLOCK], dd[BLOCK], dx[BLOCK], z[BLOCK], dout[BLOCK];
    Vec<T> decay[BLOCK], h[BLOCK + 1];
    T ones[BLOCK], unused[BLOCK] = {};
    std::fill(ones, ones + BLOCK, T(1));
    for (int64_t block = blocks; block--;) {
        const int64_t start = block * BLOCK, steps = std::min(BLOCK, p.length - start);
        const Vec<T> *starts = tile.start_of(block, blocks, tiles);
        tile.read(p.u, start, steps, u);
        tile.read(p.delta, start, steps, d);
        tile.read(p.dout, start, steps, dout);
        if (p.z) tile.read(p.z, start, steps, z);
        for (int64_t t = 0; t < steps; ++t) {
            const Vec<T> raw = d[t] + bias;
            d[t] = p.softplus ? softplus<T>(raw) : raw;
            slope[t] = !p.softplus ? zero + T(1) : raw > T(20) ? zero + T(1) : sigmoid<T>(raw);
            x[t] = d[t] * u[t];
            y[t] = D * u[t];
            dy[t] = p.z ? dout[t] * z[t] * sigmoid<T>(z[t]) : dout[t];
            dd[t] = dx[t] = zero;
        }
        for (int64_t n = 0; n < p.states; ++n) {
            const T *B = tile.row(p.B, n, start, ones), *C = tile.row(p.C, n, start, ones);
            T *dB = tile.row_gradient(p.dB, n, start, unused), *dC = tile.row_gradient(p.dC, n, start, unused);
            const Vec<T> A = w.A[n], lane_B = w.B[n], lane_C = w.C[n];
            h[0] = starts[n];
            for (int64_t t = 0; t < steps; ++t) {
                decay[t] = exponential<T>(d[t] * A);
                h[t + 1] = decay[t] * h[t] + (LANEWISE ? x[t] * lane_B : x[t]) * B[t];
            }
            if (p.z)
                for (int64_t t = 0; t < steps; ++t) y[t] += (LANEWISE ? h[t + 1] * lane_C : h[t + 1]) * C[t];
            Vec<T> dh = carry[n], block_dA = zero, block_dB = zero, block_dC = zero;
            for (int64_t t = steps; t--;) {
                const Vec<T> dyC = dy[t] * C[t];
                dh += LANEWISE ? dyC * lane_C : dyC;
                const Vec<T> dC_t = dy[t] * h[t + 1], dB_t = dh * x[t];
                dC[t] += sum_lanes<T>(LANEWISE ? dC_t * lane_C : dC_t);
                dB[t] += sum_lanes<T>(LANEWISE ? dB_t * lane_B : dB_t);
                if (LANEWISE) {
                    block_dC += dC_t * C[t];
                    block_dB += dB_t * B[t];
                }
                dx[t] += (LANEWISE ? dh * lane_B : dh) * B[t];
                dh *= decay[t];
                const Vec<T> dlog = dh * h[t];
                dd[t] += dlog * A;
                block_dA += dlog * d[t];
            }
            carry[n] = dh;
            dA[n] += block_dA;
            dB_lane[n] += block_dB;
            dC_lane[n] += block_dC;
        }
        Vec<T> block_dD = zero, block_dbias = zero;
        for (int64_t t = 0; t < steps; ++t) {
            dd[t] = (dd[t] + dx[t] * u[t]) * slope[t];
            dx[t] = dx[t] * d[t] + dy[t] * D;
            block_dD += dy[t] * u[t];
            block_dbias += dd[t];
        }
        dD += block_dD;
        dbias += block_dbias;
        tile.write(p.du, start, steps, dx);
        tile.write(p.ddelta, start, steps, dd);
        if (p.z) {
            for (int64_t t = 0; t < steps; ++t) {
                const Vec<T> gate = sigmoid<T>(z[t]);
                z[t] = dout[t] * y[t] * gate * (T(1) + z[t] * (T(1) - gate));
            }
            tile.write(p.dz, start, steps, z);
        }
    }
    for (int64_t n = 0; n < p.states; ++n) {
        tile.scatter(dA[n], p.dA, n, p.states);
        tile.scatter(dB_lane[n], p.dB_lane, n, p.states);
        tile.scatter(dC_lane[n], p.dC_lane, n, p.states);
    }
    tile.scatter(dD, p.dD, 0, 1);
    tile.scatter(dbias, p.dbias, 0, 1);
}

// A unit of parallel work is one slot of one group of one sample: the tiles `slot`, `slot + slots`, ...
template <class T>
void run(const Problem &p, void (*scan)(const Tile<T> &, int64_t)) {
    const int64_t tiles = (p.channels / p.groups + LANES<T> - 1) / LANES<T>;
    const int64_t units = p.batch * p.groups * p.slots;
#pragma omp parallel for schedule(dynamic) num_threads(std::min(p.threads, units))
    for (int64_t unit = 0; unit < units; ++unit)
        for (int64_t i = unit % p.slots; i < tiles; i += p.slots)
            scan(Tile<T>(p, unit / p.slots / p.groups, unit / p.slots % p.groups, i), tiles);
}

bool lanewise(const Problem &p) { return p.B_lane || p.C_lane; }

}  // namespace

API int64_t selective_scan_block() { return BLOCK; }
API int64_t selective_scan_vector_bytes() { return VECTOR_BYTES; }
API void selective_scan_forward_float(const Problem *p) {
    run<float>(*p, lanewise(*p) ? forward_tile<float, true> : forward_tile<float, false>);
}
API void selective_scan_forward_double(const Problem *p) {
    run<double>(*p, lanewise(*p) ? forward_tile<double, true> : forward_tile<double, false>);
}
API void selective_scan_backward_float(const Problem *p) {
    run<float>(*p, lanewise(*p) ? backward_tile<float, true> : backward_tile<float, false>);
}
API void selective_scan_backward_double(const Problem *p) {
    run<double>(*p, lanewise(*p) ? backward_tile<double, true> : backward_tile<double, false>);
}
