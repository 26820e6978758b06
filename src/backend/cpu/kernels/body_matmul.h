// Products with quantised and plain weights: one template per level V (vec_*.h), the same
// operations in the same order for one activation row or many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "backend/cpu/kernels/body_unpack.h"
#include "backend/cpu/kernels/kernels.h"
#include "quant/quant.h"

namespace narwhal::cpu {

template <class V>
struct Stream;  // stream_avx512.h, where V::kStreams
template <class V>
struct Pairs;  // pairs_neon.h, where V::kPairs

template <class V>
struct Matmul {
  using F = typename V::F;
  using I = typename V::I;
  using W = typename V::W;
  using U = Unpack<V>;

  static constexpr int M = V::kTileRows, P = V::kTilePanels;
  static constexpr int kMaxPanels = 8;         // panels unpacked together for many rows
  static constexpr int kRowBlock = 96;         // rows multiplied by them at a time
  static constexpr int64_t kPartInputs = 512;  // inputs that stay in the first-level cache
  static constexpr int64_t kAhead = 1024;      // bytes asked for before they are needed
  static constexpr int64_t kWide = kMaxPanels * kLanes;

  // ---- Blocks of 32, 16-bit activations. sums[m * stride + p * 16 + l] continue over blocks.
  template <int m_rows, int n_panels>
  static void tile(const Panel32* panels, int64_t panel_stride, int64_t block, int64_t n_blocks,
                   const std::byte* const* acts, const ActLayout& a, float* const* sums) {
    constexpr int kSplit = m_rows * n_panels >= 6 ? 1 : 4;  // independent chains
    F f[m_rows][n_panels];
    for (int m = 0; m < m_rows; m++)
      for (int p = 0; p < n_panels; p++) f[m][p] = V::load(sums[m] + p * kLanes);
    for (int64_t b = 0; b < n_blocks; b++) {
      I s[kSplit][m_rows][n_panels];
      for (int c = 0; c < kSplit; c++)
        for (int m = 0; m < m_rows; m++)
          for (int p = 0; p < n_panels; p++) s[c][m][p] = V::iset1(0);
      const std::byte* q[m_rows];
      for (int m = 0; m < m_rows; m++) q[m] = acts[m] + (block + b) * 64;
#pragma GCC unroll 16
      for (int k = 0; k < 16; k++) {
        W w[n_panels];
        for (int p = 0; p < n_panels; p++) w[p] = V::wload(panels[p * panel_stride + b].w[k]);
        for (int m = 0; m < m_rows; m++)
          for (int p = 0; p < n_panels; p++)
            s[k % kSplit][m][p] = V::dp16(s[k % kSplit][m][p], w[p], q[m] + 4 * k);
      }
      for (int m = 0; m < m_rows; m++) {
        float scale;
        std::memcpy(&scale, acts[m] + a.scale + 4 * (block + b), 4);
        const F sx = V::set1(scale);
        for (int p = 0; p < n_panels; p++) {
          I total = s[0][m][p];
          for (int c = 1; c < kSplit; c++) total = V::iadd(total, s[c][m][p]);
          const F d = V::mul(V::load(panels[p * panel_stride + b].d), sx);
          f[m][p] = V::add(f[m][p], V::mul(V::to_float(total), d));
        }
      }
    }
    for (int m = 0; m < m_rows; m++)
      for (int p = 0; p < n_panels; p++) V::store(sums[m] + p * kLanes, f[m][p]);
  }

