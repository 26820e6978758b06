// Index scores on matrix units, for index rows in trained precision. FP4 codes with powers of two
// are exact as halves, and so are the queries, which went through FP4 as well (values below 2^-24
// vanish); products are summed in f32. A score is the same in any launch: decode and prompts use
// the same arithmetic.
//
// A simd holds a query, all heads, in registers; the keys of a block become halves once for the
// kQueries queries of a group. Where there is one query, the simds share the block's keys.
#pragma once

#include "kernels/kv_rows.h"
#include "kernels/tile.h"

namespace narwhal {
namespace kernels {

// Halves of eight FP4 codes, two a word, before the scale of their block.
k_fn void fp4_halves(uint32_t codes, k_private uint32_t* halves) {
  // The upper byte of every half: sign, exponent and mantissa, too small by 2^14.
  const uint32_t even = (codes & 0x08080808u) << 4 | (codes & 0x07070707u) << 1;
  const uint32_t odd = (codes & 0x80808080u) | (codes >> 3 & 0x0e0e0e0eu);
  for (uint32_t i = 0; i < 4; i++) {
    const uint32_t both = k_permute(even, odd, 0x4000u + i * 0x1111u) & 0xff00ff00u;
    halves[i] = k_half2_mul(both, 0x74007400u);
  }
}

// kHeadTiles * 16 heads at most; kQueries is 1 or kSimds.
template <int kHeadTiles, int kQueries>
struct IndexTile {
  k_value int kThreads = 128, kSimds = 4;
  k_value int kDim = 128, kHeads = 16 * kHeadTiles;
  k_value int kKeys = 32;                       // of a block: each thread decodes a quarter of one
  k_value int kStride = kDim + 8;               // halves; rows start in different banks
  k_value int kSharers = kSimds / kQueries;     // simds of a query
  k_value int kSimdKeys = kKeys / kSharers;     // of a block
  k_value int kStep = kSimdKeys < 16 ? 8 : 16;  // keys multiplied at a time
  // Tiles of heads on their way to registers.
  k_value int kStaged = kQueries == 1 ? kHeadTiles : 1;  // NOLINT(bugprone-branch-clone)
  k_value int kBatch = 8;
  struct Shared {
    uint16_t keys[2 * kKeys * kStride];  // two blocks; heads at first
    float w[kQueries * kHeads];
    float scores[kSimds * kSimdKeys];
  };
  // A quarter of a key as it is stored.
  struct Raw {
    uint32_t codes[4], scale;
  };
  struct Place {
    int32_t page, row;
  };
  Rows b;
  int n_heads, max_rows;
  int spared;             // queries that see no more rows than this need no scores
  int n_splits, stretch;  // groups of a query; blocks in a row that one takes (a power of two)
  PagedView rows;
  k_device const float* q;  // [n][n_heads][kDim]
  k_device const float* w;  // [n][n_heads]
  k_device float* scores;   // [n][max_rows]

  // Rows to score; 0 where they need not be.
  k_call int visible_to(int r) k_const {
    const int visible = min_int((b.position[r] + 1) / 4, max_rows);
    return visible > spared ? visible : 0;
  }

  // The block after `block` that the same group takes.
  k_call int next_block(int block) k_const {
    block++;
    return (block & (stretch - 1)) != 0 ? block : block + (n_splits - 1) * stretch;
  }

