#include "residency/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <string>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

namespace narwhal {
namespace {

constexpr int64_t kMovedCtx = 32768;    // chosen when experts must leave the device anyhow
constexpr int64_t kSmallestCtx = 4096;  // chosen when not even this fits; the refusal then says so
constexpr int kSmallChunk = 64;         // what a refusal may advise

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

MemoryPlan plan_for(const Config& c, const KvLayout& layout, const PlanRequest& q, int64_t n_ctx,
                    uint64_t available) {
  MemoryPlan plan;
  plan.n_ctx = n_ctx;
  plan.n_sessions = q.n_sessions;
  plan.available_bytes = available;
  plan.weights_bytes = q.weights_bytes;
  plan.host_weights_bytes = q.host_weights_bytes;
  plan.kv_session_bytes = KvLayout::n_pages(n_ctx) * layout.page_bytes;
  plan.frontier_bytes = layout.frontier_bytes;
  plan.kept_bytes = frontier_budget(layout);
  const int n_last = std::min(q.n_logits, q.n_sessions);
  const uint64_t step = workspace_bytes(c, layout, {q.chunk, n_last, n_ctx});
  plan.workspace_bytes = q.backend_bytes + step;
  plan.scoring_bytes = workspace_bytes(c, layout, {q.chunk, q.n_logits, n_ctx}) - step;
  plan.total_bytes = plan.weights_bytes - plan.host_weights_bytes + plan.most_bytes();
  return plan;
}

// The longest context that fits, in steps of a page; 0 when none does.
int64_t largest_fitting_ctx(const Config& c, const KvLayout& layout, const PlanRequest& q,
                            uint64_t available) {
  int64_t low = 0, high = c.max_ctx / kPageTokens;
  while (low < high) {
    const int64_t mid = (low + high + 1) / 2;
    if (plan_for(c, layout, q, mid * kPageTokens, available).fits())
      low = mid;
    else
      high = mid - 1;
  }
  return low * kPageTokens;
}

// What to do where the plan does not fit: the least change that helps.
std::string remedy(const Config& c, const KvLayout& layout, PlanRequest q, uint64_t available) {
  if (const int64_t ctx = largest_fitting_ctx(c, layout, q, available); ctx > 0)
    return fmt::format("a context of {} fits: use --ctx {}", ctx, ctx);
  const int64_t ctx = std::min(kSmallestCtx, c.max_ctx);
  const auto fits = [&] { return plan_for(c, layout, q, ctx, available).fits(); };
  const int n_sessions = q.n_sessions;
  q.n_sessions = 1;
  if (n_sessions > 1 && fits()) {
    while (q.n_sessions < n_sessions && fits()) q.n_sessions++;
    return fmt::format("{} of {} tokens fit: use --sessions {} --ctx {}", q.n_sessions - 1, ctx,
                       q.n_sessions - 1, ctx);
  }
  q.chunk = std::min(q.chunk, kSmallChunk);
  q.n_logits = std::min(q.n_logits, q.chunk);
  if (fits()) return fmt::format("shorter chunks fit: use --chunk {} --ctx {}", q.chunk, ctx);
  return fmt::format("the weights alone need {:.2f} GiB; use a smaller model or a larger machine",
                     gib(q.weights_bytes - q.host_weights_bytes));
}

}  // namespace

uint64_t workspace_bytes(const Config& c, const KvLayout& layout, const StepShape& shape) {
  Activations a;
  return place_activations(c, layout, shape, nullptr, a);
}

uint64_t available_memory() {
  uint64_t available = 0;
#ifdef __linux__
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key, unit; meminfo >> key;) {
    uint64_t kib = 0;
    if (key == "MemAvailable:" && meminfo >> kib) available = kib << 10;
    std::getline(meminfo, unit);
  }
  // A control group counts the page cache as used, though it is dropped on demand.
  uint64_t limit = 0, used = 0, cache = 0;
  std::ifstream stat("/sys/fs/cgroup/memory.stat");
  uint64_t n_bytes = 0;
  for (std::string key; stat >> key >> n_bytes;)
    if (key == "active_file" || key == "inactive_file") cache += n_bytes;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit &&
      std::ifstream("/sys/fs/cgroup/memory.current") >> used) {
    used -= std::min(used, cache);
    available = std::min(available, limit > used ? limit - used : 0);
  }
#elif defined(__APPLE__)
  size_t size = sizeof available;
  if (sysctlbyname("hw.memsize", &available, &size, nullptr, 0) != 0) available = 0;
#endif
  return available;
}

PlanRequest move_experts_to_host(const Config& c, const KvLayout& layout, const PlanRequest& q,
                                 uint64_t available, uint64_t expert_bytes) {
  PlanRequest moved = q;
  if (q.n_ctx == 0) {
    if (largest_fitting_ctx(c, layout, q, available) >= std::min(kSmallestCtx, c.max_ctx)) return q;
    moved.n_ctx = std::min(kMovedCtx, c.max_ctx);
  }
  const MemoryPlan plan = plan_for(c, layout, moved, moved.n_ctx, available);
  if (plan.fits() || plan.total_bytes - available > expert_bytes) return q;
  moved.host_weights_bytes = plan.total_bytes - available;
  return moved;
}

MemoryPlan make_plan(const Config& c, const KvLayout& layout, const PlanRequest& q,
                     uint64_t available) {
  int64_t n_ctx = q.n_ctx;
  if (n_ctx == 0)
    n_ctx =
        std::max(largest_fitting_ctx(c, layout, q, available), std::min(kSmallestCtx, c.max_ctx));
  return plan_for(c, layout, q, n_ctx, available);
}

Status check_plan(const Config& c, const KvLayout& layout, const PlanRequest& q,
                  const MemoryPlan& plan) {
  if (plan.n_ctx > c.max_ctx)
    return usage(fmt::format("--ctx {} is more than the model's {}", plan.n_ctx, c.max_ctx));
  if (plan.available_bytes == 0 || plan.fits()) return ok_status();
  return no_memory(
      fmt::format("needs {:.2f} GiB ({:.2f} weights, {:.2f} for {} session(s) of {} tokens, {:.2f} "
                  "workspace), {:.2f} GiB are available; {}",
                  gib(plan.total_bytes), gib(plan.weights_bytes),
                  gib(plan.most_bytes() - plan.workspace_bytes - plan.scoring_bytes),
                  plan.n_sessions, plan.n_ctx, gib(plan.workspace_bytes + plan.scoring_bytes),
                  gib(plan.available_bytes), remedy(c, layout, q, plan.available_bytes)));
}

}  // namespace narwhal
