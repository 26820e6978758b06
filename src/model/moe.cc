// Mixture of experts (model section 10): a few routed experts chosen by score or by token id, and
// one shared expert for every token.
#include "model/forward_step.h"

namespace narwhal {

void Forward::moe(const Step& t) {
  const Activations& a = t.a;
  const LayerWeights& w = t.w;
  const int n = t.n(), k = c_.n_experts_used;
  const float limit = c_.swiglu_limit[t.layer];

  ops_.matmul(w.router, n, a.x, a.router);
  const float* bias = w.router_bias ? f32(w.router_bias) : nullptr;
  const auto* tid2eid = reinterpret_cast<const int32_t*>(w.tid2eid.data);
  ops_.route(t.rows, a.router, c_.n_experts, bias, tid2eid, k, c_.expert_scale, a.expert_ids,
             a.expert_weights);
  ops_.experts({w.gate_exps, w.up_exps, w.down_exps, limit},
               {w.gate_shexp, w.up_shexp, w.down_shexp, limit}, n, k, a.x, a.expert_ids,
               a.expert_weights, {a.expert_hidden, a.shared_gate, a.shared_up, a.shared_out},
               a.out);
}

}  // namespace narwhal