  // ---- Blocks of 256, 8-bit activations. kGroups: a scale per 32 inputs; kStart: weights are 64
  // too large; kMins: 16-bit pairs of minima (4 or 8), 0 for none.
  template <int m_rows, int n_panels, bool kGroups, bool kStart, int kMins>
  static void tile256(const Panel256* panels, int64_t panel_stride, int64_t block, int64_t n_blocks,
                      const std::byte* const* acts, const ActLayout& a, float* const* sums) {
    constexpr int kSplit = m_rows * n_panels >= 6 ? 1 : 4;
    for (int64_t b = 0; b < n_blocks; b++) {
      I total[m_rows][n_panels], s[kSplit][m_rows][n_panels];
      for (int m = 0; m < m_rows; m++)
        for (int p = 0; p < n_panels; p++) {
          total[m][p] = V::iset1(0);
          for (int c = 0; c < kSplit; c++) s[c][m][p] = V::iset1(0);
        }
      for (int g = 0; g < 8; g++) {
        if constexpr (kGroups)
          for (int m = 0; m < m_rows; m++) {
            int32_t start = 0;
            if constexpr (kStart)
              std::memcpy(&start, acts[m] + a.start + 4 * (8 * (block + b) + g), 4);
            for (int p = 0; p < n_panels; p++) {
              s[0][m][p] = V::iset1(start);
              for (int c = 1; c < kSplit; c++) s[c][m][p] = V::iset1(0);
            }
          }
        const int64_t at = 256 * (block + b) + 32 * g;
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
          W w[n_panels];
          for (int p = 0; p < n_panels; p++)
            w[p] = V::wload(panels[p * panel_stride + b].w[8 * g + k]);
          for (int m = 0; m < m_rows; m++)
            for (int p = 0; p < n_panels; p++)
              s[k % kSplit][m][p] = V::dp8(s[k % kSplit][m][p], w[p], acts[m] + at + 4 * k);
        }
        if constexpr (kGroups)
          for (int p = 0; p < n_panels; p++) {
            const I scale = V::iload(panels[p * panel_stride + b].scale[g]);
            for (int m = 0; m < m_rows; m++) {
              I sum = s[0][m][p];
              for (int c = 1; c < kSplit; c++) sum = V::iadd(sum, s[c][m][p]);
              total[m][p] = V::iadd(total[m][p], V::imul(sum, scale));
            }
          }
      }
      for (int m = 0; m < m_rows; m++) {
        float scale;
        std::memcpy(&scale, acts[m] + a.scale + 4 * (block + b), 4);
        const F dx = V::set1(scale);
        for (int p = 0; p < n_panels; p++) {
          const Panel256& panel = panels[p * panel_stride + b];
          if constexpr (!kGroups)
            for (int c = 0; c < kSplit; c++) total[m][p] = V::iadd(total[m][p], s[c][m][p]);
          F value = V::mul(V::mul(dx, V::load(panel.d)), V::to_float(total[m][p]));
          if constexpr (kMins > 0) {
            I minima = V::iset1(0);
            const std::byte* sums_of =
                acts[m] + (kMins == 8 ? a.sum16 : a.sum32) + 4 * kMins * (block + b);
            for (int t = 0; t < kMins; t++)
              minima = V::dp16(minima, V::wload(panel.mins[t]), sums_of + 4 * t);
            value = V::sub(value, V::mul(V::mul(dx, V::load(panel.dmin)), V::to_float(minima)));
          }
          float* sum = sums[m] + p * kLanes;
          V::store(sum, V::add(V::load(sum), value));
        }
      }
    }
  }

  // Picks the tile for a weight type.
  template <int m_rows, int n_panels>
  static void any_tile(DType, const BytePanel32* panels, int64_t, int64_t block, int64_t n_blocks,
                       const std::byte* const* acts, const ActLayout& a, float* const* sums) {
    static_assert(n_panels == 1);
    Pairs<V>::template tile<m_rows>(panels, block, n_blocks, acts, a, sums);
  }
  template <int m_rows, int n_panels>
  static void any_tile(DType, const Panel32* panels, int64_t panel_stride, int64_t block,
                       int64_t n_blocks, const std::byte* const* acts, const ActLayout& a,
                       float* const* sums) {
    tile<m_rows, n_panels>(panels, panel_stride, block, n_blocks, acts, a, sums);
  }
  template <int m_rows, int n_panels>
  static void any_tile(DType type, const Panel256* panels, int64_t panel_stride, int64_t block,
                       int64_t n_blocks, const std::byte* const* acts, const ActLayout& a,
                       float* const* sums) {
    const auto run = [&]<bool kGroups, bool kStart, int kMins>() {
      if constexpr (V::kPairs)
        Pairs<V>::template tile256<m_rows, kGroups, kStart, kMins>(panels, block, n_blocks, acts, a,
                                                                   sums);
      else
        tile256<m_rows, n_panels, kGroups, kStart, kMins>(panels, panel_stride, block, n_blocks,
                                                          acts, a, sums);
    };
    if (type == DType::kQ2_K)
      run.template operator()<false, false, 8>();
    else if (type == DType::kQ4_K)
      run.template operator()<true, false, 4>();
    else
      run.template operator()<true, true, 0>();
  }

