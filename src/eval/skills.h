// `narwhal eval skills`: what Minnow has learned, measured on held-out cases.
//
//   NW_ASSIGN(SkillsReport r, evaluate_skills(*engine, {.seed = 7}, {}));
//   r.skill("recall_4k")->score();       // the worst of its sub-skills
//
// Skills: chat, recall_1k, recall_4k, recall_16k, recall_32k, text, tools. The recall skills that
// do not fit the engine's context are left out. The prompts of a recall skill take as many
// different lengths modulo 128 as there are cases, all residues modulo 4 equally often.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "narwhal/engine.h"

namespace narwhal::eval {

struct SkillsOptions {
  uint64_t seed = 1;
  int n = 0;       // cases of each sub-skill, of each recall skill; 0 = the defaults below
  int misses = 0;  // wrong replies of each sub-skill to keep for the report
};

constexpr int kCases = 100;        // chat, text, tools: of each sub-skill
constexpr int kShortRecall = 128;  // up to 4k tokens
constexpr int kLongRecall = 24;    // 16k and 32k

// Tokens of context that every recall skill fits in.
constexpr int64_t kSkillsContext = 32768 + 256;

struct SubSkill {
  std::string name;
  int n = 0, n_right = 0;
  std::vector<std::string> misses = {};
  double share() const { return n > 0 ? static_cast<double>(n_right) / n : 0; }
};

struct Skill {
  std::string name;
  std::vector<SubSkill> subs;
  // Recall, the same cases seen otherwise: codes with and without letters, prompt length modulo 4,
  // and modulo 128 in eight equal ranges. No part of the score.
  std::vector<SubSkill> views = {};
  double seconds = 0;

  int n() const;
  double score() const;  // the worst sub-skill
};

struct SkillsReport {
  std::vector<Skill> skills;

  const Skill* skill(std::string_view name) const;
  Json to_json() const;         // {"chat": 1.0, ..., "n": {...}, "skills": {...}}
  std::string to_text() const;  // a table
};

// Cases done and to do; false stops with kCancelled.
using SkillsProgress = std::function<bool(int64_t done, int64_t total)>;

// The engine must hold Examiner::kSessions sessions. kBadInput when it has no tokenizer.
Result<SkillsReport> evaluate_skills(Engine& engine, const SkillsOptions& options,
                                     const SkillsProgress& progress);

}  // namespace narwhal::eval