  k_call void load_query(k_private const Group& g, k_shared Shared* sh, int r,
                         k_private FragA (&heads)[kHeadTiles][kDim / 16],
                         k_private FragRows (&weights)[kHeadTiles]) k_const {
    const int team = int(g.simd) / kSharers, kMembers = kSharers * kSimd;
    const int member = int(g.index) % kMembers;
    k_shared uint16_t* stage = sh->keys + team * 16 * kStaged * kStride;
    for (int h = member; h < kHeads; h += kMembers)
      sh->w[team * kHeads + h] = h < n_heads ? w[int64_t(r) * n_heads + h] : 0.0f;
    k_unroll for (int first = 0; first < kHeadTiles; first += kStaged) {
      g.barrier();
      for (int i = member; i < 16 * kStaged * kDim / 4; i += kBatch * kMembers) {
        uint32_t v[kBatch][4];  // on their way together
        k_unroll for (int j = 0; j < kBatch; j++) {
          const int at = i + j * kMembers, head = 16 * first + at / (kDim / 4);
          const Word4 four = k_load4(
              q + (int64_t(r) * n_heads + min_int(head, n_heads - 1)) * kDim + at % (kDim / 4) * 4);
          for (int c = 0; c < 4; c++) v[j][c] = four.v[c];
        }
        k_unroll for (int j = 0; j < kBatch; j++) {
          const int h = (i + j * kMembers) / (kDim / 4), d = (i + j * kMembers) % (kDim / 4) * 4;
          const bool there = 16 * first + h < n_heads;
          k_shared uint32_t* to = reinterpret_cast<k_shared uint32_t*>(stage + h * kStride + d);
          for (int c = 0; c < 2; c++)
            to[c] = there ? uint32_t(to_half(k_float(v[j][2 * c]))) |
                                uint32_t(to_half(k_float(v[j][2 * c + 1]))) << 16
                          : 0u;
        }
      }
      g.barrier();
      k_unroll for (int t = 0; t < kStaged; t++) k_unroll for (int k = 0; k < kDim / 16; k++)
          g.load_a(heads[first + t][k], stage + 16 * t * kStride + 16 * k, kStride);
    }
    k_unroll for (int t = 0; t < kHeadTiles; t++)
        g.load_rows(weights[t], sh->w + team * kHeads + 16 * t);
    g.barrier();
  }

  k_call void find(k_private const Group& g, int slot, int block, int visible,
                   k_private Place& place) k_const {
    const int c = min_int(block * kKeys + int(g.index) / 4, visible - 1);
    const int nth = c / rows.rows_per_page;
    place.page = rows.table[int64_t(slot) * rows.max_pages + nth];
    place.row = c - nth * rows.rows_per_page;
  }

  k_call void load_raw(k_private const Group& g, k_private const Place& at,
                       k_private Raw& raw) k_const {
    const int part = int(g.index) % 4;
    k_device const uint8_t* row = rows.pages + at.page * rows.page_stride + rows.offset +
                                  int64_t(at.row) * rows.format.n_bytes;
    k_device const uint32_t* codes = reinterpret_cast<k_device const uint32_t*>(row) + 4 * part;
    for (int i = 0; i < 4; i++) raw.codes[i] = codes[i];
    raw.scale = row[kDim / 2 + part];
  }

  k_call void decode(k_private const Group& g, k_shared Shared* sh, int stage,
                     k_private const Raw& raw) k_const {
    k_shared uint16_t* to =
        sh->keys + (stage * kKeys + int(g.index) / 4) * kStride + int(g.index) % 4 * (kDim / 4);
    const uint32_t one = k_f32_to_f16(min_float(e8m0_to_f32(raw.scale), 8192.0f));  // 6 * it fits
    const uint32_t scale = one | one << 16;
    k_unroll for (int i = 0; i < 4; i++) {
      Word4 halves;
      fp4_halves(raw.codes[i], halves.v);
      for (int j = 0; j < 4; j++) halves.v[j] = k_half2_mul(halves.v[j], scale);
      k_store4(to + 8 * i, halves);
    }
  }