  // Rows [0, n) by n_panels panels, in the largest tiles that fit.
  template <int m_rows, class Panel>
  static void rows_of(DType type, const Panel* panels, int64_t panel_stride, int64_t n_panels,
                      int64_t block, int64_t n_blocks, const std::byte* const* acts, int n,
                      const ActLayout& a, float* const* sums) {
    int r = 0;
    for (; r + m_rows <= n; r += m_rows) {
      int64_t p = 0;
      float* at[m_rows];
      for (; p + P <= n_panels; p += P) {
        for (int m = 0; m < m_rows; m++) at[m] = sums[r + m] + p * kLanes;
        any_tile<m_rows, P>(type, panels + p * panel_stride, panel_stride, block, n_blocks,
                            acts + r, a, at);
      }
      for (; p < n_panels; p++) {
        for (int m = 0; m < m_rows; m++) at[m] = sums[r + m] + p * kLanes;
        any_tile<m_rows, 1>(type, panels + p * panel_stride, panel_stride, block, n_blocks,
                            acts + r, a, at);
      }
    }
    if constexpr (m_rows > 1)
      rows_of<m_rows - 1>(type, panels, panel_stride, n_panels, block, n_blocks, acts + r, n - r, a,
                          sums + r);
  }

  template <class Panel>
  static void unpack(const MatmulJob& job, const Iq2Tables& t, const typename U::Rows& rows,
                     int64_t block, Panel* out) {
    if constexpr (std::is_same_v<Panel, Panel256>)
      U::panel(job.w.type, t, rows, block, out);
    else
      U::panel(job.w.type, rows, block, out);
    if constexpr (V::kPairs) Pairs<V>::prepare(job.w.type, out);
  }

  // Sums of a row block go to y: added to it, or as they are.
  static void put(const MatmulJob& job, int r, int64_t begin, int64_t count, const float* sums) {
    float* y = job.out(r) + begin;
    if (job.accumulate) {
      for (int64_t i = 0; i < count; i++) y[i] += sums[i];
    } else {
      std::memcpy(y, sums, count * sizeof(float));
    }
  }

  // Unpacks each part of the weights once into the first-level cache and uses it for a few rows.
  template <class Panel>
  static void few_rows(const MatmulJob& job, const ActLayout& a, int64_t per_block, int64_t begin,
                       int64_t end, std::byte* memory) {
    auto* panels = reinterpret_cast<Panel*>(memory);
    alignas(64) float sums[kRowBlock * kLanes];
    const std::byte* acts[kRowBlock];
    float* at[kRowBlock];
    for (int r = 0; r < job.n; r++) {
      acts[r] = job.act(r);
      at[r] = sums + r * kLanes;
    }
    const Iq2Tables& tables = iq2_tables();
    const int64_t n_blocks = job.w.n_in / per_block, part = kPartInputs / per_block;
    for (int64_t o = begin; o < end; o += kLanes) {
      const typename U::Rows rows(job.w, o);
      std::memset(sums, 0, job.n * kLanes * sizeof(float));
      for (int64_t b = 0; b < n_blocks; b += part) {
        const int64_t count = b + part < n_blocks ? part : n_blocks - b;
        for (int64_t i = 0; i < count; i++) unpack(job, tables, rows, b + i, panels + i);
        rows_of<M>(job.w.type, panels, 0, 1, b, count, acts, job.n, a, at);
      }
      const int64_t count = o + kLanes < end ? kLanes : end - o;
      for (int r = 0; r < job.n; r++) put(job, r, o, count, at[r]);
    }
  }

