// What a layer's attention takes besides its selection, all in one launch: compressed rows, this
// step's KV rows, index queries and queries. None of them needs another, each alone would be a few
// groups.
#pragma once

#include "kernels/kv_rows.h"

namespace narwhal {
namespace kernels {

// Groups in the order of the fields; a part that a layer lacks has none.
struct AttentionInputs {
  k_value int kThreads = 256;
  union Shared {
    Compress::Shared compress;
    MakeKvRows::Shared kv;
    NoShared none;
  };
  Compress rows, index_rows;
  MakeKvRows kv;
  IndexQuery index_query;
  HeadNormRope query;
  int n_rows, n_index_rows, n_kv, n_index_query, n_query;

  k_call int n_groups() k_const { return n_rows + n_index_rows + n_kv + n_index_query + n_query; }

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    Group of = g;
    if (int(of.group) < n_rows) return rows(of, &sh->compress);
    of.group -= unsigned(n_rows);
    if (int(of.group) < n_index_rows) return index_rows(of, &sh->compress);
    of.group -= unsigned(n_index_rows);
    if (int(of.group) < n_kv) return kv(of, &sh->kv);
    of.group -= unsigned(n_kv);
    if (int(of.group) < n_index_query) return index_query(of, &sh->none);
    of.group -= unsigned(n_index_query);
    query(of, &sh->none);
  }
};

}  // namespace kernels
}  // namespace narwhal
