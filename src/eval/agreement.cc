#include "eval/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "eval/examiner.h"

namespace narwhal::eval {
namespace {

// log of sum exp.
double log_total(std::span<const float> logits, float top) {
  double sum = 0;
  for (const float z : logits) sum += std::exp(static_cast<double>(z) - top);
  return top + std::log(sum);
}

// A document with questions, then short conversations of every kind, again and again.
class Conversations {
 public:
  Conversations(const Examiner& examiner, const AgreementOptions& options)
      : examiner_(examiner), options_(options) {}

  Result<std::vector<int32_t>> next() {
    const int i = n_++;
    Dice dice(options_.seed, fmt::format("agreement/{}", i));
    const bool thinking = i / 4 % 2 == 1;
    switch (i % 4) {
      case 0: {
        const auto text = [&](const std::string& s) { return examiner_.count_text(s); };
        const auto prompt = [&](const Case& c) { return examiner_.count_prompt(c); };
        const RecallRequest request{options_.n_document, thinking, {0}};
        return examiner_.conversation(recall_group(dice, request, text, prompt).cases.front());
      }
      case 1:
        return examiner_.conversation(tool_case(dice, "second call", thinking, i % 3));
      case 2:
        return examiner_.conversation(text_case(dice, "sort", thinking));
      default:
        return examiner_.conversation(chat_case(dice, "what was said", thinking));
    }
  }

 private:
  const Examiner& examiner_;
  AgreementOptions options_;
  int n_ = 0;
};

Result<std::vector<float>> all_logits(Engine& engine, std::span<const int32_t> ids) {
  NW_ASSIGN(const auto session, engine.new_session());
  std::vector<float> rows;
  NW_TRY(session->append(ids, {}, [&](int64_t, std::span<const float> row) {
    rows.insert(rows.end(), row.begin(), row.end());
  }));
  return rows;
}

}  // namespace

void add_position(std::span<const float> logits, std::span<const float> reference,
                  AgreementReport& report) {
  NW_CHECK(logits.size() == reference.size() && !logits.empty(), "{} logits, {} of the reference",
           logits.size(), reference.size());
  const auto a = std::max_element(logits.begin(), logits.end());
  const auto b = std::max_element(reference.begin(), reference.end());
  const double total_a = log_total(logits, *a), total_b = log_total(reference, *b);
  double kl = 0;
  for (size_t i = 0; i < logits.size(); i++) {
    const double log_p = reference[i] - total_b;
    kl += std::exp(log_p) * (log_p - (logits[i] - total_a));
  }
  report.n++;
  report.n_same += a - logits.begin() == b - reference.begin();
  report.kl_sum += kl;
  report.kl_most = std::max(report.kl_most, kl);
  if (std::isnan(kl)) report.kl_most = kl;  // stays: nothing is larger
}

Result<AgreementReport> measure_agreement(Engine& engine, Engine& reference,
                                          const AgreementOptions& options,
                                          const AgreementProgress& progress) {
  NW_ASSIGN(const Examiner examiner, Examiner::create(engine));
  Conversations conversations(examiner, options);
  AgreementReport report;
  const size_t n_vocab = static_cast<size_t>(engine.info().n_vocab);
  while (report.n < options.n) {
    NW_ASSIGN(std::vector<int32_t> ids, conversations.next());
    ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(options.n - report.n)));
    NW_ASSIGN(const std::vector<float> got, all_logits(engine, ids));
    NW_ASSIGN(const std::vector<float> want, all_logits(reference, ids));
    for (size_t i = 0; i < ids.size(); i++)
      add_position(std::span(got).subspan(i * n_vocab, n_vocab),
                   std::span(want).subspan(i * n_vocab, n_vocab), report);
    if (progress && !progress(report.n, options.n)) return cancelled();
  }
  return report;
}

std::string AgreementReport::to_text() const {
  return fmt::format(
      "{} positions: first choice the same at {:.2f}%, KL divergence {:.1e} on average, at most "
      "{:.1e}\n",
      n, 100 * top1(), kl_mean(), kl_most);
}

Json AgreementReport::to_json() const {
  Json j = Json::object();
  j.set("n", Json::of(n));
  j.set("top1", Json::of(top1()));
  j.set("kl_mean", Json::of(kl_mean()));
  j.set("kl_most", Json::of(kl_most));
  return j;
}

}  // namespace narwhal::eval