  // Unpacks some outputs whole into the second-level cache and uses them for all rows.
  template <class Panel>
  static void many_rows(const MatmulJob& job, const ActLayout& a, int64_t per_block, int64_t begin,
                        int64_t end, std::byte* memory) {
    auto* sums = reinterpret_cast<float*>(memory);
    auto* panels = reinterpret_cast<Panel*>(memory + kRowBlock * kWide * sizeof(float));
    const Iq2Tables& tables = iq2_tables();
    const int64_t n_blocks = job.w.n_in / per_block, part = kPartInputs / per_block;
    for (int64_t o = begin; o < end; o += kWide) {
      const int64_t stop = o + kWide < end ? o + kWide : end;
      const int64_t n_panels = (stop - o + kLanes - 1) / kLanes;
      for (int64_t p = 0; p < n_panels; p++) {
        const typename U::Rows rows(job.w, o + p * kLanes);
        for (int64_t b = 0; b < n_blocks; b++)
          unpack(job, tables, rows, b, panels + p * n_blocks + b);
      }
      for (int first = 0; first < job.n; first += kRowBlock) {
        const int n = first + kRowBlock < job.n ? kRowBlock : job.n - first;
        const std::byte* acts[kRowBlock];
        float* at[kRowBlock];
        for (int r = 0; r < n; r++) acts[r] = job.act(first + r);
        std::memset(sums, 0, n * kWide * sizeof(float));
        for (int64_t b = 0; b < n_blocks; b += part) {
          const int64_t count = b + part < n_blocks ? part : n_blocks - b;
          for (int64_t p = 0; p < n_panels; p += P) {
            for (int r = 0; r < n; r++) at[r] = sums + r * kWide + p * kLanes;
            rows_of<M>(job.w.type, panels + p * n_blocks + b, n_blocks,
                       p + P < n_panels ? P : n_panels - p, b, count, acts, n, a, at);
          }
        }
        for (int r = 0; r < n; r++) put(job, first + r, o, stop - o, sums + r * kWide);
      }
    }
  }

  // ---- Plain weights: 16 running sums per output.
  static F load_weights(DType type, const std::byte* p, int64_t i) {
    if (type == DType::kF16) return V::load_f16(p + 2 * i);
    if (type == DType::kBF16) return V::load_bf16(p + 2 * i);
    return V::load(reinterpret_cast<const float*>(p) + i);
  }
  // The last n < 16 values, filled up with zeros.
  static F load_weights_end(DType type, const std::byte* p, int64_t i, int64_t n) {
    alignas(64) std::byte padded[64] = {};
    const int64_t size = type == DType::kF32 ? 4 : 2;
    std::memcpy(padded, p + size * i, size * n);
    return load_weights(type, padded, 0);
  }
  static F load_end(const float* x, int64_t n) {
    alignas(64) float padded[16] = {};
    std::memcpy(padded, x, 4 * n);
    return V::load(padded);
  }

  template <DType type, int m_rows, int n_outputs>
  static void dots(const std::byte* w, int64_t w_stride, int64_t n_in, const float* const* x,
                   float* const* y, bool accumulate) {
    F s[m_rows][n_outputs];
    for (int m = 0; m < m_rows; m++)
      for (int o = 0; o < n_outputs; o++) s[m][o] = V::zero();
    int64_t i = 0;
    for (; i + 16 <= n_in; i += 16) {
      if constexpr (type != DType::kF32 && m_rows == 1)  // a matvec: from memory
        for (int o = 0; o < n_outputs && i % 32 == 0; o++)
          V::prefetch(w + o * w_stride + 2 * i + kAhead);
      F v[n_outputs];
      for (int o = 0; o < n_outputs; o++) v[o] = load_weights(type, w + o * w_stride, i);
      for (int m = 0; m < m_rows; m++) {
        const F xm = V::load(x[m] + i);
        for (int o = 0; o < n_outputs; o++) s[m][o] = V::fma(v[o], xm, s[m][o]);
      }
    }
    if (i < n_in)
      for (int o = 0; o < n_outputs; o++) {
        const F v = load_weights_end(type, w + o * w_stride, i, n_in - i);
        for (int m = 0; m < m_rows; m++) s[m][o] = V::fma(v, load_end(x[m] + i, n_in - i), s[m][o]);
      }
    for (int m = 0; m < m_rows; m++)
      for (int o = 0; o < n_outputs; o++) {
        const float sum = V::sum(s[m][o]);
        y[m][o] = accumulate ? y[m][o] + sum : sum;
      }
  }

