#include "serve/metrics.h"

#include <fmt/format.h>
#include <time.h>

#include <string_view>

namespace narwhal::serve {

namespace {

int64_t cpu_us(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return int64_t{1'000'000} * t.tv_sec + t.tv_nsec / 1000;
}

}  // namespace

int64_t thread_cpu_us() { return cpu_us(CLOCK_THREAD_CPUTIME_ID); }

void Metrics::observe_first_token(double seconds) {
  size_t i = 0;
  while (i < kBounds.size() && seconds > kBounds[i]) i++;
  first_token_counts[i]++;
  first_token_us += static_cast<int64_t>(seconds * 1e6);
}

namespace {

void add_metric(std::string& out, std::string_view name, std::string_view type,
                std::string_view help, double value) {
  out += fmt::format("# HELP narwhal_{0} {2}\n# TYPE narwhal_{0} {1}\nnarwhal_{0} {3:.15g}\n", name,
                     type, help, value);
}

void add_store(std::string& out, const KvStats& s) {
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help,
                       uint64_t value) {
    add_metric(out, name, type, help, static_cast<double>(value));
  };
  add("kv_disk_bytes", "gauge", "Size of the disk cache.", s.bytes);
  add("kv_disk_budget_bytes", "gauge", "What it may hold.", s.budget_bytes);
  add("kv_disk_hits_total", "counter", "Prompts that went on from the disk cache.", s.hits);
  add("kv_disk_misses_total", "counter", "Prompts of which it had nothing.", s.misses);
  add("kv_disk_tokens_reused_total", "counter", "Tokens restored from it.", s.tokens_reused);
  add("kv_disk_written_bytes_total", "counter", "Written to it by this process.", s.bytes_written);
  add("kv_disk_evicted_files_total", "counter", "Files removed for room.", s.files_evicted);
  add("kv_disk_damaged_files_total", "counter", "Files found damaged and removed.",
      s.files_damaged);
  add("kv_disk_dropped_total", "counter", "Writes left out: queue or disk full, or a fault.",
      s.dropped_queue_full + s.dropped_no_space + s.dropped_failed);
}

}  // namespace

std::string Metrics::text(const KvStats* store) const {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help,
                       double value) { add_metric(out, name, type, help, value); };
  const auto n = [](const std::atomic<int64_t>& v) { return static_cast<double>(v.load()); };
  add("requests_total", "counter", "Turns that were accepted.", n(requests));
  add("requests_completed_total", "counter", "Turns that ended by themselves.", n(completed));
  add("requests_cancelled_total", "counter", "Turns whose client went away.", n(cancelled));
  add("requests_failed_total", "counter", "Turns that ended with a fault of the server.",
      n(failed));
  add("requests_refused_total", "counter", "Turns refused because the queue was full.", n(refused));
  add("requests_processing", "gauge", "Turns that are being computed.", n(running));
  add("requests_deferred", "gauge", "Turns that wait for a session.", n(queued));
  add("connections", "gauge", "Open connections.", n(connections));
  add("prompt_tokens_total", "counter", "Prompt tokens, computed and reused.", n(prompt_tokens));
  add("prompt_cached_tokens_total", "counter", "Prompt tokens whose state was reused.",
      n(cached_tokens));
  add("prompt_seconds_total", "counter", "Time from a turn's start to its first token.",
      n(prefill_us) / 1e6);
  add("tokens_predicted_total", "counter", "Tokens written, reasoning included.",
      n(generated_tokens));
  add("tokens_predicted_seconds_total", "counter", "Time from first to last tokens.",
      n(decode_us) / 1e6);
  add("busy_seconds_total", "counter", "Time in steps of the model.", n(busy_us) / 1e6);
  add("steps_total", "counter", "Steps of the model.", n(steps));
  add("repaired_calls_total", "counter", "Turns with tool calls that had to be repaired.",
      n(repaired_calls));
  add("rewritten_blocks_total", "counter", "Malformed blocks of calls that were written again.",
      n(rewritten_blocks));
  add("resumed_total", "counter", "Answers that a repeated request took up again.", n(resumed));
  add("scheduler_seconds_total", "counter",
      "CPU time of the scheduler outside of steps: choosing tokens, reading calls, telling of "
      "them.",
      n(scheduler_us) / 1e6);
  add("process_seconds_total", "counter", "CPU time of all threads, those of the engine too.",
      static_cast<double>(cpu_us(CLOCK_PROCESS_CPUTIME_ID)) / 1e6);
  add("io_seconds_total", "counter", "CPU time of the thread of the sockets.", n(io_us) / 1e6);
  out +=
      "# HELP narwhal_first_token_seconds Time from arrival to the first token.\n"
      "# TYPE narwhal_first_token_seconds histogram\n";
  int64_t sum = 0;
  for (size_t i = 0; i < first_token_counts.size(); i++) {
    sum += first_token_counts[i];
    out += fmt::format("narwhal_first_token_seconds_bucket{{le=\"{}\"}} {}\n",
                       i < kBounds.size() ? fmt::format("{:g}", kBounds[i]) : "+Inf", sum);
  }
  out +=
      fmt::format("narwhal_first_token_seconds_sum {:.6f}\nnarwhal_first_token_seconds_count {}\n",
                  n(first_token_us) / 1e6, sum);
  if (store) add_store(out, *store);
  return out;
}

}  // namespace narwhal::serve