  k_call void multiply(k_private const Group& g, k_shared Shared* sh, int stage,
                       k_private const FragA (&heads)[kHeadTiles][kDim / 16],
                       k_private const FragRows (&weights)[kHeadTiles]) k_const {
    const int first = int(g.simd) % kSharers * kSimdKeys;
    for (int key = 0; key < kSimdKeys; key += kStep) {
      k_shared const uint16_t* keys = sh->keys + (stage * kKeys + first + key) * kStride;
      FragC dots[kHeadTiles][2];
      k_unroll for (int t = 0; t < kHeadTiles; t++) {
        g.clear(dots[t][0]);
        if (kStep == 16) g.clear(dots[t][1]);
      }
      k_unroll for (int k = 0; k < kDim / 16; k++) {
        FragB part[2];
        if (kStep == 16)
          g.load_b_pair(part, keys + 16 * k, kStride);
        else
          g.load_b(part[0], keys + 16 * k, kStride);
        k_unroll for (int t = 0; t < kHeadTiles; t++) {
          g.mma(dots[t][0], heads[t][k], part[0]);
          if (kStep == 16) g.mma(dots[t][1], heads[t][k], part[1]);
        }
      }
      k_unroll for (int i = 0; i < kStep / 8; i++) {
        FragC sum;
        g.clear(sum);
        k_unroll for (int t = 0; t < kHeadTiles; t++) g.add_relu(sum, dots[t][i], weights[t]);
        g.store_column_sums(sum, sh->scores + int(g.simd) * kSimdKeys + key + 8 * i);
      }
    }
  }

  k_call void store(k_private const Group& g, k_shared Shared* sh, int block, int r) k_const {
    g.simd_barrier();
    const int first = block * kKeys + int(g.simd) % kSharers * kSimdKeys, visible = visible_to(r);
    for (int i = int(g.lane); i < kSimdKeys && first + i < visible; i += kSimd)
      scores[int64_t(r) * max_rows + first + i] = sh->scores[int(g.simd) * kSimdKeys + i];
    g.simd_barrier();
  }

  // Rows [begin, end), all of one slot; r is the simd's, which need not be among them.
  k_call void score_rows(k_private const Group& g, k_shared Shared* sh, int begin, int end, int r,
                         int split, k_private const FragA (&heads)[kHeadTiles][kDim / 16],
                         k_private const FragRows (&weights)[kHeadTiles]) k_const {
    const int slot = b.slot[begin];
    int visible = 0;
    for (int i = begin; i < end; i++) visible = max_int(visible, visible_to(i));
    const int blocks = (visible + kKeys - 1) / kKeys;
    int block = split * stretch;
    if (block >= blocks) return;
    const bool mine = r >= begin && r < end;
    int next = next_block(block);
    Raw raw;
    Place place;
    find(g, slot, block, visible, place);
    load_raw(g, place, raw);
    find(g, slot, next, visible, place);
    for (int stage = 0; block < blocks; stage = 1 - stage) {
      decode(g, sh, stage, raw);
      g.barrier();
      load_raw(g, place, raw);
      const int present = block;
      block = next;
      next = next_block(next);
      find(g, slot, next, visible, place);
      if (!mine || present * kKeys >= visible_to(r)) continue;
      multiply(g, sh, stage, heads, weights);
      store(g, sh, present, r);
    }
    g.barrier();
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    // The last rows see most: they go first.
    const int parts = (b.n + kQueries - 1) / kQueries;
    const int split = int(g.group) % n_splits;
    const int r0 = (parts - 1 - int(g.group) / n_splits) * kQueries;
    const int stop = min_int(r0 + kQueries, b.n), r = r0 + int(g.simd) / kSharers;
    int most = 0;
    for (int i = r0; i < stop; i++) most = max_int(most, visible_to(i));
    if (split * stretch * kKeys >= most) return;
    FragA heads[kHeadTiles][kDim / 16];
    FragRows weights[kHeadTiles];
    load_query(g, sh, min_int(r, b.n - 1), heads, weights);
    for (int begin = r0; begin < stop;) {
      int end = begin + 1;
      while (end < stop && b.slot[end] == b.slot[begin]) end++;
      score_rows(g, sh, begin, end, r, split, heads, weights);
      begin = end;
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
