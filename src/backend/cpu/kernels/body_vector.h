// Everything but matrix products: preparing activations, KV rows, attention, elementwise work. One
// template per level V (vec_*.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backend/cpu/kernels/body_matmul.h"
#include "backend/cpu/kernels/kernels.h"

namespace narwhal::cpu {

// Planes: also store 16-bit activations as two planes of bytes.
template <class V, bool kPlanes = false>
struct Vector {
  using F = typename V::F;
  using I = typename V::I;
  using Products = Matmul<V>;

  static constexpr uint32_t kInfinity = 0x7f800000u, kNan = 0x7fc00000u;

  static float from_bits(uint32_t bits) {
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  }
  static void put(std::byte* p, float f) { std::memcpy(p, &f, 4); }

  // e^x, about one unit in the last place; 0 below -87.7, NaN stays.
  static F exp(F x) {
    x = V::min(V::set1(88.0f), V::max(V::set1(-88.0f), x));
    const I n = V::to_int(V::mul(x, V::set1(1.44269504f)));
    const F k = V::to_float(n);
    F r = V::fma(k, V::set1(-0.693359375f), x);
    r = V::fma(k, V::set1(2.12194440e-4f), r);
    F p = V::set1(1.9875691500e-4f);
    p = V::fma(p, r, V::set1(1.3981999507e-3f));
    p = V::fma(p, r, V::set1(8.3334519073e-3f));
    p = V::fma(p, r, V::set1(4.1665795894e-2f));
    p = V::fma(p, r, V::set1(1.6666665459e-1f));
    p = V::fma(p, r, V::set1(5.0000001201e-1f));
    p = V::add(V::fma(V::mul(r, r), p, r), V::set1(1.0f));
    return V::mul(p, V::as_float(V::template ishl<23>(V::iadd(n, V::iset1(127)))));
  }