  template <DType type, int m_rows>
  static void dot_rows(const MatmulJob& job, const std::byte* w, int64_t w_stride, int64_t begin,
                       int64_t end, int first) {
    constexpr int O = m_rows == 1 ? 8 : V::kDotOutputs;
    const float* x[m_rows];
    float* y[m_rows];
    int64_t o = begin;
    const auto aim = [&] {
      for (int m = 0; m < m_rows; m++) {
        x[m] = reinterpret_cast<const float*>(job.act(first + m));
        y[m] = job.out(first + m) + o;
      }
      return w + (o - begin) * w_stride;
    };
    for (; o + O <= end; o += O) {
      const std::byte* at = aim();
      dots<type, m_rows, O>(at, w_stride, job.w.n_in, x, y, job.accumulate);
    }
    for (; o < end; o++) {
      const std::byte* at = aim();
      dots<type, m_rows, 1>(at, w_stride, job.w.n_in, x, y, job.accumulate);
    }
  }

  template <DType type>
  static void plain_rows(const MatmulJob& job, const std::byte* w, int64_t stride, int64_t begin,
                         int64_t end, int first = 0) {
    int r = first;
    for (; r + V::kDotRows <= job.n; r += V::kDotRows)
      dot_rows<type, V::kDotRows>(job, w, stride, begin, end, r);
    for (; r < job.n; r++) dot_rows<type, 1>(job, w, stride, begin, end, r);
  }

  static constexpr int64_t kPlainOutputs = 16;  // widened together
  static constexpr int kPlainRows = 32;         // that share a part of them in the cache

  // The running sums of `dots` over inputs [begin, end), a multiple of 16 apart, continued.
  template <int m_rows, int n_outputs>
  static void dots_part(const float* w, int64_t w_stride, int64_t begin, int64_t end,
                        const float* const* x, F* state) {
    F s[m_rows][n_outputs];
    for (int m = 0; m < m_rows; m++)
      for (int o = 0; o < n_outputs; o++) s[m][o] = state[m * kPlainOutputs + o];
    for (int64_t i = begin; i < end; i += 16) {
      F v[n_outputs];
      for (int o = 0; o < n_outputs; o++) v[o] = V::load(w + o * w_stride + i);
      for (int m = 0; m < m_rows; m++) {
        const F xm = V::load(x[m] + i);
        for (int o = 0; o < n_outputs; o++) s[m][o] = V::fma(v[o], xm, s[m][o]);
      }
    }
    for (int m = 0; m < m_rows; m++)
      for (int o = 0; o < n_outputs; o++) state[m * kPlainOutputs + o] = s[m][o];
  }

  // What plain_rows does, for whole tiles of rows and outputs and n_in a multiple of 16: part by
  // part, so that weights come from the first-level cache.
  static void plain_tiles(const MatmulJob& job, const float* w, int64_t begin, int64_t end,
                          int first, int n) {
    constexpr int kM = V::kDotRows, kO = V::kDotOutputs;
    const int64_t n_in = job.w.n_in;
    F state[kPlainRows * kPlainOutputs];
    for (int r = 0; r < n; r++)
      for (int64_t o = 0; o < end - begin; o++) state[r * kPlainOutputs + o] = V::zero();
    for (int64_t i = 0; i < n_in; i += kPartInputs) {
      const int64_t stop = i + kPartInputs < n_in ? i + kPartInputs : n_in;
      for (int r = 0; r < n; r += kM) {
        const float* x[kM];
        for (int m = 0; m < kM; m++) x[m] = reinterpret_cast<const float*>(job.act(first + r + m));
        for (int64_t o = 0; o < end - begin; o += kO) {
          dots_part<kM, kO>(w + o * n_in, n_in, i, stop, x, &state[r * kPlainOutputs + o]);
        }
      }
    }
    for (int r = 0; r < n; r++)
      for (int64_t o = begin; o < end; o++) {
        float& y = job.out(first + r)[o];
        const float sum = V::sum(state[r * kPlainOutputs + o - begin]);
        y = job.accumulate ? y + sum : sum;
      }
  }

