#include "eval/skills.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "eval/examiner.h"
#include "eval/words.h"

namespace narwhal::eval {
namespace {

constexpr std::string_view kChatSubs[] = {"about itself", "general knowledge", "what was said"};
constexpr std::string_view kTextSubs[] = {"copy",  "reverse",  "sort",    "sort numbers",
                                          "count", "count to", "spell",   "upper case",
                                          "add",   "subtract", "multiply"};
constexpr std::string_view kToolSubs[] = {"one call", "two calls", "second call", "no call",
                                          "error"};
constexpr int kStoryTokens = 400;

struct RecallLevel {
  std::string_view name;
  int n_tokens, questions;  // questions of one document
};
constexpr RecallLevel kLevels[] = {{"recall_1k", 1024, 4},
                                   {"recall_4k", 4096, 4},
                                   {"recall_16k", 16384, 4},
                                   {"recall_32k", 32768, 4}};

// The prompt's length modulo 128 for the k-th case of a recall skill. Codes (k even) and other
// facts each meet every residue modulo 4 equally often; 128 cases meet every residue modulo 128.
int residue_of(int k) {
  const int pair = k / 2, other = k % 2;
  return 8 * (pair / 4 * 5 % 16) + 4 * other + pair % 4;
}

bool has_letters(std::string_view code) {
  return code.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string_view::npos;
}

class Evaluation {
 public:
  Evaluation(Engine& engine, const SkillsOptions& options, const SkillsProgress& progress)
      : options_(options), progress_(progress), n_ctx_(engine.plan().n_ctx) {}

  Status run(Examiner& examiner, SkillsReport& report) {
    for (const RecallLevel& level : kLevels)
      if (fits(level)) total_ += n_recall(level);
    const int n = n_cases();
    total_ += n * static_cast<int64_t>(std::size(kChatSubs) + 1 + std::size(kTextSubs) +
                                       2 * std::size(kToolSubs));
    NW_TRY(timed(report, "chat", [&](Skill& s) { return chat(examiner, s); }));
    for (const RecallLevel& level : kLevels) {
      if (!fits(level)) continue;
      NW_TRY(timed(report, level.name, [&](Skill& s) { return recall(examiner, level, s); }));
    }
    NW_TRY(timed(report, "text", [&](Skill& s) { return text(examiner, s); }));
    return timed(report, "tools", [&](Skill& s) { return tools(examiner, s); });
  }

 private:
  int n_cases() const { return options_.n > 0 ? options_.n : kCases; }
  int n_recall(const RecallLevel& level) const {
    return options_.n > 0 ? options_.n : level.n_tokens <= 4096 ? kShortRecall : kLongRecall;
  }
  bool fits(const RecallLevel& level) const { return level.n_tokens + 128 <= n_ctx_; }
  Dice dice(std::string_view skill, std::string_view sub) const {
    return Dice(options_.seed, fmt::format("{}/{}", skill, sub));
  }

  template <class Run>
  Status timed(SkillsReport& report, std::string_view name, const Run& run) {
    const auto start = std::chrono::steady_clock::now();
    Skill skill;
    skill.name = name;
    NW_TRY(run(skill));
    skill.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    report.skills.push_back(std::move(skill));
    return ok_status();
  }

  void count(const Verdict& v, SubSkill& sub) const {
    sub.n++;
    sub.n_right += v.right;
    if (!v.right && static_cast<int>(sub.misses.size()) < options_.misses)
      sub.misses.push_back(v.miss);
  }

  Status step(int64_t n) {
    done_ += n;
    return progress_ && !progress_(done_, total_) ? cancelled() : ok_status();
  }

  Status add(Examiner& examiner, const Group& group, SubSkill& sub) {
    NW_ASSIGN(const auto verdicts, examiner.examine(group));
    for (const Verdict& v : verdicts) count(v, sub);
    return step(static_cast<int64_t>(verdicts.size()));
  }

  // Thinking and non-thinking in turn.
  Status chat(Examiner& examiner, Skill& skill) {
    for (std::string_view name : kChatSubs) {
      SubSkill sub{std::string(name)};
      Dice d = dice("chat", name);
      for (int i = 0; i < n_cases(); i++)
        NW_TRY(add(examiner, {chat_case(d, name, i % 2 == 1)}, sub));
      skill.subs.push_back(std::move(sub));
    }
    SubSkill stories{"stories that end"};
    Dice d = dice("chat", "stories");
    std::vector<OpenQuestion> questions;
    for (int i = 0; i < n_cases(); i++) questions.push_back(open_question(d, i % 2 == 1));
    NW_ASSIGN(const auto verdicts, examiner.examine_open(questions, kStoryTokens));
    for (const Verdict& v : verdicts) count(v, stories);
    skill.subs.push_back(std::move(stories));
    return step(n_cases());
  }

  Status text(Examiner& examiner, Skill& skill) {
    for (std::string_view name : kTextSubs) {
      SubSkill sub{std::string(name)};
      Dice d = dice("text", name);
      for (int i = 0; i < n_cases(); i++)
        NW_TRY(add(examiner, {text_case(d, name, i % 2 == 1)}, sub));
      skill.subs.push_back(std::move(sub));
    }
    return ok_status();
  }

