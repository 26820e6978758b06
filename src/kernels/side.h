// Two kernels in one launch, neither of which needs the other: the first n_a groups are A's.
#pragma once

#include "kernels/portable.h"

namespace narwhal {
namespace kernels {

template <class A, class B>
struct Side {
  static_assert(A::kThreads == B::kThreads, "groups of one size");
  k_value int kThreads = A::kThreads, kResident = 2;
  k_value bool kBeginsEarly = A::kBeginsEarly;
  union Shared {
    typename A::Shared a;
    typename B::Shared b;
  };
  A a;
  B b;
  int n_a;

  k_call void operator()(k_private const Group& g, k_shared Shared* sh) k_const {
    Group of = g;
    if (int(g.group) < n_a) return a(of, &sh->a);
    of.group -= unsigned(n_a);
    g.await_results();
    b(of, &sh->b);
  }
};

}  // namespace kernels
}  // namespace narwhal
