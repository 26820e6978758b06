// The most likely tokens (Ops::best_logits). Slices of a row give their best, then one group finds
// the best of these. A row of few values needs no slices.
#pragma once

#include "kernels/indexer.h"

namespace narwhal {
namespace kernels {

k_value int kBestLogits = 512;  // Candidates::kMost
k_value int kBestSlices = 64, kBestOfSlice = 64;
k_value int kKeysEach = 8;  // keys of a thread at a time

// A key is a token's logit as ordered bits and its id: more bits come first, the lower id among
// equals.
struct Keys {
  uint32_t bits[kKeysEach];  // 0: none
  uint32_t id[kKeysEach];
  uint32_t nan;  // ~id of the first logit that is not a number, of all that were loaded; 0: none
};

struct KeySource {
  k_device const float* logits;
  k_device const uint32_t* pool;  // null, or bits and id of every key
  int n;                          // logits of the row, or keys of the pool
  int n_slices, slice;            // of the row: a simd's load is 32 neighbours of one slice
};

k_fn int keys_of(k_private const KeySource& s) {
  if (s.pool) return s.n;
  const int blocks = (s.n + kSimd - 1) / kSimd;
  return (blocks + s.n_slices - 1) / s.n_slices * kSimd;
}

template <int kThreads>
k_fn void load_keys(k_private const Group& g, k_private const KeySource& s, int first,
                    k_private Keys& k) {
  k_unroll for (int j = 0; j < kKeysEach; j++) {
    const int i = first + j * kThreads + int(g.index);
    k.bits[j] = 0;
    k.id[j] = 0;
    if (s.pool) {
      if (i >= s.n) continue;
      k.bits[j] = s.pool[2 * i];
      k.id[j] = s.pool[2 * i + 1];
      continue;
    }
    const int id = (i / kSimd * s.n_slices + s.slice) * kSimd + i % kSimd;
    if (id >= s.n) continue;
    const float logit = s.logits[id];
    k.bits[j] = ordered_bits(logit);
    k.id[j] = uint32_t(id);
    if ((k_bits(logit) & 0x7fffffffu) > 0x7f800000u) k.nan = max_uint(k.nan, ~uint32_t(id));
  }
}

struct SelectShared {
  k_atomic count[256];
  k_atomic n_taken;
  uint32_t prefix, wanted;
  uint32_t part[32];  // of a simd
};

// The largest of the group's values, the same for every thread.
k_fn uint32_t group_max(k_private const Group& g, k_shared uint32_t* part, uint32_t x) {
  x = g.simd_max(x);
  g.barrier();
  if (g.lane == 0) part[g.simd] = x;
  g.barrier();
  for (unsigned i = 0; i < g.n_simds(); i++) x = max_uint(x, part[i]);
  return x;
}

// A key is among the best where its bits are more than `bits`, or the same and ~id at least
// `last`.
struct Least {
  uint32_t bits, last;
};

k_fn bool is_best(k_private const Keys& k, int j, k_private const Least& least) {
  return k.bits[j] > least.bits || (k.bits[j] == least.bits && ~k.id[j] >= least.last);
}

// The first byte of all keys where it is the same, which spares counting it: many increments of one
// counter take their time. Else, and where `keys` are not all of them, none, -1.
template <int kThreads>
k_fn int common_byte(k_private const Group& g, k_shared SelectShared* sh, int n,
                     k_private const Keys& keys) {
  if (n > kKeysEach * kThreads) return -1;
  uint32_t most = 0, least = 0;  // least: ~ of the smallest
  k_unroll for (int j = 0; j < kKeysEach; j++) {
    if (keys.bits[j] == 0u) continue;
    most = max_uint(most, keys.bits[j]);
    least = max_uint(least, ~keys.bits[j]);
  }
  most = group_max(g, sh->part, most) >> 24;
  least = ~group_max(g, sh->part, least) >> 24;
  return most == least ? int(most) : -1;
}

// The k-th key of at least k, byte by byte: its bits, then, where not all of its equals are wanted,
// its id. `keys` holds the first of them, and still does afterwards where these are all.
template <int kThreads>
k_fn Least find_least(k_private const Group& g, k_shared SelectShared* sh,
                      k_private const KeySource& source, int k, k_private Keys& keys) {
  const int n = keys_of(source), block = kKeysEach * kThreads;
  const int common = common_byte<kThreads>(g, sh, n, keys);
  uint32_t limit = 0;
  if (g.index == 0) {
    sh->prefix = common < 0 ? 0u : uint32_t(common);
    sh->wanted = uint32_t(k);
  }
  for (int step = common < 0 ? 0 : 1; step < 8; step++) {
    const bool by_id = step >= 4;
    const int shift = 24 - step % 4 * 8;
    if (step == 4) {
      limit = sh->prefix;
      if (k_atomic_get(&sh->count[limit & 255u]) == sh->wanted) return {limit, 0};
      g.barrier();
      if (g.index == 0) sh->prefix = 0;
    }
    for (int i = int(g.index); i < 256; i += kThreads) k_atomic_zero(&sh->count[i]);
    g.barrier();
    const uint32_t prefix = sh->prefix;
    for (int first = 0; first < n; first += block) {
      if (n > block) load_keys<kThreads>(g, source, first, keys);
      k_unroll for (int j = 0; j < kKeysEach; j++) {
        if (keys.bits[j] == 0u || (by_id && keys.bits[j] != limit)) continue;
        const uint32_t word = by_id ? ~keys.id[j] : keys.bits[j];
        if (shift == 24 || word >> (shift + 8) == prefix)
          k_atomic_add(&sh->count[word >> shift & 255u], 1u);
      }
    }
    g.barrier();
    if (g.simd == 0) add_digit(g, sh->count, &sh->prefix, &sh->wanted);
    g.barrier();
  }
  return {limit, sh->prefix};
}

// The best of a slice in any order. One group per slice.
struct BestOfSlice {
  k_value int kThreads = 256;
  typedef SelectShared Shared;
  int n_vocab;
  k_device const float* logits;  // [n][n_vocab]
  k_device uint32_t* pool;       // [n][kBestSlices][kBestOfSlice][2] bits and id
  k_device uint32_t* nans;       // [n][kBestSlices]

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    KeySource source;
    source.logits = logits + int64_t(g.group / kBestSlices) * n_vocab;
    source.pool = nullptr;
    source.n = n_vocab;
    source.n_slices = kBestSlices;
    source.slice = int(g.group % kBestSlices);
    Keys keys;
    keys.nan = 0;
    load_keys<kThreads>(g, source, 0, keys);
    if (g.index == 0) k_atomic_zero(&sh->n_taken);
    const Least least = find_least<kThreads>(g, sh, source, kBestOfSlice, keys);
    const int n = keys_of(source), block = kKeysEach * kThreads;
    k_device uint32_t* out = pool + int64_t(g.group) * kBestOfSlice * 2;
    for (int first = 0; first < n; first += block) {
      if (n > block) load_keys<kThreads>(g, source, first, keys);
      k_unroll for (int j = 0; j < kKeysEach; j++) {
        if (!is_best(keys, j, least)) continue;
        const uint32_t at = k_atomic_add(&sh->n_taken, 1u);
        out[2 * at] = keys.bits[j];
        out[2 * at + 1] = keys.id[j];
      }
    }
    const uint32_t nan = group_max(g, sh->part, keys.nan);
    if (g.index == 0) nans[g.group] = nan;
  }
};

// The best of a row in order, of what slices gave or, without, of all. Where a slice gave nothing
// but such as are among the best, it may have kept more of them: then the row is gone through. One
// group per row.
struct BestLogits {
  k_value int kThreads = kBestLogits, kResident = 1;
  k_value int kWords = 2 + 2 * kBestLogits;  // of Candidates
  struct Shared {
    SelectShared select;
    k_atomic of_slice[kBestSlices];
    uint32_t bits[kBestLogits], id[kBestLogits];
  };
  int n_vocab;
  k_device const float* logits;   // [n][n_vocab]
  k_device const uint32_t* pool;  // null: no slices
  k_device const uint32_t* nans;
  k_device int32_t* out;  // [n][kWords] n, first_nan, ids, logits