  Status tools(Examiner& examiner, Skill& skill) {
    for (const bool thinking : {false, true}) {
      for (std::string_view name : kToolSubs) {
        SubSkill sub{fmt::format("{}{}", name, thinking ? ", thinking" : "")};
        Dice d = dice("tools", sub.name);
        const int n_intros = static_cast<int>(kIntros.size());
        for (int intro = 0; intro < n_intros; intro++) {
          Group group;  // the tools text after one system text is read once
          for (int i = intro; i < n_cases(); i += n_intros)
            group.push_back(tool_case(d, name, thinking, intro));
          if (!group.empty()) NW_TRY(add(examiner, group, sub));
        }
        skill.subs.push_back(std::move(sub));
      }
    }
    return ok_status();
  }

  Status recall(Examiner& examiner, const RecallLevel& level, Skill& skill) {
    skill.subs = {{"codes"}, {"names and numbers"}};
    skill.views = {{"codes of digits"}, {"codes with letters"}};
    for (int i = 0; i < 4; i++) skill.views.push_back({fmt::format("length {} mod 4", i)});
    for (int i = 0; i < 128; i += 16)
      skill.views.push_back({fmt::format("length {}-{} mod 128", i, i + 15)});
    Dice d = dice("recall", level.name);
    const auto count_text = [&](const std::string& t) { return examiner.count_text(t); };
    const auto count_prompt = [&](const Case& c) { return examiner.count_prompt(c); };
    const int n = n_recall(level);
    for (int done = 0, document = 0; done < n; document++) {
      RecallRequest request{
          .n_tokens = level.n_tokens, .thinking = document % 2 == 1, .residues = {}};
      for (; static_cast<int>(request.residues.size()) < level.questions && done < n; done++)
        request.residues.push_back(residue_of(done));
      const RecallGroup group = recall_group(d, request, count_text, count_prompt);
      NW_ASSIGN(const auto verdicts, examiner.examine(group.cases));
      for (size_t i = 0; i < verdicts.size(); i++) {
        const auto n_prompt = static_cast<size_t>(verdicts[i].n_prompt);
        count(verdicts[i], skill.subs[group.is_code[i] ? 0 : 1]);
        count(verdicts[i], skill.views[2 + n_prompt % 4]);
        count(verdicts[i], skill.views[6 + n_prompt % 128 / 16]);
        if (group.is_code[i]) count(verdicts[i], skill.views[has_letters(group.values[i]) ? 1 : 0]);
      }
      NW_TRY(step(static_cast<int64_t>(verdicts.size())));
    }
    return ok_status();
  }

  const SkillsOptions& options_;
  const SkillsProgress& progress_;
  int64_t n_ctx_, done_ = 0, total_ = 0;
};

Json share_json(const SubSkill& s) {
  Json j = Json::object();
  j.set("share", Json::of(s.share()));
  j.set("n", Json::of(int64_t{s.n}));
  if (s.misses.empty()) return j;
  Json misses = Json::array();
  for (const std::string& m : s.misses) misses.push(Json::of(m));
  j.set("misses", std::move(misses));
  return j;
}

template <class Range>
Json shares_json(const Range& subs) {
  Json j = Json::object();
  for (const SubSkill& s : subs)
    if (s.n > 0) j.set(s.name, share_json(s));
  return j;
}

}  // namespace

int Skill::n() const {
  int n = 0;
  for (const SubSkill& s : subs) n += s.n;
  return n;
}

double Skill::score() const {
  double worst = 1;
  for (const SubSkill& s : subs)
    if (s.n > 0) worst = std::min(worst, s.share());
  return worst;
}

const Skill* SkillsReport::skill(std::string_view name) const {
  for (const Skill& s : skills)
    if (s.name == name) return &s;
  return nullptr;
}

Json SkillsReport::to_json() const {
  Json j = Json::object(), n = Json::object(), detail = Json::object();
  for (const Skill& s : skills) {
    j.set(s.name, Json::of(s.score()));
    n.set(s.name, Json::of(int64_t{s.n()}));
    Json one = Json::object();
    one.set("sub_skills", shares_json(s.subs));
    if (!s.views.empty()) one.set("views", shares_json(s.views));
    one.set("seconds", Json::of(s.seconds));
    detail.set(s.name, std::move(one));
  }
  j.set("n", std::move(n));
  j.set("skills", std::move(detail));
  return j;
}

std::string SkillsReport::to_text() const {
  std::string out;
  for (const Skill& s : skills) {
    out += fmt::format("{:<34} {:>6.1f}%  n {:>4}  {:.0f} s\n", s.name, s.score() * 100, s.n(),
                       s.seconds);
    for (const SubSkill& sub : s.subs) {
      out += fmt::format("  {:<32} {:>6.1f}%  n {:>4}\n", sub.name, sub.share() * 100, sub.n);
      for (const std::string& m : sub.misses) out += fmt::format("    {}\n", json_quote(m));
    }
    for (const SubSkill& view : s.views)
      if (view.n > 0)
        out +=
            fmt::format("    {:<30} {:>6.1f}%  n {:>4}\n", view.name, view.share() * 100, view.n);
  }
  return out;
}

Result<SkillsReport> evaluate_skills(Engine& engine, const SkillsOptions& options,
                                     const SkillsProgress& progress) {
  NW_ASSIGN(Examiner examiner, Examiner::create(engine));
  SkillsReport report;
  NW_TRY(Evaluation(engine, options, progress).run(examiner, report));
  return report;
}

}  // namespace narwhal::eval
