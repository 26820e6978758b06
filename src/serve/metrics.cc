#include "serve/metrics.h"

#include <fmt/format.h>

#include <string_view>

namespace narwhal::serve {

void Metrics::observe_first_token(double seconds) {
  size_t i = 0;
  while (i < kBounds.size() && seconds > kBounds[i]) i++;
  first_token_counts[i]++;
  first_token_us += static_cast<int64_t>(seconds * 1e6);
}

std::string Metrics::text() const {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help,
                       double value) {
    out += fmt::format("# HELP narwhal_{0} {2}\n# TYPE narwhal_{0} {1}\nnarwhal_{0} {3:.15g}\n",
                       name, type, help, value);
  };
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
  return out;
}

}  // namespace narwhal::serve
