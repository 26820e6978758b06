// Stored blocks into planes (kernels/weights.h), as weights come to the device.
#pragma once

#include "kernels/portable.h"

namespace narwhal {
namespace kernels {

// What becomes of the 16 bytes of a plane that a lane writes.
k_value int kAsStored = 0;
k_value int kSignBytes = 1;   // of IQ2_XXS: groups' fields of seven signs in bytes
k_value int kUnitScales = 2;  // of Q2_K: the scales of a block by unit

// The second word of a group: four fields of seven bits and a scale of four, into bytes of both.
k_fn uint32_t sign_bytes(uint32_t w) {
  uint32_t out = 0;
  k_unroll for (int i = 0; i < 4; i++) out |= ((w >> 7 * i & 127u) << 1 | (w >> (28 + i) & 1u))
                                              << 8 * i;
  return out;
}

k_fn void change_plane(int change, k_private Word4& w) {
  if (change == kSignBytes) {
    w.v[1] = sign_bytes(w.v[1]);
    w.v[3] = sign_bytes(w.v[3]);
  } else if (change == kUnitScales) {  // run s of unit 2a + h is sub-block 8a + h + 2s
    const Word4 by_block = w;
    k_unroll for (int u = 0; u < 4; u++) w.v[u] =
        k_permute(by_block.v[u / 2 * 2], by_block.v[u / 2 * 2 + 1], u % 2 == 0 ? 0x6420u : 0x7531u);
  }
}

// Blocks [first, first + n) of a stack of matrices. Of a matrix the blocks of `stripe` rows are
// laid side by side: byte j of block b of row s * stripe + r goes to plane p at
// ((s * row_blocks + b) * stripe + r) * width + j - begin of that plane.
//
// A simd brings a run, up to `run` neighbouring blocks of every row of a stripe, into shared memory
// as they lie, 16 bytes a lane, and writes their part of each plane 16 bytes a lane, from wherever
// in the blocks those come.
struct Repack {
  k_value int kThreads = 128, kSimds = kThreads / kSimd, kMaxPlanes = 3, kMostRows = 8;
  k_value int kRunBytes = 5376;  // 64 blocks of Q2_K, 32 of the longest kind
  // With room in every row for what lies before the first block in its 16 bytes and for as much
  // behind the last.
  k_value int kPartWords = (kRunBytes + 48 * kMostRows) / 4;
  struct Shared {
    uint32_t part[kSimds * kPartWords];
  };
  k_device const uint8_t* src;  // [n][block_bytes]
  k_device uint8_t* dst;        // the whole stack
  int64_t first, n, n_rows, row_blocks, matrix_bytes;
  int64_t first_run;  // that has any of the blocks
  int stripe, run, block_bytes, n_planes;
  int begin[kMaxPlanes], shift[kMaxPlanes];  // of a plane's bytes within a block; log2 of the width
  int change[kMaxPlanes];                    // of planes of 16 bytes and more

  // Blocks [begin, end) of row r of a run that are among those to be moved; `at`: where the first
  // lies in the run's part of shared memory.
  struct Piece {
    int begin, end, at;
  };
  struct Run {
    int64_t row, block, low;  // the first row and block; the first to be moved, in this matrix
    int count;                // blocks of a row
  };
  k_call int64_t stored(k_private const Run& of, int r) k_const {
    return (of.row + r) * row_blocks + of.block;
  }
  k_call void find(k_private const Run& of, int r, k_private Piece& p) k_const {
    p.begin = p.end = p.at = 0;
    if (of.row + r >= n_rows) return;
    const int64_t before = of.low - stored(of, r);
    p.begin = before <= 0 ? 0 : before >= of.count ? of.count : int(before);
    p.end = before + n >= of.count ? of.count : before + n <= 0 ? 0 : int(before + n);
    k_device const uint8_t* from = src + (p.begin - before) * block_bytes;
    p.at = r * pitch() + int(reinterpret_cast<uint64_t>(from) & 15) - p.begin * block_bytes;
  }
  k_call int pitch() k_const { return (run * block_bytes + 47) / 16 * 16; }

  // Four bytes from any place.
  k_call uint32_t word(k_shared const uint32_t* part, int at) k_const {
    k_shared const uint32_t* words = part + at / 4;
    return uint32_t((uint64_t(words[1]) << 32 | words[0]) >> at % 4 * 8);
  }
  // Where byte i of plane p of the run lies in its part of shared memory; negative where that block
  // is not to be moved.
  k_call int place(k_private const Run& of, int i, int p) k_const {
    const int block = i >> shift[p], column = block / stripe;
    Piece row;
    find(of, block - column * stripe, row);
    if (column < row.begin || column >= row.end) return -1;
    return row.at + column * block_bytes + begin[p] + (i & ((1 << shift[p]) - 1));
  }

  k_call void write(k_private const Group& g, k_shared const uint32_t* part,
                    k_private const Run& of, int p, k_device uint8_t* to) k_const {
    k_shared const uint8_t* bytes = reinterpret_cast<k_shared const uint8_t*>(part);
    const int n_bytes = of.count * stripe << shift[p];
    if (shift[p] >= 4) {
      for (int i = int(g.lane) * 16; i < n_bytes; i += kSimd * 16) {
        const int at = place(of, i, p);
        if (at < 0) continue;
        Word4 w;
        for (int j = 0; j < 4; j++) w.v[j] = word(part, at + 4 * j);
        change_plane(change[p], w);
        k_store4(to + i, w);
      }
      return;
    }
    for (int i = int(g.lane) * 4; i < n_bytes; i += kSimd * 4) {
      uint32_t w = 0;
      int there = 0;
      for (int j = 0; j < 4; j++) {
        const int at = i + j < n_bytes ? place(of, i + j, p) : -1;
        if (at < 0) continue;
        w |= uint32_t(bytes[at]) << 8 * j;
        there |= 1 << j;
      }
      if (there == 15 && (reinterpret_cast<uint64_t>(to) & 3) == 0)
        *reinterpret_cast<k_device uint32_t*>(to + i) = w;
      else
        for (int j = 0; j < 4; j++)
          if (there >> j & 1) to[i + j] = uint8_t(w >> 8 * j);
    }
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int64_t across = (row_blocks + run - 1) / run, stripes = (n_rows + stripe - 1) / stripe;
    const int64_t mine = first_run + int64_t(g.group) * kSimds + g.simd;
    const int64_t matrix = mine / (stripes * across), nth = mine - matrix * stripes * across;
    Run of;
    of.row = nth / across * stripe;
    of.block = nth % across * run;
    of.low = first - matrix * n_rows * row_blocks;
    of.count = int(row_blocks - of.block < run ? row_blocks - of.block : run);
    k_shared uint32_t* part = sh->part + g.simd * kPartWords;
    for (int r = 0; r < stripe; r++) {
      Piece row;
      find(of, r, row);
      if (row.begin >= row.end) continue;
      g.copy_row(reinterpret_cast<k_shared uint8_t*>(part) + r * pitch(),
                 src + (stored(of, r) + row.begin - of.low) * block_bytes,
                 (row.end - row.begin) * block_bytes);
    }
    g.copy_wait();
    g.simd_barrier();
    k_device uint8_t* to = dst + matrix * matrix_bytes;
    const int64_t before = of.row * row_blocks + of.block * stripe;
    for (int p = 0; p < n_planes; p++) {
      write(g, part, of, p, to + (before << shift[p]));
      to += stripes * stripe * row_blocks << shift[p];
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
