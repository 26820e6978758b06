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
  k_unroll for (int i = 0; i < 4; i++) out |= (w >> 7 * i & 127u) << 8 * i | (w >> (28 + i) & 1u)
                                                                                 << (8 * i + 7);
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

// Blocks [first, first + n) of a stack of matrices: byte j of block b of a matrix goes to plane p
// at b * width + j - begin of that plane. A simd brings `run` neighbouring blocks into shared
// memory as they lie, 16 bytes a lane, and writes their part of each plane 16 bytes a lane, from
// wherever in the blocks those come. Runs start at multiples of `run` in a matrix, so that their
// parts of all planes start at words.
struct Repack {
  k_value int kThreads = 128, kSimds = kThreads / kSimd, kMaxPlanes = 3;
  k_value int kRunBytes = 4608;  // 32 blocks of the longest kind
  // With room for what lies before the first block in its 16 bytes, and for a word behind the last.
  k_value int kPartWords = (kRunBytes + 32) / 4;
  struct Shared {
    uint32_t part[kSimds * kPartWords];
  };
  k_device const uint8_t* src;                               // [n][block_bytes]
  k_device uint8_t* dst;                                     // the whole stack
  int64_t first, n, first_run, matrix_blocks, matrix_bytes;  // first_run: the one that has `first`
  int run, block_bytes, n_planes;
  int begin[kMaxPlanes], shift[kMaxPlanes];  // of a plane's bytes within a block; log2 of the width
  int change[kMaxPlanes];                    // of planes of 16 bytes and more

  // Where byte i of plane p lies in a run of blocks.
  k_call int place(int i, int p) k_const {
    return (i >> shift[p]) * block_bytes + begin[p] + (i & ((1 << shift[p]) - 1));
  }
  // Four bytes from any place.
  k_call uint32_t word(k_shared const uint32_t* part, int at) k_const {
    k_shared const uint32_t* words = part + at / 4;
    return uint32_t((uint64_t(words[1]) << 32 | words[0]) >> at % 4 * 8);
  }

  // Plane p of `count` blocks, the first of which starts at byte `at` of the part.
  k_call void write(k_private const Group& g, k_shared const uint32_t* part, int at, int count,
                    int p, k_device uint8_t* to) k_const {
    k_shared const uint8_t* bytes = reinterpret_cast<k_shared const uint8_t*>(part);
    const int n_bytes = count << shift[p];
    int done = 0;
    if (shift[p] >= 4) {
      for (int i = int(g.lane) * 16; i < n_bytes; i += kSimd * 16) {
        Word4 w;
        for (int j = 0; j < 4; j++) w.v[j] = word(part, at + place(i, p) + 4 * j);
        change_plane(change[p], w);
        k_store4(to + i, w);
      }
      return;
    }
    if ((reinterpret_cast<uint64_t>(to) & 3) == 0) {
      done = n_bytes / 4 * 4;
      for (int i = int(g.lane) * 4; i < done; i += kSimd * 4) {
        uint32_t w = 0;
        for (int j = 0; j < 4; j++) w |= uint32_t(bytes[at + place(i + j, p)]) << 8 * j;
        *reinterpret_cast<k_device uint32_t*>(to + i) = w;
      }
    }
    for (int i = done + int(g.lane); i < n_bytes; i += kSimd) to[i] = bytes[at + place(i, p)];
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int64_t runs = (matrix_blocks + run - 1) / run;  // of a matrix
    const int64_t mine = first_run + int64_t(g.group) * kSimds + g.simd, matrix = mine / runs;
    const int64_t low = first - matrix * matrix_blocks, high = low + n;
    int64_t block = (mine - matrix * runs) * run, end = block + run;
    if (end > matrix_blocks) end = matrix_blocks;
    if (block < low) block = low;
    if (end > high) end = high;
    if (block >= end) return;
    const int count = int(end - block);
    k_shared uint32_t* part = sh->part + g.simd * kPartWords;
    const int skip = g.copy_row(reinterpret_cast<k_shared uint8_t*>(part),
                                src + (block - low) * block_bytes, count * block_bytes);
    g.copy_wait();
    g.simd_barrier();
    k_device uint8_t* to = dst + matrix * matrix_bytes;
    for (int p = 0; p < n_planes; p++) {
      write(g, part, skip, count, p, to + (block << shift[p]));
      to += matrix_blocks << shift[p];
    }
  }
};

}  // namespace kernels
}  // namespace narwhal