  static void plain(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
    const int64_t n_in = job.w.n_in;
    const bool packed = act_kind(job.w.type) != ActKind::kF32;
    if (!packed && job.n < 8) {
      const int64_t stride = job.w.row_bytes();
      const std::byte* w = job.w.row(begin);
      if (job.w.type == DType::kF16)
        plain_rows<DType::kF16>(job, w, stride, begin, end);
      else if (job.w.type == DType::kBF16)
        plain_rows<DType::kBF16>(job, w, stride, begin, end);
      else
        plain_rows<DType::kF32>(job, w, stride, begin, end);
      return;
    }
    auto* wide = reinterpret_cast<float*>(memory);
    for (int64_t o = begin; o < end; o += kPlainOutputs) {
      const int64_t stop = o + kPlainOutputs < end ? o + kPlainOutputs : end;
      for (int64_t j = o; j < stop; j++) {
        float* row = wide + (j - o) * n_in;
        if (packed) {
          quant::decode_row(job.w.type, job.w.row(j), n_in, row);
          continue;
        }
        int64_t i = 0;
        for (; i + 16 <= n_in; i += 16)
          V::store(row + i, load_weights(job.w.type, job.w.row(j), i));
        if (i < n_in) {
          alignas(64) float end_of_row[16];
          V::store(end_of_row, load_weights_end(job.w.type, job.w.row(j), i, n_in - i));
          std::memcpy(row + i, end_of_row, (n_in - i) * 4);
        }
      }
      int r = 0;
      if (n_in % 16 == 0 && (stop - o) % V::kDotOutputs == 0)
        while (job.n - r >= V::kDotRows) {
          const int rows = job.n - r < kPlainRows ? job.n - r : kPlainRows;
          plain_tiles(job, wide, o, stop, r, rows / V::kDotRows * V::kDotRows);
          r += rows / V::kDotRows * V::kDotRows;
        }
      plain_rows<DType::kF32>(job, memory, n_in * 4, o, stop, r);
    }
  }

  template <class Panel>
  static void quantised(const MatmulJob& job, int64_t per_block, int64_t begin, int64_t end,
                        std::byte* memory) {
    const ActLayout layout(job.kind, job.w.n_in, /*planes=*/V::kPairs);
    if constexpr (V::kStreams) {
      if (Stream<V>::takes(job)) {
        const int64_t whole = begin + (end - begin) / kLanes * kLanes;
        Stream<V>::matmul(job, begin, whole, memory);
        begin = whole;
      }
    }
    if (job.n <= 8)
      few_rows<Panel>(job, layout, per_block, begin, end, memory);
    else
      many_rows<Panel>(job, layout, per_block, begin, end, memory);
  }

  static void matmul(const MatmulJob& job, int64_t begin, int64_t end, std::byte* memory) {
    if (job.kind == ActKind::kF32)
      plain(job, begin, end, memory);
    else if (job.kind == ActKind::kInt16)
      quantised<std::conditional_t<V::kPairs, BytePanel32, Panel32>>(job, 32, begin, end, memory);
    else
      quantised<Panel256>(job, 256, begin, end, memory);
  }

  static int64_t scratch_bytes(int64_t n_in) {
    const int64_t panels = kMaxPanels * (n_in / 32 + 1) * static_cast<int64_t>(sizeof(Panel32));
    return kRowBlock * kWide * 4 + panels + kPlainOutputs * n_in * 4;
  }
};

}  // namespace narwhal::cpu