  // f(chunk of 16 inputs at index i, how many of them count): whole chunks in place, the rest
  // through `f` on zero-filled copies is the caller's matter, see each16.
  template <class Whole, class Rest>
  static void each16(int64_t n, Whole whole, Rest rest) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) whole(i);
    if (i < n) rest(i, n - i);
  }
  static F load_some(const float* p, int64_t n) { return Products::load_end(p, n); }
  static void store_some(float* p, F v, int64_t n) {
    alignas(64) float full[16];
    V::store(full, v);
    std::memcpy(p, full, n * 4);
  }
  // y[i] = f(i-th chunk loaders); f takes a loader of any pointer at the current chunk.
  template <class Op>
  static void map(int64_t n, float* y, Op op) {
    each16(
        n, [&](int64_t i) { V::store(y + i, op([i](const float* p) { return V::load(p + i); })); },
        [&](int64_t i, int64_t m) {
          store_some(y + i, op([i, m](const float* p) { return load_some(p + i, m); }), m);
        });
  }

  // Bits of the largest magnitude of x[n], n a multiple of 16; NaN is the largest of all.
  static uint32_t top_bits(const float* x, int64_t n) {
    I top = V::iset1(0);
    for (int64_t i = 0; i < n; i += 16)
      top = V::imax(top, V::iand(V::as_int(V::load(x + i)), V::iset1(0x7fffffff)));
    return static_cast<uint32_t>(V::imax_all(top));
  }

  static void quantise16(const float* x, int64_t n, const ActLayout& layout, std::byte* out) {
    for (int64_t b = 0; b < n / 32; b++, x += 32) {
      const uint32_t bits = top_bits(x, 32);
      const float top = from_bits(bits);
      float inverse = 0, scale = 0;
      if (bits >= kInfinity) {
        scale = from_bits(kNan);
      } else if (top > 0x1p-100f) {
        inverse = 32767.0f / top;
        scale = top / 32767.0f;
      }
      put(out + layout.scale + 4 * b, scale);
      for (int64_t i = 0; i < 32; i += 16) {
        // An infinity times 0 is a NaN; its code does not matter next to a NaN scale.
        const I q = V::to_int(V::mul(V::load(x + i), V::set1(inverse)));
        alignas(64) int16_t plain[16], swapped[16];
        V::store_i16(plain, q);
        for (int j = 0; j < 16; j += 4) {
          swapped[j] = plain[j];
          swapped[j + 1] = plain[j + 2];
          swapped[j + 2] = plain[j + 1];
          swapped[j + 3] = plain[j + 3];
        }
        std::memcpy(out + 64 * b + 2 * i, swapped, sizeof swapped);
        if constexpr (kPlanes) {
          const I hi = V::template isra<8>(q), lo = V::iand(q, V::iset1(255));
          V::store_i8(reinterpret_cast<int8_t*>(out + layout.hi + 32 * b + i), hi);
          V::store_i8(reinterpret_cast<int8_t*>(out + layout.lo + 32 * b + i), lo);
        }
      }
    }
  }

  static void quantise8(const float* x, int64_t n, const ActLayout& layout, std::byte* out) {
    for (int64_t b = 0; b < n / 256; b++, x += 256) {
      const uint32_t bits = top_bits(x, 256);
      float inverse = 0, scale = 0;
      if (bits >= kInfinity) {
        scale = from_bits(kNan);
      } else if (bits != 0) {
        int at = 0;  // the first of the largest magnitude
        for (uint32_t v = 0; at < 256; at++) {
          std::memcpy(&v, x + at, 4);
          if ((v & 0x7fffffffu) == bits) break;
        }
        inverse = -127.0f / x[at];
        uint32_t inverse_bits;
        std::memcpy(&inverse_bits, &inverse, 4);
        if ((inverse_bits & kInfinity) == kInfinity)
          inverse = 0;
        else
          scale = 1.0f / inverse;
      }
      put(out + layout.scale + 4 * b, scale);
      auto* q8 = reinterpret_cast<int8_t*>(out + 256 * b);
      for (int g = 0; g < 8; g++) {
        int16_t sums[2];
        for (int h = 0; h < 2; h++) {
          const int64_t i = 32 * g + 16 * h;
          const F v = V::mul(V::set1(inverse), V::load(x + i));
          const I q = bits < kInfinity ? V::to_int(v) : V::iset1(0);
          V::store_i8(q8 + i, q);
          sums[h] = static_cast<int16_t>(V::isum(q));
        }
        std::memcpy(out + layout.sum16 + 32 * b + 4 * g, sums, 4);
        const auto sum = static_cast<int16_t>(sums[0] + sums[1]);
        std::memcpy(out + layout.sum32 + 16 * b + 2 * g, &sum, 2);
        const int32_t start = -64 * sum;
        std::memcpy(out + layout.start + 32 * b + 4 * g, &start, 4);
      }
    }
  }

  static float dot(const float* a, const float* b, int64_t n) {
    float y = 0;
    float* at = &y;
    Products::template dots<DType::kF32, 1, 1>(reinterpret_cast<const std::byte*>(a), 0, n, &b, &at,
                                               false);
    return y;
  }

  static float e8m0(uint8_t e) {
    return from_bits(e == 255 ? kNan : e == 0 ? 0x00400000u : static_cast<uint32_t>(e) << 23);
  }

  static void decode_attention(const RowFormat& f, const uint8_t* row, float* x) {
    for (int b = 0; b < f.nope / 64; b++) {
      const F scale = V::set1(e8m0(row[f.nope + b]));
      for (int i = 64 * b; i < 64 * b + 64; i += 16)
        V::store(x + i, V::mul(V::load_e4m3(row + i), scale));
    }
    const uint8_t* tail = row + f.nope + f.nope / 64;
    int i = f.nope;
    for (; i + 16 <= f.dim; i += 16, tail += 32) V::store(x + i, V::load_bf16(tail));
    for (; i < f.dim; i++, tail += 2)
      x[i] = from_bits(static_cast<uint32_t>(tail[0] | tail[1] << 8) << 16);
  }

  static void decode_index(const RowFormat& f, const uint8_t* row, float* x) {
    static constexpr float kE2m1[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                        -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    for (int b = 0; b < f.dim / 32; b++) {
      const F scale = V::set1(e8m0(row[f.dim / 2 + b]));
      alignas(64) float values[32];
      for (int j = 0; j < 16; j++) {
        values[2 * j] = kE2m1[row[16 * b + j] & 15];
        values[2 * j + 1] = kE2m1[row[16 * b + j] >> 4];
      }
      for (int i = 0; i < 32; i += 16) V::store(x + 32 * b + i, V::mul(V::load(values + i), scale));
    }
  }

  static void decode_kv_row(const RowFormat& f, const std::byte* row, float* x) {
    const auto* p = reinterpret_cast<const uint8_t*>(row);
    if (f.kind == RowFormat::Kind::kAttention)
      decode_attention(f, p, x);
    else if (f.kind == RowFormat::Kind::kIndex)
      decode_index(f, p, x);
    else
      std::memcpy(x, row, f.dim * sizeof(float));
  }

  // z[h][j] = q[h] . key j for m heads.
  template <int m>
  static void scores(const KeyBlock& b, const float* q, float* z) {
    constexpr int O = V::kDotOutputs;
    const float* x[m];
    float* y[m];
    for (int h = 0; h < m; h++) x[h] = q + h * b.dim;
    int j = 0;
    const auto aim = [&] {
      for (int h = 0; h < m; h++) y[h] = z + h * kKeyBlock + j;
      return reinterpret_cast<const std::byte*>(b.keys + j * b.dim);
    };
    for (; j + O <= b.n; j += O) {
      const std::byte* keys = aim();
      Products::template dots<DType::kF32, m, O>(keys, b.dim * 4, b.dim, x, y, false);
    }
    for (; j < b.n; j++) {
      const std::byte* keys = aim();
      Products::template dots<DType::kF32, m, 1>(keys, b.dim * 4, b.dim, x, y, false);
    }
  }

  // Scores to weights under the running maximum; o is scaled down where the maximum grows.
  static void weigh(const KeyBlock& b, float* z, float* top, float* sum, float* o) {
    float block_top = *top;
    for (int j = 0; j < b.n; j++) {
      z[j] *= b.scale;
      block_top = z[j] > block_top ? z[j] : block_top;
    }
    for (int j = b.n; j < kKeyBlock; j++) z[j] = from_bits(0xff800000u);
    if (block_top > *top) {
      alignas(64) float shrink[16];
      V::store(shrink, exp(V::set1(*top - block_top)));
      *sum *= shrink[0];
      scale_by(o, b.dim, shrink[0]);
      *top = block_top;
    }
    F total = V::zero();
    for (int j = 0; j < kKeyBlock; j += 16) {
      const F e = exp(V::sub(V::load(z + j), V::set1(block_top)));
      V::store(z + j, e);
      total = V::add(total, e);
    }
    *sum += V::sum(total);
  }

  // o[h] += sum_j weight[h][j] key j over 16 * n_chunks dims for m heads.
  template <int m, int n_chunks>
  static void mix(const KeyBlock& b, int dim_begin, const float* weights, float* o) {
    F s[m][n_chunks];
    for (int h = 0; h < m; h++)
      for (int c = 0; c < n_chunks; c++) s[h][c] = V::load(o + h * b.dim + dim_begin + 16 * c);
    for (int j = 0; j < b.n; j++) {
      F key[n_chunks];
      for (int c = 0; c < n_chunks; c++) key[c] = V::load(b.keys + j * b.dim + dim_begin + 16 * c);
      for (int h = 0; h < m; h++) {
        const F w = V::set1(weights[h * kKeyBlock + j]);
        for (int c = 0; c < n_chunks; c++) s[h][c] = V::fma(w, key[c], s[h][c]);
      }
    }
    for (int h = 0; h < m; h++)
      for (int c = 0; c < n_chunks; c++) V::store(o + h * b.dim + dim_begin + 16 * c, s[h][c]);
  }

  template <int m>
  static void heads(const KeyBlock& b, const float* q, float* top, float* sum, float* o,
                    float* weights) {
    scores<m>(b, q, weights);
    for (int h = 0; h < m; h++) weigh(b, weights + h * kKeyBlock, top + h, sum + h, o + h * b.dim);
    constexpr int C = V::kDotOutputs;
    int i = 0;
    for (; i + 16 * C <= b.dim; i += 16 * C) mix<m, C>(b, i, weights, o);
    for (; i + 16 <= b.dim; i += 16) mix<m, 1>(b, i, weights, o);
    for (; i < b.dim; i++)
      for (int h = 0; h < m; h++)
        for (int j = 0; j < b.n; j++)
          o[h * b.dim + i] += weights[h * kKeyBlock + j] * b.keys[j * b.dim + i];
  }

  static void attend(const KeyBlock& b, int n_heads, const float* q, float* top, float* sum,
                     float* o, float* weights) {
    constexpr int M = V::kDotRows;
    int h = 0;
    for (; h + M <= n_heads; h += M)
      heads<M>(b, q + h * b.dim, top + h, sum + h, o + h * b.dim, weights);
    for (; h < n_heads; h++) heads<1>(b, q + h * b.dim, top + h, sum + h, o + h * b.dim, weights);
  }

  static float index_score(const float* q, const float* w, int n_heads, int dim, const float* key) {
    constexpr int kHeads = 8;
    float score = 0;
    for (int h = 0; h < n_heads; h += kHeads) {
      float y[kHeads];
      float* at = y;
      const auto* rows = reinterpret_cast<const std::byte*>(q + h * dim);
      int n = kHeads;
      if (h + kHeads <= n_heads) {
        Products::template dots<DType::kF32, 1, kHeads>(rows, dim * 4, dim, &key, &at, false);
      } else {
        for (n = 0; h + n < n_heads; n++) y[n] = dot(q + (h + n) * dim, key, dim);
      }
      for (int i = 0; i < n; i++) score += w[h + i] * (y[i] > 0 ? y[i] : 0.0f);
    }
    return score;
  }

  static void scale_by(float* x, int64_t n, float factor) {
    const F f = V::set1(factor);
    map(n, x, [&](auto load) { return V::mul(load(x), f); });
  }
  static void norm(const float* x, const float* w, int64_t n, float factor, float* y) {
    const F f = V::set1(factor);
    map(n, y, [&](auto load) { return V::mul(V::mul(load(x), f), load(w)); });
  }
  static void add(const float* b, int64_t n, float* a) {
    map(n, a, [&](auto load) { return V::add(load(a), load(b)); });
  }
  static void swiglu(const float* g, const float* u, int64_t n, float limit, float weight,
                     float* out) {
    const F top = V::set1(limit), bottom = V::set1(-limit), one = V::set1(1), w = V::set1(weight);
    map(n, out, [&](auto load) {
      const F gate = V::min(top, load(g));  // no lower clamp
      const F up = V::max(bottom, V::min(top, load(u)));
      const F silu = V::div(gate, V::add(one, exp(V::sub(V::zero(), gate))));
      return V::mul(V::mul(silu, up), w);
    });
  }
  static void pool_add(const float* s, const float* k, const float* top, int64_t n, float* sum,
                       float* value) {
    const auto part = [&](auto load, auto keep) {
      const F e = exp(V::sub(load(s), load(top)));
      keep(sum, V::add(load(sum), e));
      keep(value, V::fma(e, load(k), load(value)));
    };
    each16(
        n,
        [&](int64_t i) {
          part([i](const float* p) { return V::load(p + i); },
               [i](float* p, F v) { V::store(p + i, v); });
        },
        [&](int64_t i, int64_t m) {
          part([i, m](const float* p) { return load_some(p + i, m); },
               [i, m](float* p, F v) { store_some(p + i, v, m); });
        });
  }
  static void hc_sum(const float* X, const float* gates, int n_hc, int64_t d, float* x) {
    map(d, x, [&](auto load) {
      F s = V::mul(V::set1(gates[0]), load(X));
      for (int h = 1; h < n_hc; h++) s = V::fma(V::set1(gates[h]), load(X + h * d), s);
      return s;
    });
  }
  static constexpr int kMaxStreams = 16;  // check_config holds models to it
  static void hc_post(const float* out, const float* post, const float* comb, int n_hc, int64_t d,
                      float* X) {
    const auto part = [&](auto load, auto keep) {
      F old[kMaxStreams], next;
      for (int j = 0; j < n_hc; j++) old[j] = load(X + j * d);
      const F o = load(out);
      for (int k = 0; k < n_hc; k++) {
        next = V::mul(V::set1(post[k]), o);
        for (int j = 0; j < n_hc; j++) next = V::fma(V::set1(comb[j * n_hc + k]), old[j], next);
        keep(X + k * d, next);
      }
    };
    each16(
        d,
        [&](int64_t i) {
          part([i](const float* p) { return V::load(p + i); },
               [i](float* p, F v) { V::store(p + i, v); });
        },
        [&](int64_t i, int64_t m) {
          part([i, m](const float* p) { return load_some(p + i, m); },
               [i, m](float* p, F v) { store_some(p + i, v, m); });
        });
  }

  static constexpr Kernels table() {
    return {V::kLevel,
            kPlanes,
            Products::kWide,
            quantise16,
            quantise8,
            Products::matmul,
            Products::scratch_bytes,
            dot,
            decode_kv_row,
            attend,
            index_score,
            scale_by,
            norm,
            add,
            swiglu,
            pool_add,
            hc_sum,
            hc_post};
  }
};

}  // namespace narwhal::cpu