  k_call void take(k_private const Group& g, k_shared Shared* sh, k_private const KeySource& source,
                   k_private const Least& least, k_private Keys& keys) k_const {
    const int n = keys_of(source), block = kKeysEach * kThreads;
    for (int first = 0; first < n; first += block) {
      if (n > block) load_keys<kThreads>(g, source, first, keys);
      k_unroll for (int j = 0; j < kKeysEach; j++) {
        if (!is_best(keys, j, least)) continue;
        const uint32_t at = k_atomic_add(&sh->select.n_taken, 1u);
        sh->bits[at] = keys.bits[j];
        sh->id[at] = keys.id[j];
        const int slice = (first + j * kThreads + int(g.index)) / kBestOfSlice;
        if (source.pool) k_atomic_add(&sh->of_slice[slice], 1u);
      }
    }
  }

  // Whether a slice gave all that it could.
  k_call bool cut_short(k_shared Shared* sh) k_const {
    bool cut = false;
    for (int i = 0; i < kBestSlices; i++)
      cut = cut || k_atomic_get(&sh->of_slice[i]) >= uint32_t(kBestOfSlice);
    return cut;
  }

  // Bitonic; thread i has place i. Neighbours of less than a simd's width need no others.
  k_call void sort(k_private const Group& g, k_shared Shared* sh) k_const {
    const int i = int(g.index);
    for (int size = 2; size <= kBestLogits; size *= 2) {
      for (int stride = size / 2; stride > 0; stride /= 2) {
        if (stride >= kSimd || (stride == kSimd / 2 && size > kSimd))
          g.barrier();
        else
          g.simd_barrier();
        const int other = i ^ stride;
        if (other < i) continue;
        const uint32_t bits = sh->bits[i], id = sh->id[i], bits2 = sh->bits[other],
                       id2 = sh->id[other];
        const bool before = bits != bits2 ? bits > bits2 : id < id2;
        if (before == ((i & size) == 0)) continue;
        sh->bits[i] = bits2;
        sh->id[i] = id2;
        sh->bits[other] = bits;
        sh->id[other] = id;
      }
    }
    g.barrier();
  }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    const int r = int(g.group), i = int(g.index), k = min_int(n_vocab, kBestLogits);
    KeySource source;
    source.logits = logits + int64_t(r) * n_vocab;
    source.pool = pool ? pool + int64_t(r) * kBestSlices * kBestOfSlice * 2 : pool;
    source.n = pool ? kBestSlices * kBestOfSlice : n_vocab;
    source.n_slices = 1;
    source.slice = 0;
    Keys keys;
    keys.nan = pool && i < kBestSlices ? nans[r * kBestSlices + i] : 0u;
    for (;;) {
      load_keys<kThreads>(g, source, 0, keys);
      sh->bits[i] = 0;
      sh->id[i] = ~0u;
      if (i == 0) k_atomic_zero(&sh->select.n_taken);
      if (i < kBestSlices) k_atomic_zero(&sh->of_slice[i]);
      const Least least = find_least<kThreads>(g, &sh->select, source, k, keys);
      take(g, sh, source, least, keys);
      g.barrier();
      if (!source.pool || !cut_short(sh)) break;
      g.barrier();
      source.pool = nullptr;
      source.n = n_vocab;
    }
    sort(g, sh);
    const uint32_t nan = group_max(g, sh->select.part, keys.nan);
    k_device int32_t* to = out + int64_t(r) * kWords;
    if (i == 0) {
      to[0] = k;
      to[1] = nan == 0u ? -1 : int(~nan);
    }
    // What is no number counts as -inf, and so does what is not there.
    const uint32_t none = 0xff800000u, never = ~none;  // and its ordered bits
    to[2 + i] = i < k ? int(sh->id[i]) : -1;
    to[2 + kBestLogits + i] = int(sh->bits[i] <= never ? none : k_bits(source.logits[sh->id[i]]));
  }
};

}  // namespace kernels
}  // namespace narwhal
